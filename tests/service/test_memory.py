"""What the service is told: events that are there at once and once, users who can leave, items that come and go."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import ALL_KEYS, client_of, make_service
from starlette.testclient import TestClient

from redraft.data.importer import ImportConfig, import_dataset
from redraft.service.journal import EVENTS, Journal
from redraft.service.keys import Keys
from redraft.service.service import Service

NOW = 1_750_000_000.0
HOUR = 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(tmp_path: Path, clock: Clock) -> Iterator[Service]:
    service = make_service(tmp_path, clock, deadline=20.0)
    yield service
    service.engine.stop()


@pytest.fixture
def client(service: Service) -> TestClient:
    return client_of(service)


def event(number: int, user: str = "ann", **changes) -> dict:
    fields = {"event_id": f"e{number}", "user_id": user, "item_id": f"item-{number % 30}", "kind": "view"}
    return fields | {"time": NOW - 1000 + number} | changes


def send(client: TestClient, *events: dict):
    return client.post("/v1/events", json={"events": list(events)})


def listed(client: TestClient, **asked) -> list[str]:
    answer = client.post("/v1/recommend", json={"k": 30, **asked})
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def test_ones_own_write_is_read_at_once(client: TestClient) -> None:
    assert client.post("/v1/recommend", json={"user_id": "ann"}).status_code == 404
    answer = send(client, event(3), event(1), event(3))
    assert answer.json() == {"accepted": 2, "duplicates": 1}
    assert set(listed(client, user_id="ann")).isdisjoint({"item-1", "item-3"})
    assert listed(client, user_id="ann") == listed(client, history=["item-1", "item-3"])
    found = client.get("/v1/users/ann").json()
    assert [(one["event_id"], one["id"], one["title"]) for one in found["events"]] == [
        ("e1", "item-1", "thing 1"),
        ("e3", "item-3", "thing 3"),
    ]


def test_events_go_on_where_the_data_set_ends(client: TestClient, service: Service) -> None:
    before = [card["id"] for card in client.get("/v1/users/user-2").json()["before"]]
    assert len(before) == 5
    send(client, event(7, "user-2", time="2025-01-01T00:00:00Z"))
    assert listed(client, user_id="user-2") == listed(client, history=[*before, "item-7"])


BAD_EVENTS = [
    ({"item_id": "item-99"}, "unknown_item"),
    ({"time": NOW + 301}, "bad_time"),
    ({"time": "1969-12-31T23:59:59Z"}, "bad_time"),
    ({"time": "2025-01-01T00:00:00"}, "invalid_request"),
    ({"time": "NaN"}, "invalid_request"),
    ({"time": True}, "invalid_request"),
    ({"kind": "theft"}, "invalid_request"),
    ({"user_id": ""}, "invalid_request"),
    ({"user_id": "a\nb"}, "invalid_request"),
    ({"event_id": "x" * 257}, "invalid_request"),
    ({"price": 3}, "invalid_request"),
]


@pytest.mark.parametrize(("changes", "code"), BAD_EVENTS)
def test_one_bad_event_refuses_all_of_its_company(client: TestClient, changes: dict, code: str) -> None:
    answer = send(client, event(1), event(2, **changes))
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert client.get("/v1/users/ann").status_code == 404


def test_ancient_events_count_and_late_clocks_are_allowed(client: TestClient) -> None:
    assert send(client, event(1, time=0), event(2, time=NOW + 299)).json()["accepted"] == 2


def test_a_persons_data_can_be_had_and_erased(
    client: TestClient, service: Service, tmp_path: Path, clock: Clock
) -> None:
    send(client, event(1, "user-2"), event(2, "user-3"))
    client.put("/v1/users/user-2", json={"attributes": {"country": "de"}})
    assert client.get("/v1/users/user-2").json()["attributes"] == {"country": "de"}
    asked = client.post("/v1/recommend", json={"user_id": "user-2"}).json()["request_id"]
    clock.now += HOUR
    service.memory.seal()
    send(client, event(5, "user-2"))
    assert client.delete("/v1/users/user-2").json() == {"erased": "user-2"}
    assert client.get("/v1/users/user-2").status_code == 404
    assert client.get(f"/v1/explain/{asked}").status_code == 404
    assert "user-2" not in client.get("/v1/users?prefix=user-2&limit=2").json()["users"]
    assert client.get("/v1/users/user-3").status_code == 200
    for path in tmp_path.rglob("*"):
        if path.suffix == ".parquet":
            assert "user-2" not in pl.read_parquet(path)["user_id"].to_list()
        elif path.suffix == ".jsonl":
            assert b"user-2" not in path.read_bytes()
    assert (tmp_path / "events" / "2025-06-15T15.parquet").exists()


def test_users_are_found_by_the_beginning_of_their_id(client: TestClient) -> None:
    send(client, event(1, "user-10x"), event(1, "a/b"))
    assert client.get("/v1/users?prefix=user-1&limit=3").json()["users"] == ["user-1", "user-10", "user-10x"]
    assert client.get("/v1/users/a%2Fb").json()["id"] == "a/b"


def test_items_off_sale_are_gone_from_the_next_request_on(client: TestClient) -> None:
    first, second, *_ = before = listed(client, history=["item-3"])
    client.put(f"/v1/items/{first}", json={"available": False})
    assert listed(client, history=["item-3"]) == before[1:]
    client.delete(f"/v1/items/{second}")
    assert listed(client, history=["item-3"]) == before[2:]
    assert client.get(f"/v1/items/{first}").json()["available"] is False
    assert client.get(f"/v1/items/{second}").status_code == 404
    assert client.delete(f"/v1/items/{second}").status_code == 404
    assert send(client, event(1, item_id=second)).json()["code"] == "unknown_item"
    client.put(f"/v1/items/{first}", json={})
    client.put(f"/v1/items/{second}", json={"title": "again"})
    assert listed(client, history=["item-3"]) == before
    assert client.get(f"/v1/items/{second}").json()["title"] == "again"


def test_a_new_item_can_be_recommended_when_it_was_put(client: TestClient, service: Service) -> None:
    old = service.served
    body = {"title": "thing 3", "attributes": {"attribute0": "violet"}}
    answer = client.put("/v1/items/new%2Fone", json=body)
    assert answer.json() == {"id": "new/one", "model": service.served.fingerprint}
    assert service.served.parent == old.fingerprint != service.served.fingerprint
    assert "new/one" in listed(client, history=["item-3"], k=31, filter_seen=False)
    assert listed(client, history=["item-3"], filters={"attribute0": ["violet"]}) == ["new/one"]
    found = client.get("/v1/items/new%2Fone").json()
    assert found["attributes"] == {"attribute0": "violet"}
    assert (service.served.recommender.ids.codes[:30] == old.recommender.ids.codes).all()
    assert send(client, event(1, item_id="new/one")).json()["accepted"] == 1
    assert "new/one" not in listed(client, user_id="ann")
    similar = client.get("/v1/similar/new%2Fone?k=3").json()["items"]
    assert similar[0]["shared"] >= similar[-1]["shared"]
    assert client.put("/v1/items/x", json={"attributes": {"colour": "red"}}).json()["code"] == "unknown_attribute"


def test_new_items_survive_a_restart_under_the_same_fingerprint(tmp_path: Path) -> None:
    first = make_service(tmp_path)
    client = client_of(first)
    client.put("/v1/items/b", json={"title": "thing 4"})
    client.put("/v1/items", json={"items": [{"id": "a", "title": "thing 5"}, {"id": "c", "title": "thing 4"}]})
    client.put("/v1/items/b", json={"title": "renamed"})
    mark, codes = first.served.fingerprint, first.served.recommender.ids.codes
    first.close()
    second = make_service(tmp_path)
    with client_of(second) as client:
        client.put("/v1/items/item-1", json={"available": False})
        assert second.served.fingerprint == mark
        assert (second.served.recommender.ids.codes == codes).all()
        assert client.get("/v1/items/b").json()["title"] == "renamed"


def test_another_process_sees_changed_items_within_seconds(
    client: TestClient, service: Service, tmp_path: Path
) -> None:
    other = make_service(tmp_path)
    client_of(other).put("/v1/items/item-1", json={"available": False})
    assert service.served.all_on_sale
    asyncio.run(service.memory.renew())
    assert not service.served.on_sale[1]
    other.close()


def test_answers_and_events_become_a_data_set(
    client: TestClient, service: Service, tmp_path: Path, clock: Clock
) -> None:
    send(client, *(event(n, f"u{n % 4}") for n in range(20)))
    send(client, event(0, "u0"))
    answer = client.post("/v1/recommend", json={"user_id": "u1", "k": 3}).json()
    clock.now += HOUR
    service.memory.seal()
    dataset, _ = import_dataset(ImportConfig("table", tmp_path / "events", tmp_path / "data"))
    assert (dataset.interactions.n_users, len(dataset.interactions.items)) == (4, 20)
    [shown] = pl.read_parquet(tmp_path / "exposures" / "*.parquet").to_dicts()
    assert shown["items"] == [item["id"] for item in answer["items"]]
    assert (shown["request_id"], shown["user_id"]) == (answer["request_id"], "u1")
    assert shown["model"] == service.served.fingerprint


def test_keys_of_one_user_and_of_readers_change_nothing_of_others(service: Service) -> None:
    client = client_of(service, Keys(ALL_KEYS))

    def status(key: str, method: str, path: str, body: dict | None = None) -> int:
        return client.request(method, path, json=body, headers={"Authorization": f"Bearer {key}"}).status_code

    reader, phone = "reader-key-0123456789", "user-3-key-0123456789"
    for method, path, body in [
        ("GET", "/v1/users/user-4", None),
        ("DELETE", "/v1/users/user-4", None),
        ("PUT", "/v1/users/user-4", {}),
        ("GET", "/v1/users", None),
        ("POST", "/v1/events", {"events": [event(1, "user-4")]}),
        ("PUT", "/v1/items/item-1", {}),
        ("DELETE", "/v1/items/item-1", None),
        ("GET", "/v1/admin/models", None),
    ]:
        assert status(reader, method, path, body) == 403, path
        expected = 200 if path == "/v1/users" else 403
        assert status(phone, method, path, body) == expected, path
    assert status(phone, "GET", "/v1/users/user-3") == 200
    assert client.get("/v1/users", headers={"Authorization": f"Bearer {phone}"}).json()["users"] == ["user-3"]
    assert client_of(service).get("/v1/admin/models").status_code == 403


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([0, 60, 1800, 3600, -1800, -7200]), max_size=20))
def test_a_journal_loses_no_row_whatever_the_clock_does(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int]
) -> None:
    folder, clock = tmp_path_factory.mktemp("journal"), Clock()
    journal = Journal(folder, EVENTS, unique=["user_id", "event_id"], clock=clock)

    def row(number: int) -> dict:
        return {"user_id": "u", "item_id": "i", "timestamp": number, "kind": "view", "event_id": str(number)}

    for number, step in enumerate(steps):
        clock.now += step
        journal.append([row(number)])
        if step == 60:
            journal.append([row(number)])
    clock.now += 100 * HOUR  # later than any hour that was
    journal.seal()
    found = [pl.read_parquet(path) for path in folder.glob("*.parquet")]
    assert sorted(int(n) for frame in found for n in frame["event_id"]) == list(range(len(steps)))
    assert not list(folder.glob(".*"))


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    whole = {"user_id": "u", "item_id": "i", "timestamp": 5, "kind": "view", "event_id": "e"}
    (tmp_path / ".2025-06-15T10.jsonl").write_text(json.dumps(whole) + '\n{"user_id": "u", "ite')
    Journal(tmp_path, EVENTS)
    assert pl.read_parquet(tmp_path / "2025-06-15T10.parquet")["event_id"].to_list() == ["e"]


def test_rows_are_added_while_a_user_is_erased_from_hours_that_are_over(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, EVENTS, clock=clock)
    rows = [{"user_id": user, "item_id": "i", "timestamp": 5, "kind": "view", "event_id": user} for user in ("a", "b")]
    journal.append(rows)
    clock.now += HOUR
    journal.seal()
    replace, waited = Journal._replace, []

    def replacing(self: Journal, path: Path, before: pl.DataFrame, after: pl.DataFrame) -> None:
        adding = threading.Thread(target=journal.append, args=(rows,), daemon=True)
        adding.start()
        adding.join(5.0)
        waited.append(adding.is_alive())
        replace(self, path, before, after)

    monkeypatch.setattr(Journal, "_replace", replacing)
    journal.erase("a")
    assert waited == [False]
    clock.now += HOUR
    journal.seal()
    assert [pl.read_parquet(path)["user_id"].to_list() for path in tmp_path.glob("*.parquet")] == [["b"], ["b"]]
