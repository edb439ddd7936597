"""Which engine does work in parts: one record for all verbs that have any."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from redraft.engines.local import in_processes
from redraft.engines.ray import on_ray
from redraft.engines.tasks import Engine
from redraft.options import check_unread
from redraft.records import MAX_COUNT, check_between

__all__ = ["EngineOptions", "check_engine", "engine_of"]


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What the configs of such verbs have in common: where parts of the work are done, and how many at a time."""

    engine: Literal["local", "ray"] = "local"
    """In processes of this machine, or on Ray (needs redraft[ray])."""
    address: str | None = None
    """--engine ray: HOST:PORT of a cluster that this machine is a node of [RAY_ADDRESS, or a Ray of its own]."""
    processes: int | None = None
    """Processes that share the work, where it has more than one part [one per core; recommend: one]."""


def check_engine(options: EngineOptions) -> None:
    """Raise InputError for a number of processes that cannot be, before any work."""
    if options.processes is not None:
        check_between(1, MAX_COUNT, processes=options.processes)


@contextmanager
def engine_of(options: EngineOptions, default: int | None = None) -> Iterator[Engine]:
    """The engine for a block. default: how many processes where nobody says; one per core by default.

    Raises InputError for options that cannot be, and for an engine that is not installed or cannot be reached.
    """
    check_engine(options)
    processes = options.processes or default or os.cpu_count() or 1
    if options.engine == "local":
        check_unread(options, ["address"], "engine local")
        with in_processes(processes) as local:
            yield local
        return
    address = options.address or os.environ.get("RAY_ADDRESS")
    if address is not None:
        check_unread(options, ["processes"], "a Ray cluster, which knows how many it has room for,")
    with on_ray(address, processes) as ray:
        yield ray
