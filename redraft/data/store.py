"""The data-set folder: CSR arrays, catalogue.parquet, users.parquet and meta.json, written whole or not at all."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redraft.arrays import read_parquet
from redraft.data.sequences import in_blocks, open_interactions, save_interactions
from redraft.files import read_json, write_json
from redraft.folders import DATASET, new_folder
from redraft.records import Catalogue, Dataset, InputError, IntArray, Interactions

__all__ = [
    "catalogue_from_frame",
    "catalogue_to_frame",
    "describe_dataset",
    "load_dataset",
    "load_meta",
    "make_dataset",
    "save_dataset",
]

FORMAT = "redraft-dataset"
VERSION = 1
KEYS = {"version": int, "name": str, "source": str, "attributes": list, "fingerprint": str, "options": dict}
OTHER_KEYS = {"format", "users", "items", "interactions", "dropped", "checksum"}


def make_dataset(
    name: str,
    interactions: Interactions,
    catalogue: Catalogue,
    user_ids: pl.Series,
    split: tuple[int, int] | None = None,
) -> Dataset:
    """Put the parts together and compute their fingerprint."""
    assert interactions.n_users == len(user_ids), "one id per user"
    return Dataset(name, interactions, catalogue, user_ids, _fingerprint(interactions, catalogue, split), split)


def save_dataset(
    dataset: Dataset,
    path: Path,
    *,
    source: str,
    options: Mapping[str, Any] | None = None,
    dropped: Mapping[str, int] | None = None,
    replace: bool = False,
) -> None:
    """Write a data-set folder, whole or not at all.

    source: the kind of raw data it came from. options: how it was imported. dropped: how many of what were left out.
    replace: lose the data set that is there, with its semantic IDs.
    Raises InputError as `redraft.folders.check_replace`.
    """
    with new_folder(path, DATASET, replace=replace) as folder:
        save_interactions(dataset.interactions, folder)
        describe_dataset(dataset, folder, source=source, options=options, dropped=dropped)


def describe_dataset(
    dataset: Dataset,
    folder: Path,
    *,
    source: str,
    options: Mapping[str, Any] | None = None,
    dropped: Mapping[str, int] | None = None,
) -> None:
    """Write what a data-set folder has beside the events: catalogue, users and meta.json, as `save_dataset`."""
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "name": dataset.name,
        "source": source,
        "users": dataset.interactions.n_users,
        "items": dataset.catalogue.n_items,
        "interactions": len(dataset.interactions.items),
        "attributes": list(dataset.catalogue.attribute_names),
        "fingerprint": dataset.fingerprint,
        "options": dict(options or {}) | ({"split": list(dataset.split)} if dataset.split else {}),
        "dropped": dict(dropped or {}),
    }
    meta["checksum"] = _checksum(meta, dataset.user_ids)
    catalogue_to_frame(dataset.catalogue).write_parquet(folder / "catalogue.parquet")
    pl.DataFrame({"id": dataset.user_ids}).write_parquet(folder / "users.parquet")
    write_json(folder / "meta.json", meta)


def load_dataset(path: Path) -> Dataset:
    """Open a data-set folder; events stay on disk, memory-mapped.

    Raises InputError if `path` is not a data set, or one that another version of the format wrote, and if its events
    and its catalogue are damaged or not those that were imported together.
    """
    meta = load_meta(path)
    try:
        frame = _read_texts(path / "catalogue.parquet", ("id", "title", "description", *meta["attributes"]))
        catalogue = catalogue_from_frame(frame, meta["attributes"])
        user_ids = _read_texts(path / "users.parquet", ("id",))["id"]
        interactions = open_interactions(path)
    except InputError as error:
        raise InputError(f"{path}: the data set is damaged ({error}); run `redraft data import` again") from None
    if len(user_ids) != interactions.n_users:
        raise InputError(
            f"{path}: the data set is damaged ({len(user_ids)} ids in users.parquet for {interactions.n_users} users "
            "in offsets.npy); run `redraft data import` again"
        )
    split = _split(path, meta["options"].get("split"))
    if _fingerprint(interactions, catalogue, split) != meta["fingerprint"]:
        raise InputError(
            f"{path}: the data set is damaged (events or catalogue are not those of its fingerprint); "
            "run `redraft data import` again"
        )
    if "checksum" in meta and meta["checksum"] != _checksum(meta, user_ids):
        raise InputError(
            f"{path}: the data set is damaged (user ids or meta.json are not those of its checksum); "
            "run `redraft data import` again"
        )
    return Dataset(meta["name"], interactions, catalogue, user_ids, meta["fingerprint"], split)


def _split(path: Path, said: Any) -> tuple[int, int] | None:
    """What meta.json says of the split: none for leave-one-out, or when validation and test begin."""
    if said is None:
        return None
    if not isinstance(said, list) or [type(moment) for moment in said] != [int, int]:
        raise InputError(f"{path}: 'split' in meta.json is {said!r}; run `redraft data import` again")
    return said[0], said[1]


def _read_texts(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Columns of text of a Parquet file. Raises InputError if it is damaged or lacks one, or one is not text."""
    frame = read_parquet(path, columns, fix="import it again")
    other = next((name for name in columns if frame[name].dtype != pl.String), None)
    if other is not None:
        raise InputError(f"{path.name}: column {other!r} is {frame[other].dtype}, not text")
    return frame


