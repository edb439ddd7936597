"""Imports in parts on any engine, with something killed on the way."""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redraft.data.partitioned import How, import_in_parts
from redraft.data.raw import Columns
from redraft.data.table import read_table
from redraft.engines.tasks import Engine, Task, nothing, parts_of

__all__ = ["Deadly", "import_on", "write_log"]

ALONE = -1


@dataclass
class Deadly:
    """An engine of which a process dies in the middle: once, when a task of this function has written its files.

    flag: a file that says what was done then. victim: who dies with the worker: the driver, or the node on which the
    task runs; that of this number alone.
    """

    engine: Engine
    work: str
    flag: Path
    victim: int = ALONE
    node: int | None = None

    def run(self, folder: Path, tasks: Sequence[Task], done: Callable[[Task], object] = nothing) -> None:
        deadly = [
            Task(task.name, _dies_once, (self.flag, self.victim, self.node, task.work, *task.arguments))
            if task.work.__name__ == self.work
            else task
            for task in tasks
        ]
        self.engine.run(folder, deadly, done)


def _dies_once(
    out: Path, flag: Path, victim: int, node: int | None, work: Callable[..., dict[str, Any]], *arguments: Any
) -> dict[str, Any]:
    said = work(out, *arguments)
    done = list(out.parent.glob("*/done.json"))
    if not flag.exists() and len(done) > 2 and node in (None, os.getppid()):
        flag.write_text("\n".join(path.parent.name for path in done))
        for process in (victim, os.getpid())[victim == ALONE :]:
            os.kill(process, signal.SIGKILL)
    return said


def write_log(folder: Path) -> Path:
    """Files of 300 events each, with ties, duplicates and rare items."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(4):
        columns = {"user": rng.integers(60, size=300), "item": (40 * rng.random(300) ** 3).astype(np.int64)}
        frame = pl.DataFrame({**columns, "timestamp": 1_600_000_000 + rng.integers(40, size=300)})
        named = pl.format("u{}", "user").alias("user_id"), pl.format("i{}", "item").alias("item_id"), "timestamp"
        frame.select(named).write_parquet(folder / f"{n}.parquet")
    return folder


def import_on(engine: Engine, src: Path, folder: Path) -> dict[str, bytes]:
    """The bytes of what an import came to; its parts stand in `folder` while it goes on."""
    raw = read_table(src, None, Columns(), 150)
    with parts_of(folder / "parts", {"src": str(src)}) as parts:
        shards = import_in_parts(raw, How(3, "drop", seed=7, keep_short=True, rows=150), parts, engine)
        (folder / "out").mkdir(exist_ok=True)
        ids = shards.write(folder / "out")
        made = {path.name: path.read_bytes() for path in sorted((folder / "out").iterdir())}
    return made | {"users": repr(ids.to_list()).encode(), "items": repr(shards.item_ids.to_list()).encode()}
