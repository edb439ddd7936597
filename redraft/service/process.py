"""One process: a run is loaded and warmed, a port is opened, and SIGTERM lets requests in flight finish."""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

import numpy as np
import uvicorn
from fastapi import FastAPI

from redraft.checkpoint import check_same_items
from redraft.data.store import load_dataset
from redraft.device import find_device, use_half
from redraft.recommender import load
from redraft.records import InputError
from redraft.service.app import create_app
from redraft.service.keys import load_keys
from redraft.service.people import People
from redraft.service.served import Served, fingerprint
from redraft.service.service import Service, Settings
from redraft.service.store import Limits, StoreUnavailableError, open_store
from redraft.service.verb import ServeConfig

__all__ = ["make_service", "serve"]


def serve(config: ServeConfig) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises InputError for a host that others reach without API keys, a port in use, and as `make_service`.
    """
    keys = load_keys(config.keys)
    if not keys and not _is_loopback(config.host):
        raise InputError(f"host {config.host}: others could reach it, and there are no API keys; pass --keys FILE")
    listener = _listen(config.host, config.port)
    service = make_service(config)
    app = create_app(service, keys)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    about = uvicorn.Config(
        _closing(app, service),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=config.drain_seconds,
    )
    host, port = listener.getsockname()[:2]
    print(f"serving {config.run} ({service.served.fingerprint}) on http://{host}:{port}", flush=True)
    _Server(about, service).run(sockets=[listener])


def make_service(config: ServeConfig) -> Service:
    """The service of a configuration, warm.

    Raises InputError for a run or data set that cannot be used, and for a store that does not answer.
    """
    half = use_half(config.precision, find_device(config.device))
    model = load(config.run, beams=config.beams, half=half, device=config.device, correction=config.correction)
    dataset = None if config.data is None else load_dataset(config.data)
    if dataset is not None and config.data is not None:
        check_same_items(config.run, model.catalogue, config.data, dataset.catalogue)
    url = config.store or f"sqlite:{state_folder(config.run) / 'store.sqlite'}"
    try:
        store = open_store(url, Limits(config.keep_events, config.keep_days))
    except StoreUnavailableError as error:
        raise InputError(f"store {url.partition('@')[2] or url}: {error}; start it or give another --store") from None
    everything = np.ones(model.ids.n_items, dtype=bool)
    served = Served(config.run.name, model, model.catalogue, everything, frozenset(), fingerprint(model))
    settings = Settings(config.queue, config.batch, config.wait_ms / 1000, config.deadline_ms / 1000)
    service = Service(served, People(store, dataset), settings)
    service.warm(served)
    return service


def state_folder(run: Path) -> Path:
    """Where a run's service keeps what it remembers: beside the run, since a run folder is never changed."""
    return run.with_name(f"{run.name}.state")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets requests finish, the second does not."""
        self.force_exit = self.should_exit
        self.should_exit = self.service.leaving = True


def _closing(app: FastAPI, service: Service) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app.router.lifespan_context = lifespan
    return app


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise InputError(f"{host}:{port}: {error.strerror or error}; choose another --port or --host") from None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
