"""What a training loop shows while it runs and what it leaves in its log."""

import json
import math
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


@contextmanager
def progress_bar(name: str, total: int, *, completed: int = 0, shown: bool = True) -> Iterator[Callable[..., None]]:
    """A bar with counts, rate and time left; call what it yields after each step with a line on how it goes.

    Its second argument is how many steps were done, 1 if not given.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _RateColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), disable=not shown) as bar:
        task = bar.add_task(name, total=total, completed=completed)

        def advance(status: str, steps: int = 1) -> None:
            bar.update(task, advance=steps, description=f"{name} {status}")

        yield advance


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Steps a second, of late while the bar moves and overall when it is full."""
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
    return [found for found in map(_parsed, lines) if found]


def _epoch(line: str) -> float:
    epoch = _parsed(line).get("epoch")
    return epoch if isinstance(epoch, (int, float)) else math.inf


def _parsed(line: str) -> dict[str, Any]:
    """The object of a line; empty for what is none, such as a line that was cut off."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
