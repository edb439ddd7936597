"""Hot reload: another run is loaded, answers from one request to the next, and can be taken back."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import ALL_KEYS, client_of, make_service, recommender
from starlette.testclient import TestClient

from redraft.records import Interactions
from redraft.service.keys import Keys

ADMIN = {"Authorization": "Bearer admin-key-0123456789a"}
MODELS = "/v1/admin/models"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    recommender(seed=1).save(tmp_path / "next")
    with client_of(make_service(tmp_path, deadline=30.0), Keys(ALL_KEYS)) as client:
        client.headers.update(ADMIN)
        yield client


def recommended(client: TestClient) -> tuple[str, list[str]]:
    answer = client.post("/v1/recommend", json={"history": ["item-3"], "k": 5}).json()
    return answer["model"], [item["id"] for item in answer["items"]]


def expected(seed: int) -> list[str]:
    return [f"item-{n}" for n in recommender(seed).recommend(Interactions.from_lists([[3]]), 5).items[0]]


def test_a_run_is_loaded_promoted_and_taken_back(client: TestClient) -> None:
    before = recommended(client)
    assert before[1] == expected(0)
    staged = client.post(MODELS, json={"run": "next"}).json()["staged"]
    assert staged["run"] == "next"
    assert recommended(client) == before
    wrong = client.post(f"{MODELS}/promote", json={"fingerprint": before[0]})
    assert (wrong.status_code, wrong.json()["code"]) == (409, "not_staged")
    client.post(f"{MODELS}/promote", json={"fingerprint": staged["fingerprint"]})
    assert recommended(client) == (staged["fingerprint"], expected(1))
    assert client.post(f"{MODELS}/rollback").json()["current"]["fingerprint"] == before[0]
    assert recommended(client) == before


def test_changes_of_items_hold_for_every_model(client: TestClient) -> None:
    staged = client.post(MODELS, json={"run": "next"}).json()["staged"]
    gone = expected(1)[0]
    client.put(f"/v1/items/{gone}", json={"available": False})
    client.post(f"{MODELS}/promote", json={"fingerprint": staged["fingerprint"]})
    assert gone not in recommended(client)[1]
    client.put(f"/v1/items/{gone}", json={})
    client.put("/v1/items/new", json={"title": "thing 3"})
    client.post(f"{MODELS}/rollback")
    assert client.get("/v1/items/new").json()["model"] == recommended(client)[0]


@pytest.mark.parametrize("run", ["../next", "/etc", "nothing", ".", "..", "next/../next", "damaged", "n\u0000"])
def test_a_run_that_cannot_be_used_changes_nothing(client: TestClient, run: str, tmp_path: Path) -> None:
    before = recommended(client)
    recommender(seed=1).save(tmp_path / "damaged")
    weights = tmp_path / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    answer = client.post(MODELS, json={"run": run})
    assert answer.status_code == 422
    assert str(tmp_path) not in answer.text
    assert recommended(client) == before
    assert client.get(MODELS).json()["staged"] is None


def test_reload_under_load_fails_nobody_and_mixes_nothing(client: TestClient) -> None:
    """Threads ask all the time while two models and a new item come and go."""
    lists: dict[str, set[tuple[str, ...]]] = {}
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = client.post("/v1/recommend", json={"history": ["item-3"], "k": 5})
            statuses.append(answer.status_code)
            if answer.status_code == 200:
                found = tuple(item["id"] for item in answer.json()["items"])
                lists.setdefault(answer.json()["model"], set()).add(found)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        staged = client.post(MODELS, json={"run": "next"}).json()["staged"]
        client.post(f"{MODELS}/promote", json={"fingerprint": staged["fingerprint"]})
        client.put("/v1/items/new", json={"title": "thing 3"})
        client.post(f"{MODELS}/rollback")
    stop.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    assert len(lists) >= 2
    assert all(len(found) == 1 for found in lists.values()), "one fingerprint, one list"


def test_draining_turns_requests_away(client: TestClient) -> None:
    assert client.post("/v1/admin/drain").json() == {"draining": True}
    answer = client.post("/v1/recommend", json={"history": []})
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (503, "draining", True)
    assert client.get("/readyz").status_code == 503
    assert client.get("/livez").status_code == 200
