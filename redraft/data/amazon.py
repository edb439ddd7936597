"""Raw Amazon reviews and metadata as published in 2014, 2018 and 2023: JSON lines, gzipped or plain."""

import ast
import gzip
import json
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from redraft.data.raw import RawData, clean_text
from redraft.ids import normal_id
from redraft.records import InputError

__all__ = ["read_amazon"]

CHUNK = 1 << 18
EVENT_SCHEMA = {"user": pl.String, "item": pl.String, "time": pl.Int64}
ITEM_SCHEMA = dict.fromkeys(("id", "title", "description", "category", "brand"), pl.String)


def read_amazon(src: Path, items: Path | None = None) -> RawData:
    """Read reviews as events, and the metadata of the reviewed items; the edition shows in the field names.

    src: the file of reviews, or a folder that holds it beside a meta_* file. items: the file of metadata, if any.
    Attributes: category, the path from root to leaf joined by " > " (main category where there is no path), and brand
    (the store in 2023). Items without metadata keep empty text; of an item listed twice the first counts.
    Lines are read one at a time, so memory holds three short columns a review and the text of reviewed items.
    Raises InputError, naming the line, for truncated gzip, bytes that are not UTF-8, a line that is not a JSON object,
    a missing field and a bad timestamp.
    """
    if src.is_dir():
        src, items = _find(src, items)
    events = _read_reviews(src)
    reviewed = set(events["item"].unique())
    described = None if items is None else _read_metadata(items, reviewed)
    return RawData(
        src, events, described, () if items is None else ("category", "brand"), lambda row: f"{src}, line {row + 1}"
    )


def _find(folder: Path, items: Path | None) -> tuple[Path, Path | None]:
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".jsonl", ".gz")]
    metadata = [path for path in files if path.name.startswith("meta_")]
    reviews = [path for path in files if path not in metadata]
    if len(reviews) != 1 or len(metadata) > 1:
        raise InputError(
            f"{folder}: {len(reviews)} files of reviews and {len(metadata)} of metadata (meta_*); "
            "give the file of reviews and --items FILE"
        )
    return reviews[0], items or (metadata[0] if metadata else None)


def _read_reviews(path: Path) -> pl.DataFrame:
    chunks: list[pl.DataFrame] = []
    rows: list[tuple[str, str, int]] = []
    for line, record in _records(path):
        rows.append(_event(record, path, line))
        if len(rows) == CHUNK:
            chunks.append(pl.DataFrame(rows, EVENT_SCHEMA, orient="row"))
            rows = []
    return pl.concat([*chunks, pl.DataFrame(rows, EVENT_SCHEMA, orient="row")])


def _event(record: dict[str, Any], path: Path, line: int) -> tuple[str, str, int]:
    """User, item and microseconds; seconds until 2018, milliseconds in 2023."""
    if "reviewerID" in record:
        names, tick = ("reviewerID", "asin", "unixReviewTime"), 1_000_000
    else:
        names, tick = ("user_id", "parent_asin", "timestamp"), 1_000
    user, item, time = (record.get(name) for name in names)
    for name, value in zip(names[:2], (user, item)):
        if not isinstance(value, str) or not normal_id(value):
            raise InputError(f"{path}, line {line}: no {name}; is this a file of Amazon reviews?")
    if type(time) is not int or not 0 <= time * tick < 1 << 62:
        raise InputError(f"{path}, line {line}: bad timestamp {time!r} in {names[2]}; correct or remove the line")
    return normal_id(str(user)), normal_id(str(item)), time * tick


def _read_metadata(path: Path, reviewed: set[str]) -> pl.DataFrame:
    chunks: list[pl.DataFrame] = []
    rows: list[tuple[str | None, ...]] = []
    for line, record in _records(path):
        item = record.get("parent_asin") or record.get("asin")
        if not isinstance(item, str):
            raise InputError(f"{path}, line {line}: no asin; is this a file of Amazon metadata?")
        item = normal_id(item)
        if item in reviewed:
            reviewed.discard(item)
            rows.append(_item_row(item, record))
        if len(rows) == CHUNK:
            chunks.append(pl.DataFrame(rows, ITEM_SCHEMA, orient="row"))
            rows = []
    return pl.concat([*chunks, pl.DataFrame(rows, ITEM_SCHEMA, orient="row")])


def _item_row(item: str, record: dict[str, Any]) -> tuple[str | None, ...]:
    categories = record.get("categories") or record.get("category") or []
    if categories and isinstance(categories[0], list):  # 2014 lists several paths
        categories = categories[0]
    main = record.get("main_category") or record.get("main_cat")
    names = [clean_text(name) for name in categories if isinstance(name, str)] or [_text(main)]
    description = " ".join(filter(None, (_text(record.get(name)) for name in ("description", "features", "feature"))))
    brand = _text(record.get("brand") or record.get("store"))
    category = " > ".join(name for name in names if name)
    return item, _text(record.get("title")), description, category or None, None if brand in ("", "Unknown") else brand


def _text(value: Any) -> str:
    """Clean text from a string or a list of strings; "" from anything else."""
    parts = value if isinstance(value, list) else [value]
    return clean_text(" ".join(part for part in parts if isinstance(part, str)))


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line; blank lines are passed over."""
    line = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line, content in enumerate(file, start=1):
                if line == 1:
                    content = content.removeprefix(BOM_UTF8)
                if content.strip():
                    yield line, _parse(content, path, line)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}, after line {line}: broken gzip ({error}); download the file again") from None
    if not line:
        raise InputError(f"{path}: the file is empty; download it again")


def _parse(content: bytes, path: Path, line: int) -> dict[str, Any]:
    """One JSON object, or a Python dict as in the metadata of 2014."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise InputError(f"{path}, line {line}: byte {byte:#04x} is not UTF-8; re-encode the file") from None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        try:
            record = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            record = None
    if not isinstance(record, dict):
        raise InputError(f"{path}, line {line}: not a JSON object; the file may be cut off: download it again")
    return record
