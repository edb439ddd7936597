"""What may be written where: only what is new, empty or of the same kind, and what would be lost needs a flag."""

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from polars.exceptions import PolarsError
from safetensors import SafetensorError, safe_open

from redraft.files import atomic_directory, is_partial, partial_of, place_of, write_failures_named
from redraft.records import InputError

__all__ = [
    "BASELINE",
    "BASELINE_RUN",
    "DATASET",
    "DRAFTS",
    "EXPORT",
    "KINDS",
    "MODEL",
    "ORACLE",
    "RQVAE",
    "RUN",
    "Kind",
    "alone_in",
    "check_file",
    "check_place",
    "check_replace",
    "clear",
    "held_in",
    "json_object",
    "new_folder",
    "safetensors_metadata",
]

LOCK = ".lock"
NAMED = 5


@dataclass(frozen=True)
class Kind:
    """What a folder or a file holds.

    name: with its article. marked: whether a folder or file that exists is of this kind. files: patterns of the names
    that are written into such a folder, the most precious first.
    """

    name: str
    marked: Callable[[Path], bool]
    files: tuple[str, ...] = ()


def json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty for any other content."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    with safe_open(path, "np") as file:
        return file.metadata() or {}


def _is_run(path: Path) -> bool:
    begun = (path / "config.json").exists() and {"config", "fingerprints"} <= json_object(path / "config.json").keys()
    others = _is_begun_baseline(path) or (path / "fitted").exists() or (path / "drafts.json").exists()
    begun = begun or (path / "reflection.safetensors").exists()
    return _is_model(path) or (begun and not others) or (path / "drafts" / "drafts.json").exists()


def _is_begun_baseline(path: Path) -> bool:
    config = json_object(path / "config.json").get("config") if (path / "config.json").exists() else None
    return isinstance(config, dict) and "method" in config


def _is_model(path: Path) -> bool:
    return not (path / "config.json").exists() and all((path / name).exists() for name in MODEL.files)


DATASET = Kind(
    "a data set",
    lambda path: json_object(path / "meta.json").get("format") == "redraft-dataset",
    (
        "semantic_ids.*",
        "*.rqvae",
        "meta.json",
        "catalogue.parquet",
        "users.parquet",
        "items.npy",
        "offsets.npy",
        "times.npy",
    ),
)
MODEL = Kind("a saved model", _is_model, ("model.safetensors", "semantic_ids.safetensors", "catalogue.parquet"))
RUN = Kind(
    "a run",
    _is_run,
    (
        *("model.safetensors", "state.safetensors", "drafts", "metrics.jsonl", "config.json", "labels.json"),
        *("reflection.safetensors", "generator", "tower"),
        *("ranks-*.parquet", "test-*.json", "trained.json", "events.out.tfevents.*", "fitted", *MODEL.files),
    ),
)
EXPORT = Kind(
    "an export",
    lambda path: str(json_object(path / "export.json").get("format")).startswith("redraft-export"),
    ("*.pt2", "export.json", "catalogue.parquet"),
)
BASELINE = Kind(
    "a fitted baseline",
    lambda path: "baseline" in safetensors_metadata(path / "model.safetensors"),
    ("model.safetensors",),
)
BASELINE_RUN = Kind(
    "a run of a baseline",
    lambda path: (path / "fitted").is_dir() or _is_begun_baseline(path),
    (
        *("fitted", "catalogue.parquet", "config.json", "metrics.jsonl", "trained.json"),
        *("ranks-*.parquet", "test-*.json"),
    ),
)
ORACLE = Kind("an oracle", lambda path: (path / "process.npz").exists(), ("process.npz",))
DRAFTS = Kind("drafts", lambda path: (path / "drafts.json").exists(), ("drafts.json", "part-*.npy"))
RQVAE = Kind(
    "the training of an RQ-VAE",
    lambda path: path.suffix == ".rqvae" and (path / "metrics.jsonl").exists(),
    ("model.safetensors", "state.safetensors", "metrics.jsonl"),
)
KINDS = (DATASET, MODEL, BASELINE_RUN, RUN, EXPORT, BASELINE, ORACLE, DRAFTS, RQVAE)


def check_place(path: Path, kind: Kind) -> None:
    """Raise InputError unless a folder is new, empty or of this kind, and can be written; links are followed.

    A new one must not lie inside a folder of any kind.
    """
    _check_kind(path, kind)
    with write_failures_named(path):
        _try_to_write(place_of(path) / kind.files[0])


def check_replace(path: Path, kind: Kind, *, replace: bool) -> None:
    """Raise InputError as `check_place`, and unless a folder is empty or may be replaced and holds nothing but ours."""
    _check_loss(path, kind, replace=replace)
    with write_failures_named(path):
        _try_to_write(place_of(path))


