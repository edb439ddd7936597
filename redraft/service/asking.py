"""What every route asks of a request: who sends it, and until when.

The dependencies are coroutines, though they wait for nothing: FastAPI gives plain functions a thread each time.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Header

from redraft.service.keys import Caller, Keys
from redraft.service.service import Service

__all__ = ["caller_with", "seconds_left"]


def caller_with(keys: Keys, scope: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, who must have a scope."""

    async def caller(
        authorization: Annotated[str | None, Header(description="Bearer KEY, where keys are in use")] = None,
    ) -> Caller:
        kind, _, key = (authorization or "").partition(" ")
        return keys.caller(key.strip() if kind.lower() == "bearer" else None, scope)

    return caller


def seconds_left(service: Service) -> Callable[..., Awaitable[float]]:
    """A dependency: the caller's deadline, or the service's."""

    async def seconds(
        x_deadline_ms: Annotated[int | None, Header(ge=1, le=600_000, description="answer within so long")] = None,
    ) -> float:
        return service.settings.deadline if x_deadline_ms is None else x_deadline_ms / 1000

    return seconds
