"""What every reader returns, and the small checks and conversions that readers share."""

import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from redraft.data.places import locate_in
from redraft.data.times import TimeUnit, to_microseconds
from redraft.ids import id_text, normal_ids
from redraft.records import InputError

__all__ = [
    "Columns",
    "FramePiece",
    "Piece",
    "RawData",
    "apart",
    "check_column",
    "clean_text",
    "event_table",
    "item_table",
    "only_file",
]

MOST_VALUES = 20
"""Of an attribute with several values per item; rarer ones are left out."""


@dataclass(frozen=True)
class Columns:
    """Which columns of an event table and of a table of its items hold what."""

    user: str = "user_id"
    """The column of user ids."""
    item: str = "item_id"
    """The column of item ids, in the events and in the items."""
    time: str | None = "timestamp"
    """The column of times; None keeps the order of the file, or that of --order."""
    time_unit: TimeUnit = "s"
    """The unit of times that are numbers, since 1970; numbers such as 20240131 are dates."""
    order: str | None = None
    """A column of numbers or times that says which of a user's events at one time came first."""
    title: str | None = None
    """The items' column of titles [the first whose name ends in "title"]."""
    description: str | None = None
    """The items' column of descriptions ["description" if there is one]."""
    attributes: tuple[str, ...] | None = None
    """The items' columns to use as attributes [table: none; recbole: every other token column]."""
    several: tuple[str, ...] = ()
    """Of these, those with several values per item, apart by "|", ";" or ",": each of the most common values becomes an
    attribute of its own, yes or no [recbole: the token_seq columns, apart by blanks]."""

    def named(self) -> dict[str, str]:
        """The columns of events that are named, by what they hold."""
        names = {"user": self.user, "item": self.item, "time": self.time, "order": self.order}
        return {what: name for what, name in names.items() if name is not None}


@dataclass(frozen=True)
class Read:
    """Events that were read together. times: how theirs are written, in words. spans: file, first row and number of
    rows of each run of them, in order; none where `RawData.locate` knows their rows.
    """

    events: pl.DataFrame
    times: str = ""
    spans: tuple[tuple[str, int, int], ...] = ()

    def place(self, row: int) -> str:
        """Where a row stands, of events with spans."""
        return place_in(self.spans, row)


def place_in(spans: Sequence[tuple[str, int, int]], row: int) -> str:
    """Where a row of events with spans stands; see `Read`."""
    for path, first, rows in spans:
        if row < rows:
            return locate_in(Path(path))(first + row)
        row -= rows
    raise AssertionError("spans hold every row")


class Piece(Protocol):
    """A part of a log that is read by itself."""

    def read(self, rows: int) -> Iterator[Read]:
        """Its events in order, at most so many rows at a time."""


@dataclass(frozen=True)
class FramePiece:
    """All of a log that is in memory."""

    events: pl.DataFrame

    def read(self, rows: int) -> Iterator[Read]:
        """Slices."""
        return map(Read, self.events.iter_slices(rows))


