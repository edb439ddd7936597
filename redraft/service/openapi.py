"""Write the OpenAPI document of the service: python -m redraft.service.openapi > docs/openapi.json."""

import json
from typing import cast

from redraft.service.app import create_app
from redraft.service.keys import Keys
from redraft.service.metrics import Metrics
from redraft.service.service import Service

__all__ = ["openapi"]


class _Shape:
    """As much of a service as routes ask for before there is a request."""

    metrics = Metrics(lambda: 0)
    memory = None


def openapi() -> str:
    """The document as text, the same on every machine."""
    app = create_app(cast(Service, _Shape()), Keys({}))
    return json.dumps(app.openapi(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(openapi(), end="")
