"""The API as it is written down, and as it answers to what does not fit it."""

import asyncio
import copy
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from serving import ALL_KEYS, make_service

from redraft.service.app import create_app
from redraft.service.keys import Keys
from redraft.service.openapi import openapi
from redraft.service.service import Service

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
MALFORMED = 10_000
LEFT_ALONE = ("/v1/admin/drain", "/livez", "/readyz", "/metrics")
KEYS = [b"Bearer admin-key-0123456789a"] * 6 + [b"Bearer reader-key-0123456789", b"Bearer \xff\xfe", b"Basic Og=="]
IDS = ["item-1", "user-1", "..%2f..%2fetc%2fpasswd", "a%0d%0aSet-Cookie:x", "%00", "%ff", "x" * 300, "%F0%9F%92%A9", ""]
VALUES: list[Any] = [None, True, -1, 0, 1e308, 2**70, "", "item-1", "\x00", "\ud800", "x" * 300, [], {}, [[]], {"a": 1}]
BODIES = [
    {"history": ["item-1", "item-2"], "k": 5, "filters": {"attribute0": ["a"]}, "explain": False},
    {"requests": [{"history": ["item-1"], "times": [5]}, {"user_id": "user-1", "allow": ["item-2"]}]},
    {"events": [{"event_id": "e", "user_id": "user-1", "item_id": "item-1", "kind": "view", "time": 5.5}]},
    {"items": [{"id": "item-1", "title": "a", "attributes": {"attribute0": "a"}, "available": True}]},
    {"attributes": {"country": "de"}},
    {"run": "next"},
    {"fingerprint": "0123456789abcdef"},
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = make_service(tmp_path_factory.mktemp("state"), deadline=60.0)
    yield service
    service.close()


def test_the_document_is_the_one_that_is_checked_in() -> None:
    said = "run: python -m redraft.service.openapi > docs/openapi.json"
    assert DOCUMENT.read_text() == openapi(), said


def spoilt(draw: random.Random) -> bytes:
    """A body with one or two values in the wrong place, or bytes that are cut, mixed up or not JSON at all."""
    body = json.loads(json.dumps(draw.choice(BODIES)))
    for _ in range(draw.randint(1, 2)):
        place, inner = None, body
        while isinstance(inner, dict | list) and inner and (place is None or draw.random() < 0.7):
            place, key = inner, draw.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
            inner = place[key]
        if isinstance(place, dict) and draw.random() < 0.3:
            place[draw.choice(["k", "times", "user_id", "no_such_field"])] = place.pop(key)
        elif place is not None:
            place[key] = copy.deepcopy(draw.choice(VALUES))
    found = bytearray(json.dumps(body).encode())
    if draw.random() < 0.4:
        for _ in range(draw.randint(1, 6)):
            where = draw.randrange(len(found) + 1)
            found[where : where + draw.randint(0, 4)] = draw.randbytes(draw.randint(0, 4))
    return bytes(found)


def test_malformed_requests_are_the_callers_fault(service: Service) -> None:
    """Ten thousand over all routes, bad in path, query, headers or body: not one is our error."""
    app, draw = create_app(service, Keys(ALL_KEYS)), random.Random(0)
    routes = [
        (method.upper(), path)
        for path, methods in json.loads(openapi())["paths"].items()
        for method in methods
        if path not in LEFT_ALONE
    ]
    statuses: Counter[int] = Counter()

    async def send(method: str, path: str, headers: list[tuple[bytes, bytes]], query: bytes, body: bytes) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path.encode(),
            "query_string": query,
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        said: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def answered(message: Any) -> None:
            said.append(message)

        await app(scope, receive, answered)
        statuses[said[0]["status"]] += 1
        content = b"".join(part.get("body", b"") for part in said[1:])
        assert not any(b"\r" in value or b"\n" in value for _, value in said[0]["headers"])
        if said[0]["status"] >= 400:
            assert set(json.loads(content)) == {"code", "message", "retryable"}, (method, path, content)
            assert b"Traceback" not in content

    async def send_all() -> None:
        for _ in range(MALFORMED):
            method, path = draw.choice(routes)
            for part in ("{user_id}", "{item_id}", "{request_id}"):
                path = path.replace(part, draw.choice(IDS))
            headers = [(b"authorization", draw.choice(KEYS)), (b"content-type", b"application/json")]
            if draw.random() < 0.2:
                headers.append((b"x-deadline-ms", draw.choice([b"0", b"-5", b"x", b"\xff", b"9" * 40, b"1e3"])))
            if draw.random() < 0.1:
                headers[1] = (b"content-type", draw.choice([b"text/plain", b"multipart/form-data", b"\xff", b""]))
            query = draw.choice([b"", b"", b"k=0", b"k=x", b"limit=-1&prefix=%00", b"prefix=%ff&limit=1e9", b"%"])
            await send(method, path, headers, query, spoilt(draw))

    asyncio.run(send_all())
    assert sum(statuses.values()) == MALFORMED
    assert not [status for status in statuses if status >= 500], statuses
    assert statuses[422] > MALFORMED / 4, statuses
    assert statuses[401] > MALFORMED / 20, statuses
