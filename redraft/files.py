"""Whole or not at all: everything we write goes to a temporary name first and is renamed when it is complete."""

import ctypes
import json
import math
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from polars.exceptions import PolarsError
from safetensors import SafetensorError

from redraft.records import InputError

__all__ = [
    "atomic_directory",
    "atomic_file",
    "is_partial",
    "measured",
    "partial_of",
    "place_of",
    "read_json",
    "write_failures_named",
    "write_json",
]

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux's renameat2


@contextmanager
def write_failures_named(path: Path) -> Iterator[None]:
    """Raise InputError, naming `path`, if the block cannot write, because the disk is full for example.

    The libraries that write for us name no file, and two of them raise errors of their own.
    """
    try:
        yield
    except (OSError, PolarsError, SafetensorError) as error:
        if not isinstance(error, OSError) and "os error" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be written ({reason}); free some space there or write elsewhere") from error


def place_of(path: Path) -> Path:
    """Where a path leads: absolute, with links followed, even to what is not there.

    Raises InputError for a link that leads to itself.
    """
    place = Path(os.path.realpath(path))
    if place.is_symlink():
        raise InputError(f"{path}: a link that leads to itself; remove it or give another name")
    return place


def partial_of(place: Path) -> Path:
    """The temporary name beside a place under which this process writes it."""
    return place.with_name(f".{place.name}.partial-{platform.node()}-{os.getpid()}")


def is_partial(name: str) -> bool:
    """Whether a name is one of `partial_of`, by any process."""
    return fnmatch(name, ".*.partial-*")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block ends well, else remove it.

    A link is followed. Raises InputError as `write_failures_named`.
    """
    with write_failures_named(path):
        place = place_of(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place)
        partial = partial_of(place)
        try:
            partial.touch()
            mode = partial.stat().st_mode
            yield partial
            partial.chmod(mode)  # safetensors makes files that only their owner may read
            os.replace(partial, place)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` if the block ends well, else remove it.

    A link is followed, and a folder that already stands there is replaced: see `redraft.folders` for when it may be.
    Raises InputError as `write_failures_named`.
    """
    with write_failures_named(path):
        place = place_of(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place)
        partial = partial_of(place)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            if place.exists():
                _exchange(partial, place)
            else:
                os.replace(partial, place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders: at once where the system can, else by three renames."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    if swap and swap(AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(old), RENAME_EXCHANGE) == 0:
        return
    aside = new.with_name(f"{new.name}-old")
    os.replace(old, aside)
    try:
        os.replace(new, old)
    except OSError:
        os.replace(aside, old)
        raise
    os.replace(aside, new)


def _sweep(place: Path) -> None:
    """Remove what processes of this machine left behind that died as they wrote this place."""
    for leftover in place.parent.iterdir():
        if leftover.name.startswith(f".{place.name}.partial-") and _is_dead(leftover.name):
            if leftover.name.endswith("-old") and not place.exists():
                os.replace(leftover, place)
            elif leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _is_dead(name: str) -> bool:
    """Whether the process whose partial has this name is one of this machine that runs no more."""
    node, _, process = name.removesuffix("-old").partition(".partial-")[2].rpartition("-")
    if node not in ("", platform.node()) or not process.isdigit() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write readable JSON, whole or not at all.

    Raises InputError for NaN and infinity, which are no JSON; `measured` makes them null.
    """
    wrong = next(_not_finite(content), None)
    if wrong is not None:
        raise InputError(f"{path}: {wrong}, which JSON has no number for; give one that is finite")
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def measured(content: Any) -> Any:
    """A JSON value with null for each number that is not finite: what could not be measured is not known."""
    if isinstance(content, Mapping):
        return {name: measured(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [measured(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _not_finite(content: Any, where: str = "") -> Iterator[str]:
    """The numbers in a JSON value that are not finite, each with its place, such as "rows.3.time is nan"."""
    if isinstance(content, float) and not math.isfinite(content):
        yield f"{where} is {content}"
    if isinstance(content, Mapping):
        parts: Iterable[tuple[Any, Any]] = content.items()
    else:
        parts = enumerate(content) if isinstance(content, (list, tuple)) else ()
    for name, value in parts:
        yield from _not_finite(value, f"{where}.{name}" if where else str(name))


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises InputError, naming file and line, if it is missing, empty, not UTF-8 or not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line}: byte {error.object[error.start]:#04x} is not UTF-8; re-encode the file"
        ) from None
    if not text.strip():
        raise InputError(f"{path}: the file is empty; download or export it again")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}); the file may be cut off: get it again"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); get the file again") from None
