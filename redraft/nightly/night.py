"""One night of a folder: where its things lie, what it depends on, and what of it is done."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redraft.files import read_json, write_json
from redraft.folders import Kind
from redraft.records import InputError

__all__ = ["CURRENT", "NIGHTS", "Night", "begin"]

STEPS = ("events", "data", "ids", "model", "gate", "lists", "end")
MANIFEST, CURRENT = "manifest.json", "current"
NIGHTS = Kind("nights", lambda path: (path / "nights").is_dir(), ("nights", "data", "runs"))


@dataclass(frozen=True)
class Night:
    """name: its number, such as 0002. parent: the night whose model is in service as this one begins, if there is one.

    What each step said of itself stands in a file of `notes`, which is written when the step is done.
    """

    folder: Path
    name: str
    parent: "Night | None" = None

    @property
    def notes(self) -> Path:
        """The folder of the night's notes, and of the events and items that it works on."""
        return self.folder / "nights" / self.name

    @property
    def data(self) -> Path:
        """The data set that it makes."""
        return self.folder / "data" / self.name

    @property
    def run(self) -> Path:
        """The run that it trains, with its lists and the verdict of its gate."""
        return self.folder / "runs" / self.name

    @property
    def before(self) -> "Night | None":
        """The night before this one, promoted or not."""
        earlier = [name for name in numbers(self.folder / "nights") if int(name) < int(self.name)]
        return Night(self.folder, earlier[-1]) if earlier else None

    def done(self, step: str) -> dict[str, Any] | None:
        """What a step said of itself; None if it is not done. Raises InputError for a damaged note."""
        note = self.notes / f"{step}.json"
        if not note.exists():
            return None
        said = read_json(note)
        if not isinstance(said, dict):
            raise InputError(f"{note}: not what a night notes; remove it, and the same command does this step again")
        return said

    def step(self, step: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do a step unless it is done, and note what it says; steps after one that is done again are done again."""
        said = self.done(step)
        if said is None:
            self.undo(step)
            said = work()
            write_json(self.notes / f"{step}.json", said)
        return said

    def undo(self, step: str) -> None:
        """Have a step, and all after it, done again."""
        for later in STEPS[STEPS.index(step) :]:
            (self.notes / f"{later}.json").unlink(missing_ok=True)

    @contextmanager
    def reading(self, step: str) -> Iterator[None]:
        """Say how to have it written again, if what a step wrote cannot be read in the block."""
        try:
            yield
        except InputError as error:
            what, _, _ = str(error).rpartition("; ")
            note = self.notes / f"{step}.json"
            raise InputError(f"{what or error}; remove {note}, and the same command writes it again") from None

    def check(self, step: str, place: Path, fingerprint: str) -> None:
        """Raise InputError unless what lies in a place is what a step wrote there."""
        said = self.done(step)
        if said is not None and said.get("fingerprint") != fingerprint:
            raise InputError(f"{place}: not what night {self.name} wrote there")


def begin(folder: Path, asked: Mapping[str, Any]) -> Night:
    """The night of a folder that was not finished, or else the next one.

    asked: the settings on which it depends. Raises InputError if the unfinished one was begun with others, and has got
    further than to look for events.
    """
    nights = [Night(folder, name) for name in numbers(folder / "nights")]
    if nights and nights[-1].done("events") is None:
        nights.pop()
    elif nights and nights[-1].done("end") is None:
        return _begun(nights[-1], asked)
    taken = [*(night.name for night in nights), *numbers(folder / "data"), *numbers(folder / "runs")]
    current = folder / "runs" / CURRENT
    parent = os.readlink(current) if current.is_symlink() else None
    night = Night(folder, f"{max(map(int, taken), default=0) + 1:04d}", _parent(folder, parent))
    write_json(night.notes / MANIFEST, {"parent": parent, "asked": _plain(asked)})
    return night


def _begun(night: Night, asked: Mapping[str, Any]) -> Night:
    manifest = read_json(night.notes / MANIFEST)
    if not isinstance(manifest, dict) or not {"parent", "asked"} <= manifest.keys():
        raise InputError(
            f"{night.notes / MANIFEST}: not a night's manifest; remove {night.notes} to begin another night"
        )
    before, now = manifest["asked"], _plain(asked)
    for setting in sorted(before.keys() | now.keys()):
        if before.get(setting) != now.get(setting):
            raise InputError(
                f"{night.notes}: begun with {setting} = {before.get(setting)}, now it is {now.get(setting)}; give "
                f"that again, or remove {night.notes} to begin another night"
            )
    return Night(night.folder, night.name, _parent(night.folder, manifest["parent"]))


def _parent(folder: Path, name: str | None) -> Night | None:
    return None if name is None else Night(folder, name)


def numbers(room: Path) -> list[str]:
    """The nights that have something in a room of the folder, in order."""
    names = [path.name for path in room.iterdir() if path.name.isdecimal()] if room.is_dir() else []
    return sorted(names, key=int)


def _plain(asked: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(asked), default=str))
    return plain
