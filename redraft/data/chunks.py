"""Logs of any size as sorted runs: pieces of the events with numbers for ids, by user, each on disk by itself.

A piece is what one task reads, a chunk what it holds in memory at a time. Of a chunk there are three Arrow files:
NUMBER.users (id, start: where the user's events begin), NUMBER.items (id, count) and NUMBER.events (item: row of the
items; row: of the chunk, or of the log where that is in memory; time and order where they are known), each user's
events in the order of the log.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redraft.data.raw import Piece
from redraft.data.times import YEAR_1980
from redraft.ids import all_pointed, normal_ids
from redraft.records import InputError, IntArray

__all__ = ["IdForm", "chunk_files", "is_whole", "opened", "order_ids", "stage", "write_arrow"]

MOST_BYTES = 1024
"""Of an id; longer ones are texts of another column."""


@dataclass(frozen=True)
class IdForm:
    """How a column of ids is written. pointed: all whole numbers with a decimal point. whole: all whole numbers."""

    pointed: bool
    whole: bool


def stage(
    out: Path, piece: Piece, rows: int, forms: dict[str, IdForm] | None, locate: Callable[[int], str] | None
) -> dict[str, Any]:
    """Write the chunks of a piece; returns what there is to say of each.

    forms: of the columns user and item; by default what each chunk shows by itself. locate: where a row stands, if the
    piece is all there is and does not say so itself.
    Raises InputError for an event without id, or with one of more than 1,024 bytes.
    """
    chunks, first = [], 0
    for number, chunk in enumerate(piece.read(rows)):
        frame, place = chunk.events, chunk.place if locate is None else _from(locate, first)
        coded = {name: _coded(frame[name], name, forms[name] if forms else None, place) for name in ("user", "item")}
        users, user_ids, user_form = coded["user"]
        items, item_ids, item_form = coded["item"]
        order = np.argsort(users, kind="stable")
        counts = np.bincount(users, minlength=len(user_ids))
        columns = {
            "item": pl.Series(items[order]),
            "row": pl.Series((order + first * (locate is not None)).astype(np.int64)),
        }
        columns |= {name: frame[name].gather(order) for name in ("time", "order") if name in frame.columns}
        write_arrow(out / f"{number:04d}.events", columns)
        write_arrow(out / f"{number:04d}.users", {"id": user_ids, "start": np.cumsum(counts) - counts})
        write_arrow(out / f"{number:04d}.items", {"id": item_ids, "count": np.bincount(items, minlength=len(item_ids))})
        early = int((frame["time"] < YEAR_1980).sum()) if "time" in frame.columns else 0
        said = {"early": early, "time": chunk.times, "spans": chunk.spans, "forms": [user_form, item_form]}
        chunks.append({"rows": frame.height, **said})
        first += frame.height
    return {"chunks": chunks}


def chunk_files(folder: Path, number: int) -> Path:
    """The name of a chunk's files, less what tells them apart."""
    return folder / f"{number:04d}"


def _from(place: Callable[[int], str], first: int) -> Callable[[int], str]:
    return lambda row: place(first + row)


def _coded(
    given: pl.Series, column: str, form: IdForm | None, locate: Callable[[int], str]
) -> tuple[IntArray, pl.Series, list[bool]]:
    """The number of each row's id, uint32, the distinct ids in order, and how they are written."""
    distinct = given.unique()
    pointed = all_pointed(distinct) if form is None else form.pointed
    normal = normal_ids(distinct, pointed=pointed)
    if not normal.equals(distinct):
        given = given.replace_strict(distinct, normal, return_dtype=pl.String)
        distinct = normal.unique()
    if distinct.null_count() or (distinct == "").any():
        row = int((given.fill_null("") == "").arg_max() or 0)
        raise InputError(f"{locate(row)}: no {column} id; fill it or remove the event")
    if len(distinct) and int(distinct.str.len_bytes().max()) > MOST_BYTES:  # type: ignore[arg-type]
        row = int((given.str.len_bytes() > MOST_BYTES).arg_max() or 0)
        raise InputError(
            f"{locate(row)}: a {column} id of {len(given[row].encode()):,} bytes, and they have at most "
            f"{MOST_BYTES:,}; name the right column, or shorten the ids"
        )
    whole = is_whole(distinct) if form is None else form.whole
    ids = order_ids(distinct, whole=whole)
    codes = given.cast(pl.Enum(ids)).to_physical().cast(pl.UInt32).to_numpy()
    return codes, ids, [pointed, whole]


def is_whole(ids: pl.Series) -> bool:
    """Whether all ids are whole numbers."""
    return not ids.cast(pl.Int64, strict=False).null_count()


def order_ids(ids: pl.Series, *, whole: bool) -> pl.Series:
    """Distinct ids by value if all are whole numbers, else as text."""
    ids = ids.alias("id")
    return pl.DataFrame([ids, ids.cast(pl.Int64).alias("n")]).sort("n", "id")["id"] if whole else ids.sort()


def write_arrow(path: Path, columns: dict[str, Any]) -> None:
    """One table as one batch of an Arrow file, which `opened` maps into memory."""
    frame = pl.DataFrame(columns)
    frame.rechunk().write_ipc(path, compat_level=pl.CompatLevel.oldest(), record_batch_size=max(frame.height, 1))


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The record batch in a file of `write_arrow`, mapped into memory until the block ends.

    Raises InputError, naming the file, if it is missing or damaged.
    """
    import pyarrow as pa

    with ExitStack() as stack:
        try:
            file = pa.ipc.open_file(stack.enter_context(pa.memory_map(str(path))))
            batch = file.get_batch(0) if file.num_record_batches else pa.RecordBatch.from_pylist([], file.schema)
        except (OSError, pa.ArrowException) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"{path}: this part is missing or damaged ({reason}); run the same command again"
            ) from None
        yield batch
