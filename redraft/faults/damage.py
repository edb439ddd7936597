"""What may become of a file: cut off, flipped, foreign, of other shapes, not a number."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

__all__ = ["Damaged", "damages", "flips", "garbled"]


@dataclass(frozen=True)
class Damaged:
    """One file damaged in one way. fault: what went wrong, None if one line names it, or if it does no harm."""

    kind: str
    file: str
    damage: str
    fault: str | None


def flips(content: bytes, n: int, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """The content with one other byte at n places."""
    for place in rng.integers(len(content), size=n).tolist():
        changed = content[place] ^ int(rng.integers(1, 256))
        yield f"byte changed at {place}", content[:place] + bytes([changed]) + content[place + 1 :]


def damages(file: Path, others: Sequence[Path]) -> Iterator[tuple[str, bytes | None]]:
    """What may have become of a file of ours: in words, and its new content, None for none.

    others: files that may stand in its place.
    """
    content = file.read_bytes()
    yield "missing", None
    for n in (0, len(content) // 2, len(content) - 3):
        yield f"cut after {n} bytes", content[:n]
    yield from flips(content, 5, np.random.default_rng(0))
    yield "not UTF-8", b"\xff\xfe" + content
    for other in others:
        yield f"{other.parent.name}/{other.name} instead", other.read_bytes()
    if file.suffix == ".json":
        values: tuple[Any, ...] = ([], 3, None, "text", {})
        for value in values:
            yield f"{value!r} instead", json.dumps(value).encode()
        for name in json.loads(content):
            for value in (values[0], -1, float("nan")):
                yield f"{name} = {value}", json.dumps(json.loads(content) | {name: value}).encode()
    if file.suffix == ".safetensors":
        yield from _of_tensors(file)


def _of_tensors(file: Path) -> Iterator[tuple[str, bytes]]:
    weights = load_file(file)
    with safe_open(file, "pt") as opened:
        about = opened.metadata() or {}
    for entry in about:
        for value in ("", "[]", '{"a": 1}'):
            yield f"{entry} = {value}", save(weights, about | {entry: value})
        yield f"no {entry}", save(weights, {name: text for name, text in about.items() if name != entry})
    kept = {name: text for name, text in about.items() if name not in ("weights", "content")}  # as older files are
    for name in list(weights)[:2] + list(weights)[-1:]:
        tensor = weights[name]
        yield f"no tensor {name}", save({n: t for n, t in weights.items() if n != name}, kept)
        yield f"{name} flat", save(weights | {name: tensor.flatten()[:-1]}, kept)
        yield f"{name} as float64", save(weights | {name: tensor.double()[None]}, kept)
        if tensor.is_floating_point():
            yield f"{name} not a number", save(weights | {name: torch.full_like(tensor, torch.nan)}, kept)
        else:
            yield f"{name} far away", save(weights | {name: torch.full_like(tensor, 99)}, kept)
    yield "a tensor more", save(weights | {"more": torch.zeros(2)}, kept)


def garbled(content: bytes, others: Sequence[bytes], rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """What may have become of raw logs: in words, and the new content. others: what may stand in its place."""
    for share in (0, 0.3, 0.8):
        yield f"cut after {share:.0%}", content[: int(len(content) * share)]
    yield "without its last byte", content[:-1]
    yield from flips(content, 24, rng)
    yield from ((f"other file {n} instead", other) for n, other in enumerate(others))
    yield from (("twice", content + content), ("zeros", b"\0" * 100), ("not UTF-8", b"\xff\xfe" + content))
    for old, new in ((b"1600", b"NaN"), (b": 1", b": Infinity"), (b"u1", b""), (b"i1", b"\0")):
        yield f"{old!r} once as {new!r}", content.replace(old, new, 1)
        yield f"{old!r} as {new!r}", content.replace(old, new)