@contextmanager
def new_folder(path: Path, kind: Kind, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` if the block ends well.

    Raises InputError as `check_replace`, also for what came to be there in the meantime.
    """
    check_replace(path, kind, replace=replace)
    with atomic_directory(path) as partial:
        yield partial
        _check_loss(path, kind, replace=replace)


def check_file(path: Path, kind: Kind, *, replace: bool) -> None:
    """Raise InputError unless a file is new, or of this kind and may be replaced; and unless it can be written."""
    place = place_of(path)
    with write_failures_named(path):
        if place.exists():
            if not place.is_file():
                raise InputError(f"{path}: not a file; give the name of {kind.name}")
            if not _marked(kind, place):
                raise InputError(f"{path}: exists and is not {kind.name}; give another name")
            if not replace:
                raise InputError(f"{path}: holds {kind.name}; pass --replace to write over it, or give another name")
        _try_to_write(place)


def held_in(path: Path) -> list[str]:
    """What a folder holds, apart from traces of processes that write or wrote there."""
    place = place_of(path)
    names = sorted(entry.name for entry in place.iterdir()) if place.is_dir() else []
    return [name for name in names if name != LOCK and not is_partial(name)]


def clear(path: Path, kind: Kind) -> None:
    """Remove the files of a folder that were written there as of this kind; folders in it stay."""
    place = place_of(path)
    for name in held_in(place):
        if _is_ours(name, kind) and not (place / name).is_dir():
            (place / name).unlink()


@contextmanager
def alone_in(path: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made if need be, until the block or this process ends.

    Raises InputError if another process is in it.
    """
    with write_failures_named(path):
        place = place_of(path)
        made = [folder for folder in (place, *place.parents) if not folder.exists()]
        file = _locked(path, place / LOCK)
    try:
        yield
    finally:
        (place / LOCK).unlink(missing_ok=True)
        os.close(file)
        with suppress(OSError):  # whatever is not empty stays, and so do its parents
            for folder in made:
                folder.rmdir()


def _locked(path: Path, lock: Path) -> int:
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # a process that was done has just removed the empty folders that it had made
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise InputError(f"{path}: another process is writing there; wait for it, or give another folder") from None
        except OSError:
            return file  # a file system without locks
        if os.fstat(file).st_nlink:
            return file
        os.close(file)  # whoever had it removed it between our opening and our locking it


def _check_kind(path: Path, kind: Kind) -> None:
    place = place_of(path)
    with write_failures_named(path):
        if place.exists() and not place.is_dir():
            raise InputError(f"{path}: is a file, and a folder is written; give another name")
        held = held_in(place)
        if held and not _marked(kind, place):
            content = next((other.name for other in KINDS if _marked(other, place)), _names(held))
            raise InputError(f"{path}: holds {content}, not {kind.name}; give a new or empty folder")
        if not held:
            _check_not_inside(path, place)


def _check_loss(path: Path, kind: Kind, *, replace: bool) -> None:
    _check_kind(path, kind)
    place = place_of(path)
    held = held_in(place)
    foreign = [name for name in held if not _is_ours(name, kind)]
    if foreign:
        raise InputError(
            f"{path}: beside {kind.name} it holds {_names(foreign)}; move that elsewhere or give another folder"
        )
    if held and not replace:
        ordered = sorted(held, key=lambda name: next(n for n, p in enumerate(kind.files) if fnmatch(name, p)))
        raise InputError(
            f"{path}: holds {kind.name}; pass --replace (replace=True) to lose its {_names(ordered)}, "
            "or give another folder"
        )
    if place_of(Path()).is_relative_to(place):
        raise InputError(f"{path}: the program runs in this folder; run it elsewhere, or give another folder")


def _check_not_inside(path: Path, place: Path) -> None:
    for outer, inner in zip(place.parents, (place, *place.parents)):
        for kind in KINDS:
            if _marked(kind, outer) and not _is_ours(inner.name, kind):
                raise InputError(f"{path}: lies inside {kind.name}, {outer}; give a folder elsewhere")


def _try_to_write(place: Path) -> None:
    """Raise OSError if no file or folder of this name can be made, leaving no trace."""
    if place.parent.is_dir():
        probe = partial_of(place)
        probe.touch()
        probe.unlink()
    else:
        nearest = next(folder for folder in place.parents if folder.exists())
        tempfile.TemporaryFile(dir=nearest).close()


def _is_ours(name: str, kind: Kind) -> bool:
    return any(fnmatch(name, pattern) for pattern in kind.files)


def _marked(kind: Kind, place: Path) -> bool:
    try:
        return kind.marked(place)
    except (OSError, ValueError, SafetensorError, PolarsError):
        return False


def _names(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
