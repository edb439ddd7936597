"""What a caller may not do: bend headers or paths, learn of others, find a secret in the logs."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import ALL_KEYS, client_of, make_service, recommender
from starlette.testclient import TestClient
from verbs import run

from redraft.service.keys import KEYS_VARIABLE, Keys
from redraft.service.service import Service

READER, WRITER, ADMIN, PHONE = (f"Bearer {key}" for key in ALL_KEYS)
ODD = {
    "lines": "a\r\nSet-Cookie: x=1",
    "nothing": "a\x00b",
    "control": "a\x1b[31mb",
    "c1": "a\x9bb",
    "long": "x" * 257,
    "empty": "",
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = make_service(tmp_path / "state", deadline=30.0)
    yield service
    service.close()


@pytest.fixture
def client(service: Service) -> TestClient:
    client = client_of(service, Keys(ALL_KEYS))
    client.headers["Authorization"] = ADMIN
    return client


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_ids_that_could_bend_a_header_or_a_log_are_refused_wherever_they_stand(
    client: TestClient, odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    event = {"event_id": "e", "user_id": "ann", "item_id": "item-1", "kind": "view"}
    bodies = [("POST", "/v1/events", {"events": [event | {name: odd}]}) for name in ("event_id", "user_id", "item_id")]
    bodies += [("POST", "/v1/recommend", {name: [odd]}) for name in ("history", "allow", "exclude")]
    bodies += [("POST", "/v1/recommend", {"user_id": odd})]
    bodies += [("POST", "/v1/recommend", {"history": [], "filters": {odd: ["a"]}})]
    bodies += [("PUT", "/v1/items", {"items": [{"id": odd}]})]
    bodies += [("PUT", "/v1/users/ann", {"attributes": {odd: "a"}})]
    bodies += [("POST", "/v1/admin/models", {"run": odd}), ("POST", "/v1/admin/models/promote", {"fingerprint": odd})]
    for method, path, body in bodies:
        answer = client.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), (path, body)
        assert odd == "" or odd not in "".join([*answer.headers.keys(), *answer.headers.values()])
    if odd:
        quoted = "".join(f"%{byte:02x}" for byte in odd.encode())
        for path in (f"/v1/items/{quoted}", f"/v1/users/{quoted}", f"/v1/similar/{quoted}"):
            assert client.get(path).status_code in (404, 422)
        assert client.get(f"/v1/explain/{quoted}").status_code == 404
    assert "Set-Cookie" not in caplog.text


def test_request_ids_are_made_here(client: TestClient) -> None:
    asked = {"history": [], "k": 1}
    found = [
        client.post("/v1/recommend", json=asked, headers={"X-Request-Id": "mine", "X-Forwarded-For": "a, b"})
        for _ in range(2)
    ]
    ids = {answer.json()["request_id"] for answer in found}
    assert len(ids) == 2
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in ids)
    assert not any("mine" in str(answer.headers) + answer.text for answer in found)


def test_ids_are_no_paths(client: TestClient, service: Service, tmp_path: Path) -> None:
    """Whatever an id looks like, no file is read or made by its name."""
    (tmp_path / "secret.parquet").write_text("secret")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    for odd in ("../secret", "..%2f..%2fsecret.parquet", "%2fetc%2fpasswd", "a%2f..%2f..%2fsecret", "%5c..%5csecret"):
        assert client.put(f"/v1/users/{odd}", json={"attributes": {"a": "b"}}).status_code in (200, 404)
        assert client.put(f"/v1/items/{odd}", json={"title": "thing 3"}).status_code in (200, 404)
        assert client.get(f"/v1/explain/{odd}").status_code == 404
        assert client.get(f"/static/{odd}").status_code == 404
        assert client.get(f"/v1/users/{odd}").status_code in (200, 404)
        assert client.delete(f"/v1/users/{odd}").status_code in (200, 404)
    for run_name in ("../secret", "/etc", "..", "a/../../b"):
        assert client.post("/v1/admin/models", json={"run": run_name}).json()["code"] == "no_run_name"
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in after - before} <= {"store.sqlite-wal", "store.sqlite-shm"}
    assert (tmp_path / "secret.parquet").read_text() == "secret"


def test_a_readers_key_learns_nothing_of_others(client: TestClient) -> None:
    event = {"event_id": "e", "user_id": "user-4", "item_id": "item-1", "kind": "view"}
    client.post("/v1/events", json={"events": [event]})
    client.put("/v1/users/user-4", json={"attributes": {"country": "utopia"}})
    theirs = client.post("/v1/recommend", json={"user_id": "user-4", "k": 3}).json()["request_id"]
    for key, expected in ((READER, 403), (PHONE, 403)):
        headers = {"Authorization": key}
        for method, path in [
            ("GET", "/v1/users/user-4"),
            ("PUT", "/v1/users/user-4"),
            ("DELETE", "/v1/users/user-4"),
            ("GET", "/v1/users/user-4?prefix=user-4"),
            ("GET", "/v1/admin/models"),
        ]:
            body = {} if method == "PUT" else None
            answer = client.request(method, path, json=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (expected, "forbidden"), (path, key)
            assert "utopia" not in answer.text
        assert client.get(f"/v1/explain/{theirs}", headers=headers).status_code == 404
    listed = client.get("/v1/users?prefix=user-4", headers={"Authorization": PHONE})
    assert listed.json()["users"] == []
    open_to_all = "".join(client.get(path, headers={"Authorization": ""}).text for path in ("/metrics", "/readyz", "/"))
    assert "user-4" not in open_to_all
    assert "item-1" not in open_to_all
    together = {"requests": [{"user_id": "user-3"}, {"user_id": "user-4"}]}
    assert client.post("/v1/recommend/batch", json=together, headers={"Authorization": PHONE}).status_code == 403


def test_secrets_are_never_logged(
    client: TestClient, service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)

    def breaks(*arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(service.memory, "search", breaks)
    for key in (READER, WRITER, ADMIN, PHONE, "Bearer wrong-key-0123456789", "Basic secret-key-0123456789"):
        for method, path in [("GET", "/v1/users"), ("GET", "/v1/admin/models"), ("POST", "/v1/events")]:
            answer = client.request(method, path, headers={"Authorization": key})
            assert "key-0123456789" not in answer.text + str(answer.headers)
    assert "a bug" in caplog.text, "what went wrong is logged"
    assert "key-0123456789" not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://redraft:s3cret-word@127.0.0.1:1/x",
        "postgresql://127.0.0.1:1/x?user=redraft&password=s3cret-word",
        "postgresql://redraft:s3cret-word@127.0.0.1:port/x",
        "redis://:s3cret-word@127.0.0.1:1/0",
        "redis://:s3cret-word@127.0.0.1:port/0",
        "oracle://scott:s3cret-word@127.0.0.1/x",
    ],
)
def test_a_store_that_does_not_answer_is_named_without_its_password(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "environment-key-0123456789"
    monkeypatch.setenv(KEYS_VARIABLE, json.dumps({"web": {"key": secret, "scopes": ["read"]}}))
    recommender().save(tmp_path / "run")
    code, out, err = run(capsys, "serve", tmp_path / "run", "--port", 0, "--state", tmp_path / "state", "--store", url)
    assert code == 2
    assert err.count("\n") == 1
    assert "store" in err
    assert "s3cret-word" not in out + err
    assert secret not in out + err
