"""A run in parts: each task is a function that writes one folder, whole or not at all, and what is done is kept."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from redraft.files import atomic_directory, place_of, read_json, write_failures_named, write_json
from redraft.folders import LOCK, alone_in
from redraft.records import InputError

__all__ = ["Engine", "Parts", "Task", "UnfinishedError", "nothing", "parts_of", "perform"]

BLOCK = 1 << 22
MANIFEST, DONE = "manifest.json", "done.json"

Work = Callable[..., dict[str, Any]]
"""From the folder to write and further arguments to what is to be said of it, as JSON has it."""


class UnfinishedError(InputError):
    """What stopped a run without being wrong with its input: what is done is kept, and the same command goes on."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message.removesuffix(GO_ON)}{GO_ON}")


GO_ON = "; the same command goes on from what is done"


@dataclass(frozen=True)
class Task:
    """A call of a function of a module. name: of the folder that it writes. gpus: that it needs, on Ray."""

    name: str
    work: Work
    arguments: tuple[Any, ...] = ()
    gpus: int = 0


def nothing(_: Task) -> None:
    """For whoever need not know that a task is done."""


class Engine(Protocol):
    """Runs tasks somewhere, in any order, and returns when all are done."""

    def run(self, folder: Path, tasks: Sequence[Task], done: Callable[[Task], object] = nothing) -> None:
        """`perform` each task and call `done`, in this process, when it is done.

        Raises what a task that fails raises, and UnfinishedError where a process was lost.
        """


def perform(folder: Path, task: Task) -> None:
    """Do one task: its folder appears when it is complete, with sizes and sums of its files in done.json."""
    place = folder / task.name
    try:
        with atomic_directory(place) as out:
            result = task.work(out, *task.arguments)
            write_json(out / DONE, {"result": result, "files": _files(out)})
    except InputError as error:
        if isinstance(error.__cause__, OSError):
            raise UnfinishedError(str(error)) from error
        raise


class Parts:
    """The folder of a run in parts. redone: names of tasks whose files were found damaged and are made again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redone: list[str] = []

    def finish(self, engine: Engine, tasks: Sequence[Task]) -> list[Any]:
        """Do what is not done of these tasks; returns what each says of itself, in their order.

        Raises InputError for a part that is gone or damaged when all should be there, and as the engine.
        """
        missing = self.missing(tasks)
        if missing:
            engine.run(self.folder, missing)
        return [self.result(task.name) for task in tasks]

    def missing(self, tasks: Sequence[Task]) -> list[Task]:
        """Those that are not done."""
        return [task for task in tasks if not self._is_done(task)]

    def result(self, name: str) -> Any:
        """What a finished task said of itself."""
        try:
            return read_json(self.folder / name / DONE)["result"]
        except (InputError, KeyError, TypeError):
            raise UnfinishedError(f"{self.folder / name}: this part is missing or damaged") from None

    def _is_done(self, task: Task) -> bool:
        place = self.folder / task.name
        if not place.exists():
            return False
        try:
            whole = read_json(place / DONE)["files"] == _files(place)
        except (InputError, KeyError, TypeError):
            whole = False
        if not whole:
            self.redone.append(task.name)
        return whole


@contextmanager
def parts_of(folder: Path, about: Mapping[str, Any]) -> Iterator[Parts]:
    """The parts of a run, kept for the next try if the block is stopped, removed if it ends or its input is wrong.

    about: what the run depends on; parts of anything else are not used.
    Raises InputError while another process is at the same run.
    """
    folder = place_of(folder)
    said = json.loads(json.dumps(dict(about)))
    try:
        with alone_in(folder), write_failures_named(folder):
            if _about(folder) != said:
                _clear(folder)
                write_json(folder / MANIFEST, said)
            try:
                yield Parts(folder)
            except InputError as error:
                if not isinstance(error, UnfinishedError) or not any(folder.glob(f"*/{DONE}")):
                    _clear(folder)
                raise
            _clear(folder)
    finally:
        with suppress(OSError):  # parts that are kept keep it
            folder.rmdir()


def _about(folder: Path) -> Any:
    try:
        return read_json(folder / MANIFEST)
    except InputError:
        return None


def _clear(folder: Path) -> None:
    """Remove what a run wrote; the lock of this process stays.

    For a moment there may be a worker of a run that was killed, which writes its last part.
    """
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink(missing_ok=True)


def _files(folder: Path) -> dict[str, list[Any]]:
    """Size and sum of every file of a task, by its name."""
    return {path.name: [path.stat().st_size, _sum(path)] for path in sorted(folder.iterdir()) if path.name != DONE}


def _sum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
