"""`redraft serve`: a run behind HTTP."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from redraft.decode.correction import Correction
from redraft.device import Precision
from redraft.records import MAX_COUNT, InputError, check_above, check_between, check_least

__all__ = ["ServeConfig", "main"]


@dataclass(frozen=True)
class ServeConfig:
    """Serve a run over HTTP."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    data: Path | None = None
    """Data set it was trained on: its users are known from the start."""
    host: str = "127.0.0.1"
    """Address to listen on; any but this machine's own needs API keys."""
    port: int = 8000
    """Port to listen on."""
    keys: Path | None = None
    """JSON file of API keys, {NAME: {key, scopes}} with scopes of read, write, admin [variable REDRAFT_KEYS]."""
    state: Path | None = None
    """Folder for the journals of events and exposures, and for the embedded store [RUN.state, beside the run]."""
    experiment: Path | None = None
    """TOML file of experiments, read again when it changes; its arms' runs are served beside RUN."""
    store: str | None = None
    """Where users and items are remembered: sqlite:PATH, redis://HOST:PORT/0, postgresql://USER@HOST/DATABASE
    [sqlite:STATE/store.sqlite]."""
    keep_events: int = 500
    """Newest events kept a user."""
    keep_days: float = 365.0
    """Days without an event after which a user is forgotten."""
    beams: int | None = None
    """Beam budget [50, or all items of a smaller catalogue]."""
    correction: Correction = field(default_factory=Correction)
    """For runs that correct themselves."""
    precision: Precision = "auto"
    """Matrix products: bfloat16, float32, or by what the processor can; scores are float32."""
    device: str = "cpu"
    """Where to compute: cpu, cuda."""
    queue: int = 64
    """Requests that may wait; more are turned away with 429."""
    batch: int = 8
    """Most requests computed together."""
    wait_ms: float = 2.0
    """How long the oldest request waits for others to share a batch with."""
    deadline_ms: int = 1000
    """Time to answer, where the caller does not give one."""
    drain_seconds: int = 30
    """Time for requests in flight after SIGTERM."""


def main(config: ServeConfig) -> None:
    """Load, warm, listen, and drain on SIGTERM.

    Raises InputError if the packages for serving are missing, and for settings that cannot work.
    """
    check_between(0, 65535, port=config.port)
    counts = {name: getattr(config, name) for name in ("queue", "batch", "deadline_ms", "keep_events")}
    check_between(1, MAX_COUNT, **counts)
    check_between(0, MAX_COUNT, drain_seconds=config.drain_seconds)
    check_above(0, keep_days=config.keep_days)
    check_least(0, wait_ms=config.wait_ms)
    try:
        from redraft.service.process import serve
    except ModuleNotFoundError as error:
        raise InputError(
            f"serving needs {error.name}, which is not installed; run: pip install 'redraft[serve]'"
        ) from None
    serve(config)
