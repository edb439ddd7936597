"""One process: a run is loaded and warmed, a port is opened, and SIGTERM lets requests in flight finish."""

import logging
import socket
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from redraft.checkpoint import check_same_items
from redraft.data.store import load_dataset
from redraft.device import find_device, use_half
from redraft.recommender import check_used
from redraft.records import InputError
from redraft.service.app import create_app
from redraft.service.keys import load_keys
from redraft.service.live import LiveModel
from redraft.service.models import Models
from redraft.service.served import Servable, load_servable
from redraft.service.service import Service, Settings
from redraft.service.store import Limits, StoreUnavailableError, open_store
from redraft.service.trials import Trials
from redraft.service.verb import ServeConfig

__all__ = ["make_service", "serve"]


KEEP_ALIVE_SECONDS = 75
"""Longer than load balancers and clients keep a connection, so that none sends a request into one that closes."""


def serve(config: ServeConfig) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises InputError for a host that others reach without API keys, a port in use, and as `make_service`.
    """
    keys = load_keys(config.keys)
    if not keys and not _is_loopback(config.host):
        raise InputError(f"host {config.host}: others could reach it, and there are no API keys; pass --keys FILE")
    listener = _listen(config.host, config.port)
    service = make_service(config)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    about = uvicorn.Config(
        create_app(service, keys),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=config.drain_seconds,
    )
    host, port = listener.getsockname()[:2]
    print(f"serving {config.run} ({service.served.fingerprint}) on http://{host}:{port}", flush=True)
    _Server(about, service).run(sockets=[listener])


def make_service(config: ServeConfig, clock: Callable[[], float] = time.time) -> Service:
    """The service of a configuration, warm.

    Raises InputError for a run, data set or experiment that cannot be used, and for a store that does not answer.
    """
    half = use_half(config.precision, find_device(config.device))

    def read(run: Path, **changes: Any) -> Servable:
        given = {"beams": config.beams, "correction": config.correction} | changes
        return load_servable(run, half=half, device=config.device, **given)

    model = read(config.run)
    dataset = None if config.data is None else load_dataset(config.data)
    if dataset is not None and config.data is not None:
        check_same_items(config.run, model.catalogue, config.data, dataset.catalogue)
    state = config.state or config.run.with_name(f"{config.run.name}.state")
    url = config.store or f"sqlite:{state / 'store.sqlite'}"
    try:
        store = open_store(url, Limits(config.keep_events, config.keep_days))
        changes = store.items()
    except StoreUnavailableError as error:
        where = url.rpartition("@")[2].partition("?")[0]  # no password
        raise InputError(f"store {where}: {error}; start it, or give another --store") from None
    models = Models(LiveModel(config.run.name, model, changes), config.run.absolute().parent, read)
    settings = Settings(config.queue, config.batch, config.wait_ms / 1000, config.deadline_ms / 1000)
    service = Service(models, store, dataset, state, settings, clock)
    if config.experiment is not None:

        def arm(changes: Mapping[str, Any]) -> LiveModel:
            run = Path(changes.get("run", config.run))
            rest = {name: value for name, value in changes.items() if name != "run"}
            model = read(run, **rest)
            if "correction" in rest:
                check_used({run: model}, rest["correction"])
            return LiveModel(run.name, model, store.items())

        service.trials = Trials(config.experiment, state / "experiments.json", models, arm, clock)
    service.warm()
    return service


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets requests finish, the second does not."""
        self.force_exit = self.should_exit
        self.should_exit = self.service.leaving = True


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
