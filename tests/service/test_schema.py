"""What fits the OpenAPI document is answered as it says."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import positive_data_acceptance
from schemathesis.specs.openapi.checks import ignored_auth
from serving import make_service

from redraft.service.app import create_app
from redraft.service.keys import Keys
from redraft.service.service import Service

EXCLUDED = [positive_data_acceptance, ignored_auth]
"""Items and users must exist; and this service has no keys."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = make_service(tmp_path_factory.mktemp("state"), deadline=60.0)
    yield service
    service.engine.stop()


def test_what_fits_the_document_is_answered_as_it_says(service: Service) -> None:
    app = create_app(service, Keys({}))
    operations = [found.ok() for found in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations()]
    assert len(operations) > 15
    for operation in operations:

        @settings(
            max_examples=3,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        )
        @given(case=operation.as_strategy())
        def check(case) -> None:
            case.call_and_validate(excluded_checks=EXCLUDED)

        check()
