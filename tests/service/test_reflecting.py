"""A run that orders drafts by evidence, served as any other; its tower reads times."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from serving import ALL_KEYS, client_of, dataset, make_service, recommender, reflecting
from starlette.testclient import TestClient

from redraft import runs
from redraft.evidence.drafting import known_or_usual, tower_scores
from redraft.evidence.kinds import KINDS
from redraft.evidence.recommender import ReflectingRecommender
from redraft.records import Interactions
from redraft.service.keys import Keys
from redraft.service.service import Service

NOW = 1_750_000_000.0
ADMIN = {"Authorization": "Bearer admin-key-0123456789a"}
MODELS = "/v1/admin/models"


@pytest.fixture(scope="module")
def model() -> ReflectingRecommender:
    return reflecting()


@pytest.fixture
def service(tmp_path: Path, model: ReflectingRecommender) -> Iterator[Service]:
    service = make_service(tmp_path, lambda: NOW, model, dataset(timed=True), deadline=30.0)
    service.warm()
    yield service
    service.close()


@pytest.fixture
def client(service: Service) -> TestClient:
    client = client_of(service, Keys(ALL_KEYS))
    client.headers.update(ADMIN)
    return client


def ask(client: TestClient, **body) -> dict:
    answer = client.post("/v1/recommend", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def assert_same(answer: dict, model: ReflectingRecommender, histories: Interactions) -> None:
    found = model.recommend(histories, len(answer["items"]))
    assert [item["id"] for item in answer["items"]] == [f"item-{n}" for n in found.items[0]]
    assert np.array([item["score"] for item in answer["items"]], np.float32).tobytes() == found.scores[0].tobytes()


def test_lists_are_the_recommenders_bit_for_bit_with_the_times_of_the_history(
    client: TestClient, model: ReflectingRecommender
) -> None:
    mine = dataset(timed=True).interactions.take(np.array([9]))
    assert_same(ask(client, user_id="user-9", k=7), model, mine)
    items, times = [f"item-{n}" for n in mine.items], mine.times.tolist()
    by_hand = ask(client, history=items, times=times, k=7)
    assert_same(by_hand, model, mine)
    slower = ask(client, history=items, times=[time * 1000 for time in times], k=7)
    assert [item["score"] for item in slower["items"]] != [item["score"] for item in by_hand["items"]]
    event = {"event_id": "e", "user_id": "user-9", "item_id": "item-5", "kind": "view", "time": NOW - 10.5}
    client.post("/v1/events", json={"events": [event]})
    longer = Interactions.from_lists([[*mine.items.tolist(), 5]], [[*times, int(NOW - 11)]])
    assert_same(ask(client, user_id="user-9", k=7), model, longer)
    assert_same(ask(client, history=[], k=7), model, Interactions.from_lists([[]], [[]]))


def test_a_history_without_times_is_refused_and_times_must_fit(client: TestClient) -> None:
    for body, code in [
        ({"history": ["item-1"]}, "times_needed"),
        ({"history": ["item-1"], "times": [1, 2]}, "invalid_request"),
        ({"user_id": "user-9", "times": [1]}, "invalid_request"),
    ]:
        answer = client.post("/v1/recommend", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
        assert "times" in answer.json()["message"]


def test_an_explanation_says_what_spoke_for_each_item_of_the_list(client: TestClient) -> None:
    answer = ask(client, user_id="user-9", k=5)
    told = client.get(f"/v1/explain/{answer['request_id']}").json()
    assert told["kind"] == "judged"
    assert [(item["id"], item["score"]) for item in told["items"]] == [
        (item["id"], item["score"]) for item in answer["items"]
    ]
    assert 0 < told["none"] < 1
    for item in told["items"]:
        assert list(item["evidence"]) == list(KINDS)
        assert any(item["evidence"].values())
        assert sum(item["location"]) == pytest.approx(1, abs=1e-5)
        assert 0 <= item["match"]["attribute0"] <= 1
    assert len({item["draft"] for item in told["items"]}) == 5
    assert ask(client, user_id="user-9", k=5, explain=True)["explanation"] == told


def test_items_that_are_newer_than_the_tower_can_be_listed_and_read(client: TestClient, service: Service) -> None:
    before = ask(client, user_id="user-9", k=30, filter_seen=False)
    assert client.put("/v1/items/new", json={"title": "thing 3"}).status_code == 200
    listed = ask(client, user_id="user-9", k=31, filter_seen=False)
    assert sorted(item["id"] for item in listed["items"]) == sorted(service.served.ids)
    assert listed["model"] != before["model"]
    assert ask(client, user_id="user-9", k=1, allow=["new"])["items"][0]["id"] == "new"
    alone = ask(client, history=["item-3"], times=[7], k=3, filter_seen=False)["items"]
    with_new = ask(client, history=["item-3", "new"], times=[7, 8], k=3, filter_seen=False)["items"]
    assert all(np.isfinite(item["score"]) for item in with_new)
    assert alone != with_new
    assert client.get("/v1/similar/new?k=3").json()["items"]
    told = client.get(f"/v1/explain/{listed['request_id']}").json()
    assert "new" in [item["id"] for item in told["items"]]


def test_of_newer_items_the_tower_says_what_it_says_of_the_others_on_average(model: ReflectingRecommender) -> None:
    found = tower_scores(model.tower, Interactions.from_lists([[3, 30, 4]], [[7, 8, 9]]), 32)
    alone = tower_scores(model.tower, Interactions.from_lists([[3, 4]], [[7, 9]]), 30)
    assert found[0, :30].tolist() == alone[0].tolist()
    logits = known_or_usual(found[:, [1, 31, 2, 0]], torch.tensor([[True, True, True, False]]))
    assert logits[0, [0, 2]].tolist() == alone[0, [1, 2]].tolist()
    assert float(logits[0, 1]) == pytest.approx(float(alone[0, [1, 2]].mean()), abs=1e-6)


def test_it_is_loaded_and_taken_back_beside_other_runs(tmp_path: Path, model: ReflectingRecommender) -> None:
    model.save(tmp_path / "judged")
    assert runs.load(tmp_path / "judged").fingerprint == model.fingerprint != reflecting(1).fingerprint
    service = make_service(tmp_path, lambda: NOW, recommender(), dataset(timed=True), deadline=30.0)
    with client_of(service, Keys(ALL_KEYS)) as client:
        client.headers.update(ADMIN)
        before = ask(client, user_id="user-9", k=5)
        staged = client.post(MODELS, json={"run": "judged"}).json()["staged"]
        client.post(f"{MODELS}/promote", json={"fingerprint": staged["fingerprint"]})
        judged = ask(client, user_id="user-9", k=5)
        assert judged["model"] == staged["fingerprint"]
        assert_same(judged, model, dataset(timed=True).interactions.take(np.array([9])))
        client.post(f"{MODELS}/rollback")
        assert ask(client, user_id="user-9", k=5)["items"] == before["items"]