@dataclass(frozen=True)
class RawData:
    """Events and items as a source names them, before anything is dropped, sorted or numbered.

    source: the file of the events, for messages. events: the string columns user and item and, where they are known,
    time (int64, microseconds since 1970) and order (float64 or int64, for events at one time); rows in file order; or
    pieces that are read one by one, where a log may be larger than memory.
    items: the string columns id (in normal form), title, description and one nullable column for each of `attributes`,
    or None where nothing is known of the items.
    locate: says where the event of a row stands, for messages; of pieces, each says so itself.
    """

    source: Path
    events: "pl.DataFrame | tuple[Piece, ...]"
    items: pl.DataFrame | None
    attributes: tuple[str, ...]
    locate: Callable[[int], str]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The events in pieces."""
        return self.events if isinstance(self.events, tuple) else (FramePiece(self.events),)


def clean_text(text: str) -> str:
    """Plain text from scraped text: no HTML entities, tags, scripts or comments, and single spaces."""
    text = html.unescape(text)
    text = re.sub(r"<(script|style)\b.*?</\1>|<!--.*?-->|</?[a-z][^<>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    return " ".join(text.split())


def event_table(frame: pl.DataFrame, columns: Columns, locate: Callable[[int], str]) -> pl.DataFrame:
    """The columns user, item and, where they are named, time and order, from those columns of a table.

    Raises InputError for ids that cannot be text, and values that are no times or no order.
    """
    events = {name: id_text(frame[name], name, locate) for name in ("user", "item")}
    if columns.time is not None:
        events["time"] = to_microseconds(frame["time"], columns.time_unit, locate)
    if columns.order is not None:
        events["order"] = _order(frame["order"], locate)
    return pl.DataFrame(events)


def _order(column: pl.Series, locate: Callable[[int], str]) -> pl.Series:
    numbers = column.cast(pl.Float64, strict=False) if column.dtype == pl.String else column
    if numbers.dtype.is_temporal():
        numbers = numbers.to_physical()
    if not numbers.dtype.is_numeric():
        raise InputError(f"{locate(0)}: an order column of {column.dtype}; give numbers or times")
    if numbers.dtype.is_float():
        numbers = numbers.fill_nan(None)
    if numbers.null_count():
        row = int(numbers.is_null().arg_max() or 0)
        raise InputError(f"{locate(row)}: {column[row]!r} in the order column is no number; correct it")
    return numbers


def item_table(frame: pl.DataFrame, source: Path, columns: Columns, attributes: Sequence[str]) -> pl.DataFrame:
    """The columns id, title, description and the attributes from the named columns of an item file.

    title: by default the first column whose name ends in "title". description: by default the column of that name.
    Empty text counts as unknown. Raises InputError for a missing column, an item without id and an item listed twice.
    """
    locate = locate_in(source)
    item, title, description = columns.item, columns.title, columns.description
    title = title or next((name for name in frame.columns if name.lower().endswith("title")), None)
    description = description or ("description" if "description" in frame.columns else None)
    for option, name in [("item", item), ("title", title), ("description", description)]:
        if name is not None:
            check_column(frame.columns, name, source, option)
    for name in attributes:
        check_column(frame.columns, name, source, "attributes")
        if name in ("id", "title", "description"):
            raise InputError(f"{source}: an attribute cannot be called {name!r}; rename the column")

    def text(name: str | None) -> pl.Expr:
        return pl.lit("") if name is None else pl.col(name).cast(pl.String).fill_null("").str.strip_chars()

    table = frame.select(
        normal_ids(id_text(frame[item], "item", locate)).fill_null("").alias("id"),
        text(title).alias("title"),
        text(description).alias("description"),
        *(pl.when(text(name) != "").then(text(name)).alias(name) for name in attributes),
    )
    for bad, what in [
        (table["id"] == "", "an item without id; fill it or remove the row"),
        (~table["id"].is_first_distinct(), "an item that appears twice; remove one of the rows"),
    ]:
        if bad.any():
            raise InputError(f"{locate(int(bad.arg_max() or 0))}: {what}")
    return table


def apart(
    items: pl.DataFrame, attributes: Sequence[str], several: Sequence[str], separators: str, source: Path
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Items whose attributes of several values each gave way to one attribute per common value, and all their names.

    several: names of such attributes. separators: a regular expression. The new attributes are called "genre: Drama"
    and so on; their values are "yes" and "no", unknown where the item has no value at all.
    Raises InputError for a name that is no attribute.
    """
    names: list[str] = []
    for name in several:
        if name not in attributes:
            raise InputError(f"{source}: {name!r} is not among the attributes; name it with --attributes, too")
    for name in attributes:
        if name not in several:
            names.append(name)
            continue
        parts = items[name].str.replace_all(separators, "\n").str.split("\n").list.eval(pl.element().str.strip_chars())
        counts = parts.explode().drop_nulls().value_counts(name="n").sort("n", name, descending=[True, False])
        values = [value for value in counts[name].to_list() if value][:MOST_VALUES]
        items = items.with_columns(
            pl.when(parts.list.contains(value))
            .then(pl.lit("yes"))
            .when(parts.is_not_null())
            .then(pl.lit("no"))
            .alias(f"{name}: {value}")
            for value in values
        )
        names += [f"{name}: {value}" for value in values]
    return items.select("id", "title", "description", *names), tuple(names)


def only_file(folder: Path, ending: str) -> Path:
    """The one file of a folder whose name ends so; raises InputError if there is none, or several."""
    files = sorted(folder.glob(f"*{ending}"))
    if len(files) != 1:
        raise InputError(f"{folder}: {len(files)} files called NAME{ending}; give the folder that holds exactly one")
    return files[0]


def check_column(columns: Sequence[str], name: str, source: Path, option: str) -> None:
    """Raise InputError unless the file has the column that an option names."""
    if name not in columns:
        raise InputError(f"{source}: no column {name!r}; name one with --{option}: {', '.join(columns)}")
