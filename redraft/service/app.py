"""The HTTP face of the service: thin routes, one shape of errors."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from redraft.records import InputError
from redraft.service.administering import add_admin_routes
from redraft.service.asking import BEARER, DEADLINE, body_of, caller_with, parsed, seconds_left
from redraft.service.errors import ApiError
from redraft.service.guard import Guard
from redraft.service.keys import Caller, Keys
from redraft.service.listing import Listing
from redraft.service.remembering import add_memory_routes
from redraft.service.schemas import Answer, Answers, Asked, AskedTogether, Failure
from redraft.service.service import Service

__all__ = ["create_app"]

log = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("static") / "index.html"
LARGEST_BODY = 1 << 20
BODY_SECONDS = 10.0
RENEW_SECONDS = 1.0
FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": Failure} for status in (400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 504, 507)
}


def create_app(service: Service, keys: Keys) -> FastAPI:
    """The application over a service that is ready to answer; it closes the service when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        renewing = asyncio.create_task(_renew(service))
        yield
        renewing.cancel()
        service.close()

    app = FastAPI(title="redraft", version="1", docs_url=None, redoc_url=None, responses=FAILURES, lifespan=lifespan)
    app.state.service = service
    app.add_middleware(Guard, metrics=service.metrics, largest=LARGEST_BODY, patience=BODY_SECONDS)
    app.add_exception_handler(ApiError, _answer_api_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    _add_health_routes(app, service)
    _add_list_routes(app, service, keys)
    add_memory_routes(app, service, keys)
    add_admin_routes(app, service, keys)
    app.mount("/static", StaticFiles(packages=[("redraft.service", "static")]))
    return app


async def _renew(service: Service) -> None:
    """Now and then see what other processes did to the items, and put away hours that are over."""
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        try:
            await service.memory.renew()
            await asyncio.to_thread(service.memory.seal)
            await service.renew_trials()
        except ApiError as error:
            log.warning("items are not renewed: %s", error.message)
        except InputError as error:
            log.warning("hours are not put away: %s", error)
        except Exception:
            log.exception("items are not renewed, or hours not put away")


def _add_health_routes(app: FastAPI, service: Service) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        """A page on which one can see how a list comes to be."""
        return FileResponse(PAGE, media_type="text/html")

    @app.get("/livez", tags=["health"])
    async def livez() -> dict[str, str]:
        """200 while the process can do its work; restart it otherwise."""
        if not service.engine.alive:
            raise ApiError(503, "engine_dead", "the engine has stopped", True)
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"])
    async def readyz() -> dict[str, str]:
        """200 if requests should be sent here."""
        problem = service.not_ready()
        if problem is not None:
            raise problem
        return {"status": "ready", "model": service.served.fingerprint}

    @app.get("/metrics", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        """Counters in Prometheus's text form."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_list_routes(app: FastAPI, service: Service, keys: Keys) -> None:
    Reader = Annotated[Caller, Depends(caller_with(keys, "read"))]
    Timeout = Annotated[float, Depends(seconds_left(service))]

    reader, left = caller_with(keys, "read"), seconds_left(service)

    @app.post("/v1/recommend", response_model=Answer, tags=["recommend"], openapi_extra=DEADLINE | body_of(Asked))
    async def recommend(request: Request) -> Response:
        """The k best items for a user or a history."""
        caller, timeout = await reader(await BEARER(request)), await left(request)
        [listing] = await service.recommend([parsed(Asked, await request.body())], caller, timeout)
        return _json(_answer(listing))

    @app.post("/v1/recommend/batch", response_model=Answers, tags=["recommend"], openapi_extra=DEADLINE)
    async def recommend_batch(together: AskedTogether, caller: Reader, timeout: Timeout) -> Response:
        """Lists for several requests, by one model."""
        listings = await service.recommend(together.requests, caller, timeout)
        return _json({"answers": [_answer(listing) for listing in listings]})

    @app.get("/v1/explain/{request_id}", tags=["recommend"], openapi_extra=DEADLINE)
    async def explain(request_id: str, caller: Reader, timeout: Timeout) -> dict[str, Any]:
        """How an earlier list came about: codes, or drafts, doubts and corrections."""
        return await service.explain(request_id, caller, timeout)


def _answer(listing: Listing) -> dict[str, Any]:
    """An Answer. Whole lists of models take as long as the rest of a request, and nothing of it needs a check."""
    served = listing.served
    return {
        "request_id": listing.request_id,
        "model": served.fingerprint,
        "items": [served.card(item) | {"score": score} for item, score in zip(listing.items, listing.scores)],
        "explanation": listing.explanation,
    }


def _json(content: dict[str, Any]) -> Response:
    return Response(to_json(content), media_type="application/json")


def _error(error: ApiError) -> Response:
    return Response(json.dumps(error.body()), error.status, error.headers, "application/json")


async def _answer_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    request.app.state.service.metrics.rejected.labels(error.code).inc()
    return _error(error)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return _error(ApiError(422, "invalid_request", f"{place}: {first['msg']}"))


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "no_such_address", 405: "no_such_method"}.get(error.status_code, "bad_request")
    return _error(ApiError(error.status_code, code, str(error.detail), headers=dict(error.headers or {})))
