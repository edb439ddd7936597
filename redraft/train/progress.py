"""What a training loop shows while it runs and what it leaves in its log."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from redraft.files import atomic_file, write_failures_named
from redraft.records import InputError

__all__ = ["check_tensorboard", "keep_epochs", "log_metrics", "progress_bar", "read_metrics"]


SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def progress_bar(name: str, total: int, *, completed: int = 0, shown: bool = True) -> Iterator[Callable[..., None]]:
    """A bar with counts, rate and time left; call what it yields after each step with a line on how it goes.

    Its second argument is how many steps were done, 1 if not given. Where the output is no terminal, a line stands in
    for the bar twice a minute and at the end.
    """
    if shown and not sys.stdout.isatty():
        yield _Lines(name, total, completed)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _RateColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), disable=not shown) as bar:
        task = bar.add_task(name, total=total, completed=completed)

        def advance(status: str, steps: int = 1) -> None:
            bar.update(task, advance=steps, description=f"{name} {status}")

        yield advance


class _Lines:
    """What a log shows instead of a bar."""

    def __init__(self, name: str, total: int, done: int):
        self.name, self.total, self.done, self.first = name, total, done, done
        self.started = self.said = time.monotonic()

    def __call__(self, status: str, steps: int = 1) -> None:
        self.done += steps
        now = time.monotonic()
        if now - self.said >= SECONDS_BETWEEN_LINES or (self.done == self.total and self.first < self.total):
            self.said, spent = now, now - self.started
            rate = (self.done - self.first) / max(spent, 1e-9)
            print(f"{self.name} {status}: {self.done:,} of {self.total:,}, {spent:,.0f} s, {rate:,.1f}/s", flush=True)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Steps per second, of late while the bar moves and overall when it is full."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


def check_tensorboard() -> None:
    """Raise InputError if TensorBoard is not installed: better before the first epoch than after it."""
    if find_spec("tensorboard") is None:
        raise InputError("TensorBoard is not installed; run `pip install redraft[track]`, or leave it off")


def log_metrics(path: Path, metrics: Mapping[str, Any], *, tensorboard: bool = False) -> None:
    """Append one line of JSON, and the same numbers by "step" to TensorBoard beside the file if asked."""
    with write_failures_named(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")
    if tensorboard:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(path.parent)) as writer:
            for name, value in metrics.items():
                writer.add_scalar(name, value, int(metrics["step"]))


def keep_epochs(path: Path, n_epochs: int) -> None:
    """Drop the lines of a log after its first n_epochs epochs: a resumed run logs those epochs again."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines = [line for line in text.splitlines(keepends=True) if _epoch(line) <= n_epochs]
    with atomic_file(path) as partial:
        partial.write_text("".join(lines), encoding="utf-8")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, none if there is no log, and without one that was being written when a run was killed."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return [line for line in map(_parsed, lines) if line]


def _epoch(line: str) -> float:
    epoch = _parsed(line).get("epoch")
    return epoch if isinstance(epoch, (int, float)) else math.inf


def _parsed(line: str) -> dict[str, Any]:
    """The object of a line; empty for what is none, such as a line that was cut off."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
