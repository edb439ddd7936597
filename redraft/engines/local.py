"""Tasks in processes of this machine; a task that is alone runs in this one."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from redraft.engines.tasks import Task, UnfinishedError, nothing, perform

__all__ = ["HERE", "ONE_THREAD", "InProcesses", "end_with", "environment", "in_processes"]

ONE_THREAD = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""For worker processes, which share the cores among themselves."""


class InProcesses:
    """A pool of processes, started when there are two tasks to do at a time."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def run(self, folder: Path, tasks: Sequence[Task], done: Callable[[Task], object] = nothing) -> None:
        """See `Engine`."""
        if self._processes == 1 or len(tasks) == 1:
            for task in tasks:
                perform(folder, task)
                done(task)
            return
        with environment(ONE_THREAD):
            pool = self._pool = self._pool or ProcessPoolExecutor(
                self._processes, multiprocessing.get_context("spawn"), end_with, (os.getpid(),)
            )
            calls = {pool.submit(perform, folder, task): task for task in tasks}
            try:
                for call in as_completed(calls):
                    call.result()
                    done(calls[call])
            except BrokenProcessPool:
                raise UnfinishedError(f"{folder}: a worker process was ended, for want of memory perhaps") from None
            finally:
                for call in calls:
                    call.cancel()
                wait(calls)  # nothing is written any more when the caller goes on

    def close(self) -> None:
        """End the processes, those at work when their task is done."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


HERE = InProcesses(1)
"""This process alone."""


@contextmanager
def in_processes(processes: int) -> Iterator[InProcesses]:
    """The engine for a block."""
    engine = InProcesses(processes)
    try:
        yield engine
    finally:
        engine.close()


@cache
def end_with(parent: int) -> None:
    """Have this process end soon after the one that started it, which may be killed without telling anybody."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables as processes that start in the block get them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