def load_meta(path: Path) -> dict[str, Any]:
    """What meta.json says: name, source, counts, attribute names, fingerprint, import options, dropped counts.

    Raises InputError if `path` is not a data set, or one that another version of the format wrote.
    """
    if not _is_dataset(path):
        raise InputError(f"{path}: not a data set; make one with `redraft data import KIND SRC {path}`")
    meta: dict[str, Any] = read_json(path / "meta.json")
    missing = [key for key in KEYS if key not in meta]
    if missing:
        raise InputError(f"{path}: meta.json has no {missing[0]!r}; run `redraft data import` again")
    unknown = sorted(meta.keys() - KEYS.keys() - OTHER_KEYS)
    if unknown and meta["version"] == VERSION:
        raise InputError(f"{path}: meta.json has {unknown[0]!r}, which is not known; run `redraft data import` again")
    wrong = next((key for key, kind in KEYS.items() if not isinstance(meta[key], kind)), None)
    if wrong or not all(isinstance(name, str) for name in meta["attributes"]):
        wrong = wrong or "attributes"
        raise InputError(f"{path}: {wrong!r} in meta.json is {meta[wrong]!r}; run `redraft data import` again")
    if meta["version"] != VERSION:
        raise InputError(
            f"{path}: data-set format {meta['version']}, this program reads {VERSION}; run `redraft data import` again"
        )
    return meta


def catalogue_from_frame(frame: pl.DataFrame, attributes: Sequence[str]) -> Catalogue:
    """A catalogue from the string columns id, title, description and one nullable column per attribute.

    Row n is item n. Values of an attribute are numbered in the byte order of their UTF-8; null becomes -1.
    """
    values = [frame[name].drop_nulls().unique().sort().rename("value") for name in attributes]
    codes = np.full((frame.height, len(attributes)), -1, dtype=np.int32)
    for k, name in enumerate(attributes):
        codes[:, k] = frame[name].cast(pl.Enum(values[k])).to_physical().cast(pl.Int32).fill_null(-1).to_numpy()
    return Catalogue(frame["id"], frame["title"], frame["description"], codes, tuple(attributes), tuple(values))


def catalogue_to_frame(catalogue: Catalogue) -> pl.DataFrame:
    """The columns id, title, description and one nullable string column per attribute; row n is item n."""
    columns = {"id": catalogue.ids, "title": catalogue.titles, "description": catalogue.descriptions}
    for k, name in enumerate(catalogue.attribute_names):
        codes = pl.Series(catalogue.attributes[:, k])
        columns[name] = catalogue.attribute_values[k].gather(codes.set(codes < 0, None))
    return pl.DataFrame(columns)


def _is_dataset(path: Path) -> bool:
    meta = path / "meta.json"
    return meta.is_file() and isinstance(content := read_json(meta), dict) and content.get("format") == FORMAT


def _fingerprint(interactions: Interactions, catalogue: Catalogue, split: tuple[int, int] | None) -> str:
    digest = hashlib.sha256()
    for array, kind in ((interactions.items, "<i4"), (interactions.offsets, "<i8"), (interactions.times, "<i8")):
        _hash_array(digest, array, kind)
    for name, column in catalogue_to_frame(catalogue).to_dict().items():
        digest.update(f"{name}\n".encode())
        _hash_texts(digest, column)
    if split:
        digest.update(f"split {split[0]} {split[1]}\n".encode())
    return digest.hexdigest()


def _checksum(meta: Mapping[str, Any], user_ids: pl.Series) -> str:
    """sha256 over what the fingerprint leaves out: the user ids and everything else that meta.json says."""
    said = {name: value for name, value in meta.items() if name != "checksum"}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    _hash_texts(digest, user_ids)
    return digest.hexdigest()


def _hash_texts(digest: "hashlib._Hash", texts: pl.Series) -> None:
    for part in texts.to_frame("text").iter_slices(1 << 20):
        lengths = part["text"].str.len_bytes().cast(pl.Int64).fill_null(-1).to_numpy()
        _hash_array(digest, lengths, "<i8")
        digest.update(part["text"].str.join("").item().encode())


def _hash_array(digest: "hashlib._Hash", array: IntArray | None, kind: str) -> None:
    """Length, then values in a fixed byte order; -1 for no array."""
    digest.update(f"{-1 if array is None else len(array)}\n".encode())
    for block in () if array is None else in_blocks(array):
        digest.update(np.ascontiguousarray(block, dtype=kind).data)
