"""What every route asks of a request: who sends it, and until when.

The dependencies are coroutines, though they wait for nothing: FastAPI gives plain functions a thread each time. They
read headers themselves, since FastAPI takes long over declared ones.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ValidationError

from redraft.service.errors import invalid
from redraft.service.keys import Caller, Keys
from redraft.service.service import Service

__all__ = ["BEARER", "DEADLINE", "body_of", "caller_with", "parsed", "seconds_left"]

Body = TypeVar("Body", bound=BaseModel)

BEARER = HTTPBearer(auto_error=False, description="Authorization: Bearer KEY, where keys are in use")
LONGEST = 600_000
DEADLINE: dict[str, Any] = {
    "parameters": [
        {
            "name": "x-deadline-ms",
            "in": "header",
            "required": False,
            "description": "answer within so long",
            "schema": {"type": "integer", "minimum": 1, "maximum": LONGEST},
        }
    ]
}
"""What the OpenAPI document says of routes that heed a deadline."""


def body_of(shape: type[BaseModel]) -> dict[str, Any]:
    """What the OpenAPI document says of a route that reads headers and body itself, which takes half the time."""
    schema = {"$ref": f"#/components/schemas/{shape.__name__}"}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "security": [{BEARER.scheme_name: []}],
    }


def parsed(shape: type[Body], body: bytes) -> Body:
    """A body; raises RequestValidationError for one of another shape, or that is no JSON."""
    try:
        return shape.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([each | {"loc": ("body", *each["loc"])} for each in found]) from None


def caller_with(keys: Keys, scope: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, who must have a scope."""

    async def caller(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> Caller:
        return keys.caller(None if sent is None else sent.credentials.strip(), scope)

    return caller


def seconds_left(service: Service) -> Callable[..., Awaitable[float]]:
    """A dependency: the caller's deadline, or the service's. Raises ApiError 422 for one that cannot be."""

    async def seconds(request: Request) -> float:
        given = request.headers.get("x-deadline-ms")
        if given is None:
            return service.settings.deadline
        if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= LONGEST):
            raise invalid("invalid_request", f"header.x-deadline-ms: give whole milliseconds from 1 to {LONGEST:,}")
        return int(given) / 1000

    return seconds
