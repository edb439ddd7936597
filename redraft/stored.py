"""What stands in a file of ours, checked where it is opened: kind, fields and their types, shapes, and finiteness."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open

from redraft.files import read_json
from redraft.records import InputError

__all__ = [
    "RunSettings",
    "check_finite",
    "check_tensors",
    "learnt",
    "learnt_from",
    "parsed",
    "read_settings",
    "read_tensors",
    "record",
]

Record = TypeVar("Record")


@dataclass(frozen=True)
class RunSettings:
    """What config.json of a run says: the settings it was trained with, and the fingerprints of what it was made of."""

    config: dict[str, Any]
    fingerprints: dict[str, Any]


def read_settings(run: Path) -> RunSettings:
    """The settings beside a run's weights. Raises InputError if config.json is missing or not that of a run."""
    path = run / "config.json"
    content = read_json(path)
    names = [field.name for field in fields(RunSettings)]
    if not isinstance(content, dict) or not all(isinstance(content.get(name), dict) for name in names):
        raise InputError(f"{path}: not the settings of a run; copy the run again or train again")
    return RunSettings(*(content[name] for name in names))


def learnt(run: Path) -> list[str]:
    """Fingerprints of the data sets that a run and what it started from learnt from; none if config.json is missing."""
    if not (run / "config.json").exists():
        return []
    known = read_settings(run).fingerprints
    prints = known.get("learnt", [known.get("data")])
    return sorted(str(each) for each in prints if each) if isinstance(prints, list) else []


def learnt_from(data: str, *starts: Path | None) -> list[str]:
    """What `learnt` says of a run on a data set of this fingerprint that starts from other runs."""
    return sorted({data, *(each for start in starts if start is not None for each in learnt(start))})


def read_tensors(path: Path, what: str, fix: str) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Metadata and tensors of a safetensors file. Raises InputError if it is no readable one.

    what: what the file should be, and fix: how to go on without it, for messages.
    """
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{path}: not a readable {what} ({error}); {fix}") from None


def parsed(path: Path, metadata: Mapping[str, str], name: str, fix: str) -> Any:
    """The JSON value of an entry of metadata. Raises InputError if it is missing or not JSON."""
    try:
        return json.loads(metadata[name])
    except (KeyError, ValueError, RecursionError):
        raise InputError(f"{path}: has no readable {name!r}; {fix}") from None


def record(kind: type[Record], content: Any, where: object, fix: str, *, newer: tuple[str, ...] = ()) -> Record:
    """A dataclass from a JSON object.

    newer: fields with a default, which older files lack. where: the file, for messages.
    Raises InputError for what is no object, an unknown or missing field, and a value of another type.
    """
    if not isinstance(content, dict):
        raise InputError(f"{where}: holds {_short(content)} where settings by name are needed; {fix}")
    types = get_type_hints(kind)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in content:
        if name not in known:
            raise InputError(f"{where}: has {name!r}, which this version of redraft does not know; {fix}")
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in content:
            if field.name not in newer:
                raise InputError(f"{where}: has no {field.name!r}; {fix}")
        elif not _fits(content[field.name], types[field.name]):
            raise InputError(f"{where}: {field.name!r} is {_short(content[field.name])}; {fix}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in content.items()})


def check_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], fix: str
) -> None:
    """Raise InputError for the first tensor that is missing, too many, of another shape or type, or not finite."""
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors:
            raise InputError(f"{path}: the tensor {name!r} is missing; {fix}")
        if name not in wanted:
            raise InputError(f"{path}: holds the tensor {name!r}, which its model does not have; {fix}")
        ours, theirs = wanted[name], tensors[name]
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            raise InputError(
                f"{path}: the tensor {name!r} is {_form(theirs)}, but its model has {_form(ours)} there; {fix}"
            )
    check_finite(path, tensors, fix)


def check_finite(path: Path, tensors: Mapping[str, torch.Tensor], fix: str) -> None:
    """Raise InputError for the first tensor that holds what is no finite number."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{path}: the tensor {name!r} holds numbers that are not finite; {fix}")


def _form(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _short(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 40 else f"{words[:37]}..."


def _fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value can stand for a type: a plain one, a Literal, a union, or a tuple or dict of such."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin is Literal:
        return value in parts
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, list) and all(_fits(x, parts[0]) for x in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(x, parts[1]) for x in value.values())
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
