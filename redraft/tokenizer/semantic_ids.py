"""The semantic IDs of a catalogue on disk: our own artifact, and the published `index.json` form."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from redraft.files import atomic_file, read_json
from redraft.folders import Kind, safetensors_metadata
from redraft.records import InputError, IntArray, SemanticIds
from redraft.stored import parsed, read_tensors, record
from redraft.tokenizer.collisions import resolve_collisions

__all__ = ["IDS", "load_semantic_ids", "read_published", "read_published_codes", "save_semantic_ids"]

FORMAT_VERSION = 1
FIX = "make it again: redraft tokenize"
IDS = Kind("semantic IDs", lambda path: "redraft" in safetensors_metadata(path))
_TOKEN = re.compile(r"<[a-z]_(\d{1,9})>")


@dataclass(frozen=True)
class About:
    """What the file says of its codes: format, C, their fingerprint, and how they were made."""

    format_version: int
    codebook_size: int
    fingerprint: str
    source: dict[str, Any]


def save_semantic_ids(ids: SemanticIds, path: Path, *, source: Mapping[str, Any]) -> None:
    """Write one safetensors file, whole or not at all: codes int32 [N, L], and JSON metadata under "redraft".

    source: how the ids were made (method, configuration, data fingerprint, versions), kept as it is given.
    """
    about = asdict(About(FORMAT_VERSION, ids.codebook_size, ids.fingerprint, dict(source)))
    with atomic_file(path) as partial:
        codes = np.ascontiguousarray(ids.codes, dtype=np.int32)
        save_file({"codes": codes}, partial, metadata={"redraft": json.dumps(about, sort_keys=True)})


def load_semantic_ids(path: Path) -> SemanticIds:
    """Read what `save_semantic_ids` wrote.

    Raises InputError if the file is missing, is not such a file, has another format version, if its codes are not
    semantic IDs, or do not have the fingerprint that it records.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; make semantic IDs first: redraft tokenize")
    metadata, tensors = read_tensors(path, "file of semantic IDs", FIX)
    content = parsed(path, metadata, "redraft", FIX)
    version = content.get("format_version") if isinstance(content, dict) else None
    if version is not None and version != FORMAT_VERSION:
        raise InputError(f"{path}: format version {version}, this program reads {FORMAT_VERSION}; {FIX}")
    about = record(About, content, path, FIX)
    codes: IntArray = tensors["codes"].numpy() if tensors.keys() == {"codes"} else np.empty(0, dtype=np.int32)
    whole = codes.ndim == 2 and codes.size and codes.dtype == np.int32
    if not whole or not 0 < about.codebook_size ** codes.shape[1] < 2**63:
        raise InputError(f"{path}: holds no codes of items; {FIX}")
    try:
        ids = SemanticIds(codes, about.codebook_size)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if ids.fingerprint != about.fingerprint:
        raise InputError(
            f"{path}: the codes have fingerprint {ids.fingerprint[:12]}, the file records {about.fingerprint[:12]}; "
            f"the file was changed: {FIX}"
        )
    return ids


def read_published(path: Path, n_items: int, codebook_size: int | None = None) -> SemanticIds:
    """Semantic IDs from an LC-Rec style `index.json`, collisions resolved in numeric order.

    Arguments and errors as in `read_published_codes`.
    """
    codes, codebook_size = read_published_codes(path, n_items, codebook_size)
    return SemanticIds(resolve_collisions(codes, codebook_size), codebook_size)


def read_published_codes(path: Path, n_items: int, codebook_size: int | None = None) -> tuple[IntArray, int]:
    """Codes int32 [N, L] as published, collisions included, and the codebook's size C.

    The file maps "0" ... "N-1" each to L tokens such as `<a_128>`. codebook_size: by default the largest code + 1.
    Raises InputError, naming file and item, for a missing or unknown item, a token of another form, an item with
    more or fewer tokens than the first, and a code outside the codebook.
    """
    index = read_json(path)
    if not isinstance(index, dict):
        raise InputError(f"{path}: not a JSON object that maps items to tokens; give an LC-Rec index.json")
    missing = next((item for item in range(n_items) if str(item) not in index), None)
    if missing is not None:
        raise InputError(f"{path}: item {missing} is missing; the file must name items 0 to {n_items - 1}")
    if len(index) > n_items:
        unknown = next(key for key in index if not (key.isdecimal() and str(int(key)) == key and int(key) < n_items))
        raise InputError(f"{path}: item {unknown!r} is not in the catalogue of {n_items} items; use its own index.json")
    codes = np.array([_parse(path, item, index[str(item)], len(index["0"])) for item in range(n_items)], dtype=np.int32)
    size = int(codes.max()) + 1 if codebook_size is None else codebook_size
    outside = np.argwhere(codes >= size)
    if len(outside):
        item, level = (int(x) for x in outside[0])
        raise InputError(
            f"{path}: item {item} has code {codes[item, level]} at level {level + 1}, outside the codebook of {size}; "
            "raise codebook_size or fix the file"
        )
    return codes, size


def _parse(path: Path, item: int, tokens: Any, n_levels: int) -> list[int]:
    if not isinstance(tokens, list) or not tokens:
        raise InputError(f'{path}: item {item} has {tokens!r}, not a list of tokens; write ["<a_1>", "<b_2>", ...]')
    if len(tokens) != n_levels:
        raise InputError(f"{path}: item {item} has {len(tokens)} tokens where item 0 has {n_levels}; make them equal")
    matches = [_TOKEN.fullmatch(token) if isinstance(token, str) else None for token in tokens]
    if None in matches:
        wrong = tokens[matches.index(None)]
        raise InputError(f"{path}: item {item} has the token {wrong!r}; write tokens as <a_128>")
    return [int(match[1]) for match in matches if match]
