"""Plain ASGI middleware around the whole application: limits on bodies, one shape of errors, counts, safe headers."""

import asyncio
import json
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redraft.service.errors import ApiError
from redraft.service.metrics import Metrics

__all__ = ["Guard", "send_error"]

log = logging.getLogger(__name__)

SAFE_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"),
]


class Guard:
    """Reads a body whole, up to a limit and for a limited time, before anything else happens.

    largest: bytes. patience: seconds that a body may take.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, largest: int, patience: float):
        self.app, self.metrics, self.largest, self.patience = app, metrics, largest, patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *SAFE_HEADERS]
            await send(message)

        try:
            body = await self._body(scope, receive)
            await self.app(scope, _replay(body, receive), counted)
        except ApiError as error:
            if not status:
                await send_error(error, counted)
        except Exception:
            log.exception("%s failed", _route(scope))
            if not status:
                await send_error(ApiError(500, "internal", "something went wrong here; try again", True), counted)
        finally:
            self.metrics.requests.labels(_route(scope), str(status)).inc()
            self.metrics.seconds.labels(_route(scope)).observe(time.perf_counter() - started)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.largest:
            raise self._too_large()
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.patience):
                while True:
                    message = await receive()
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self.largest:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise ApiError(408, "too_slow", "the body did not arrive in time; send it again", True) from None

    def _too_large(self) -> ApiError:
        return ApiError(413, "too_large", f"the body has more than {self.largest:,} bytes; send less at once")


async def send_error(error: ApiError, send: Send) -> None:
    """Send an error as JSON."""
    body = json.dumps(error.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once, then what really follows."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _route(scope: Scope) -> str:
    """The route's pattern, so that ids do not multiply the counters."""
    return getattr(scope.get("route"), "path", "other")
