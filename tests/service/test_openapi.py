"""The API as it is written down, and as it answers to what does not fit it."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import client_of, make_service
from starlette.testclient import TestClient

from redraft.service.openapi import openapi
from redraft.service.service import Service

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
MALFORMED = 500


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = make_service(tmp_path_factory.mktemp("state"), deadline=60.0)
    yield service
    service.engine.stop()


def test_the_document_is_the_one_that_is_checked_in() -> None:
    said = "run: python -m redraft.service.openapi > docs/openapi.json"
    assert DOCUMENT.read_text() == openapi(), said


def test_malformed_requests_are_the_callers_fault(service: Service) -> None:
    """Bodies that are cut, shuffled or not JSON at all: not one is our error."""
    client: TestClient = client_of(service)
    draw = random.Random(0)
    good = b'{"history": ["item-1", "item-2"], "k": 5, "filters": {"attribute0": ["a"]}, "explain": false}'
    statuses: dict[int, int] = {}
    for _ in range(MALFORMED):
        body = bytearray(good)
        for _ in range(draw.randint(1, 6)):
            where = draw.randrange(len(body))
            body[where : where + draw.randint(0, 4)] = draw.randbytes(draw.randint(0, 4))
        answer = client.post(draw.choice(["/v1/recommend", "/v1/events", "/v1/recommend/batch"]), content=bytes(body))
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    assert not [status for status in statuses if status >= 500], statuses
    assert statuses[422] > sum(statuses.values()) / 2
