"""Tasks on Ray, https://docs.ray.io: on a cluster, or in processes that are started for them and end with them."""

import os
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from redraft.engines.local import ONE_THREAD, end_with, environment
from redraft.engines.tasks import Task, UnfinishedError, nothing, perform
from redraft.records import InputError

__all__ = ["OnRay", "on_ray"]

REACHED = 10
"""Seconds until an address is taken for one where nobody answers."""
STORE = 100 << 20
"""Bytes of Ray's store of objects; tasks hand each other files."""
SAFE = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""One machine by itself, so that Ray listens on its loopback address alone."""


class OnRay:
    """Tasks on the Ray that this process is connected to, which does those of a lost worker or node again."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def run(self, folder: Path, tasks: Sequence[Task], done: Callable[[Task], object] = nothing) -> None:
        """See `Engine`."""
        ray, here = self._ray, Path.cwd()
        remote = ray.remote(_perform)
        calls = {remote.options(name=task.name, num_gpus=task.gpus).remote(here, folder, task): task for task in tasks}
        left = list(calls)
        try:
            while left:
                (call,), left = ray.wait(left)
                ray.get(call)
                done(calls[call])
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ray.exceptions.RayError):
                raise InputError(f"--engine ray: {_line(error.cause)}; install the same redraft on all nodes") from None
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise UnfinishedError(f"{folder}: Ray lost a worker or a node too often ({_line(error)})") from None
        finally:
            for call in left:
                ray.cancel(call)
            if left:  # nothing is written any more when the caller goes on
                ray.wait(left, num_returns=len(left))


def _perform(here: Path, folder: Path, task: Task) -> None:
    """`perform` on any node, with paths that are relative to where the command runs."""
    end_with(os.getppid())
    with suppress(OSError):
        os.chdir(here)
    if not folder.is_dir():
        raise InputError(f"{folder}: not on {socket.gethostname()}; write to a folder that all nodes of Ray share")
    perform(folder, task)


@contextmanager
def on_ray(address: str | None, processes: int) -> Iterator[OnRay]:
    """The engine for a block: on the Ray that this process is connected to, on a cluster, or on one of its own.

    processes: of its own.
    Raises InputError if Ray is not installed or cannot be reached, and UnfinishedError if it does not start.
    """
    with TemporaryDirectory(prefix="redraft-ray-", ignore_cleanup_errors=True) as scratch:
        if address is None:
            around = {**SAFE, **ALONE, **ONE_THREAD, "RAY_AUTH_TOKEN": _token()}
            own = {
                "num_cpus": processes,
                "include_dashboard": False,
                "object_store_memory": STORE,
                "_temp_dir": scratch,
            }
            how = {"address": "local", **own}
        else:
            _check_reached(address)
            around = {name: os.environ.get(name, value) for name, value in SAFE.items()}
            how = {"address": address, "runtime_env": {"env_vars": ONE_THREAD}}
        with environment(around):
            ray = _imported()
            joined = ray.is_initialized()
            if not joined:
                _start(ray, address, how)
        try:
            yield OnRay(ray)
        finally:
            if not joined:
                ray.shutdown()


@cache
def _token() -> str:
    """What Ray's processes know each other by, in their environments alone: one per process, as Ray remembers it."""
    return secrets.token_hex(32)


def _imported() -> Any:
    try:
        import ray
    except ImportError:
        raise InputError("--engine ray: Ray is not installed; pip install 'redraft[ray]'") from None
    return ray


def _check_reached(address: str) -> None:
    """Raise InputError unless someone answers at HOST:PORT; Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise InputError(f"--address: {address!r} is no HOST:PORT; give that of the head of a Ray cluster")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHED).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--address: nobody answers at {address} ({error}); start Ray there, or give another"
        ) from None


def _start(ray: Any, address: str | None, how: dict[str, Any]) -> None:
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **how)
    except Exception as error:  # Ray raises bare ones, for a machine that is too busy to start it for example
        if address is None:
            raise UnfinishedError(f"--engine ray: Ray does not start ({_line(error)})") from None
        raise InputError(f"--address: the Ray at {address} cannot be joined ({_line(error)}); see its logs") from None


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
