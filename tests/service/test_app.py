"""The HTTP face: what it answers, what it refuses and how, and who may ask."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from serving import ALL_KEYS, client_of, make_service, recommender
from starlette.testclient import TestClient

from redraft.records import Interactions
from redraft.service.guard import SAFE_HEADERS
from redraft.service.keys import Keys
from redraft.service.service import Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = make_service(tmp_path_factory.mktemp("state"), deadline=10.0)
    yield service
    service.close()


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return client_of(service)


def post(client: TestClient, path: str = "/v1/recommend", headers: dict[str, str] | None = None, **body):
    return client.post(path, json=body, headers=headers)


def ids(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def test_a_list_by_history_is_the_recommenders_bit_for_bit(client: TestClient, service: Service) -> None:
    found = recommender().recommend(Interactions.from_lists([[3, 4]]), 7)
    answer = post(client, history=["item-3", "item-4"], k=7).json()
    assert [item["id"] for item in answer["items"]] == [f"item-{n}" for n in found.items[0]]
    assert np.array([item["score"] for item in answer["items"]], np.float32).tobytes() == found.scores[0].tobytes()
    assert answer["model"] == service.served.fingerprint
    first = answer["items"][0]
    assert first["title"] == service.served.catalogue.titles[int(found.items[0, 0])]


def test_a_user_of_the_data_set_is_known(client: TestClient, service: Service) -> None:
    history = service.memory._people.find("user-9").before
    assert len(history) == 12
    assert ids(post(client, user_id="user-9")) == ids(post(client, history=history))


def test_requests_together_are_answered_in_order_and_as_alone(client: TestClient) -> None:
    asked = [{"user_id": f"user-{n}", "k": k} for n, k in zip(range(12), [3, 5] * 6)]
    together = client.post("/v1/recommend/batch", json={"requests": asked}).json()["answers"]
    alone = [post(client, **one).json() for one in asked]
    for one, other in zip(together, alone):
        assert [i["id"] for i in one["items"]] == [i["id"] for i in other["items"]]
        assert [i["score"] for i in one["items"]] == pytest.approx([i["score"] for i in other["items"]], abs=1e-5)
    assert len({one["request_id"] for one in together}) == 12


def test_what_may_be_recommended_is_obeyed_inside_the_search(client: TestClient, service: Service) -> None:
    every = ids(post(client, history=["item-3"], k=30, filter_seen=False))
    assert sorted(every) == sorted(service.served.ids)
    assert "item-3" not in ids(post(client, history=["item-3"], k=30))
    assert ids(post(client, history=["item-3"], k=5, exclude=every[:3], filter_seen=False)) == every[3:8]
    few = ["item-1", "item-2", "item-9"]
    assert sorted(ids(post(client, history=["item-3"], k=5, allow=few))) == few
    chosen = ids(post(client, history=["item-3"], k=30, filters={"attribute0": ["b"]}))
    assert chosen
    assert all(service.served.attributes(service.served.numbers[item]) == {"attribute0": "b"} for item in chosen)


def test_an_explanation_comes_along_or_afterwards(client: TestClient) -> None:
    answer = post(client, history=["item-3"], k=3, explain=True).json()
    again = client.get(f"/v1/explain/{answer['request_id']}").json()
    assert answer["explanation"] == again
    later = post(client, history=["item-3"], k=3).json()
    assert client.get(f"/v1/explain/{later['request_id']}").json() == again
    assert again["kind"] == "written"
    assert [item["id"] for item in again["items"]] == [item["id"] for item in answer["items"]]
    assert sum(np.log([step["probability"] for step in again["items"][0]["steps"]])) == pytest.approx(
        answer["items"][0]["score"], abs=1e-4
    )


UNUSABLE = [
    ({}, "invalid_request", "user_id or history"),
    ({"user_id": "user-1", "history": ["item-1"]}, "invalid_request", "user_id or history"),
    ({"history": ["item-1"], "k": 0}, "invalid_request", "body.k"),
    ({"history": ["item-1"], "k": 31}, "k_too_large", "30 items"),
    ({"history": ["item-1"], "budget": 3}, "invalid_request", "body.budget"),
    ({"history": ["item-99"]}, "unknown_item", "'item-99'"),
    ({"history": ["item\x00"]}, "invalid_request", "body.history.0"),
    ({"history": ["item-1"], "exclude": ["nothing"]}, "unknown_item", "exclude"),
    ({"history": ["item-1"], "allow": []}, "nothing_allowed", "widen"),
    ({"history": ["item-1"], "filters": {"colour": ["red"]}}, "unknown_filter", "attribute0"),
    ({"history": ["item-1"], "filters": {"attribute0": ["z"]}}, "unknown_filter", "'z'"),
    ({"history": ["item-1"], "filters": {"attribute0": {"min": 3}}}, "not_numeric", "attribute0"),
]


@pytest.mark.parametrize(("body", "code", "words"), UNUSABLE)
def test_what_cannot_be_used_is_said(client: TestClient, body: dict, code: str, words: str) -> None:
    answer = post(client, **body)
    assert answer.status_code == 422
    assert set(answer.json()) == {"code", "message", "retryable"}
    assert (answer.json()["code"], answer.json()["retryable"]) == (code, False)
    assert words in answer.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/explain/nothing", 404, "unknown_request"),
        ("GET", "/nowhere", 404, "no_such_address"),
        ("GET", "/../../etc/passwd", 404, "no_such_address"),
        ("DELETE", "/v1/recommend", 405, "no_such_method"),
    ],
)
def test_every_error_has_one_shape(client: TestClient, method: str, path: str, status: int, code: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_an_unknown_user_is_not_found(client: TestClient) -> None:
    answer = post(client, user_id="nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_user")


def test_large_bodies_are_refused_announced_or_not(client: TestClient) -> None:
    assert client.post("/v1/recommend", content=b"x" * (1 << 20 | 1)).json()["code"] == "too_large"

    def parts() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * (1 << 15)

    assert client.post("/v1/recommend", content=parts()).status_code == 413
    too_many = {"requests": [{"history": []}] * 65}
    assert client.post("/v1/recommend/batch", json=too_many).status_code == 422


@pytest.mark.parametrize("given", ["0", "600001", "0000600000000", "9" * 40, "1e3", "-5", ""])
def test_a_deadline_that_cannot_be_is_refused(client: TestClient, given: str) -> None:
    answer = post(client, history=[], headers={"X-Deadline-Ms": given})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_deadline_of_the_caller_is_kept(tmp_path: Path) -> None:
    service = make_service(tmp_path)
    holds = threading.Event()
    work = service.engine._work
    service.engine._work = lambda key, wanted: holds.wait() and work(key, wanted)
    answer = post(client_of(service), history=[], headers={"X-Deadline-Ms": "30"})
    holds.set()
    service.close()
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (504, "deadline_passed", True)


def test_health_tells_what_is_wrong(tmp_path: Path) -> None:
    service = make_service(tmp_path)
    client = client_of(service)
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    service.leaving = True
    assert client.get("/readyz").json()["code"] == "draining"
    assert post(client, history=[]).status_code == 200
    service.draining = True
    assert post(client, history=[]).json()["code"] == "draining"
    service.draining = service.leaving = False
    service.close()
    assert client.get("/readyz").json()["code"] == "engine_dead"
    assert client.get("/livez").status_code == 503
    assert post(client, history=[]).json()["code"] == "engine_dead"


def test_metrics_count_requests_by_route_batches_and_refusals(client: TestClient) -> None:
    post(client, history=["item-1"])
    post(client, history=["item-1"], allow=[])
    text = client.get("/metrics").text
    for line in (
        'redraft_requests_total{route="/v1/recommend",status="200"}',
        'redraft_rejections_total{reason="nothing_allowed"}',
        "redraft_queue_length 0.0",
        "redraft_batch_size_count",
        "redraft_batch_padding_total",
        "redraft_decode_seconds_sum",
        'redraft_stage_seconds_count{stage="queue"}',
    ):
        assert line in text, line


def test_answers_are_safe_to_show(client: TestClient) -> None:
    answer = client.get("/readyz")
    assert all(answer.headers[name.decode()] == value.decode() for name, value in SAFE_HEADERS)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_keys_open_what_their_scopes_say(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    client = client_of(service, Keys(ALL_KEYS))
    assert post(client, history=[]).status_code == 401
    assert post(client, history=[], headers=bearer("wrong")).status_code == 401
    assert post(client, history=[], headers={"Authorization": "Basic reader-key-0123456789"}).status_code == 401
    answer = post(client, history=[], headers=bearer("reader-key-0123456789"))
    assert answer.status_code == 200
    mine = f"/v1/explain/{answer.json()['request_id']}"
    assert client.get(mine, headers=bearer("reader-key-0123456789")).status_code == 200
    assert client.get(mine, headers=bearer("admin-key-0123456789a")).status_code == 200
    assert client.get(mine, headers=bearer("writer-key-0123456789")).status_code == 404
    assert "key-0123456789" not in caplog.text


def test_a_users_own_key_reaches_that_user_alone(service: Service) -> None:
    client = client_of(service, Keys(ALL_KEYS))
    own = bearer("user-3-key-0123456789")
    assert post(client, user_id="user-3", headers=own).status_code == 200
    answer = post(client, user_id="user-4", headers=own)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
