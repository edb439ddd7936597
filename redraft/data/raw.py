"""What every reader returns, and the small checks and conversions that readers share."""

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from redraft.records import InputError

__all__ = [
    "RawData",
    "TimeUnit",
    "check_column",
    "clean_text",
    "item_table",
    "locate_in",
    "locate_line",
    "to_microseconds",
]

TimeUnit = Literal["s", "ms", "us"]
TICK = {"s": 1_000_000, "ms": 1_000, "us": 1}
YEAR_2200 = 7_258_118_400_000_000  # microseconds


@dataclass(frozen=True)
class RawData:
    """Events and items as a source names them, before anything is dropped, sorted or numbered.

    source: the file of the events, for messages. events: the string columns user and item and, where times are known,
    time (int64, microseconds since 1970); rows in file order. items: the string columns id, title, description and
    one nullable column for each of `attributes`, or None where nothing is known of the items.
    locate: says where the event of a row stands, for messages.
    """

    source: Path
    events: pl.DataFrame
    items: pl.DataFrame | None
    attributes: tuple[str, ...]
    locate: Callable[[int], str]


def clean_text(text: str) -> str:
    """Plain text from scraped text: no HTML entities, tags, scripts or comments, and single spaces."""
    text = html.unescape(text)
    text = re.sub(r"<(script|style)\b.*?</\1>|<!--.*?-->|</?[a-z][^<>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    return " ".join(text.split())


def to_microseconds(column: pl.Series, unit: TimeUnit, locate: Callable[[int], str]) -> pl.Series:
    """int64 microseconds since 1970 from numbers in `unit`, dates, or text that holds either.

    Raises InputError, naming the place, for a value that is not a time between 1970 and 2200.
    """
    moments = column
    if column.dtype == pl.String:
        numbers = column.cast(pl.Float64, strict=False)
        moments = numbers if numbers.is_not_null().any() else _parse_dates(column, locate)
    if moments.dtype.is_numeric():
        moments = moments.cast(pl.Int64 if moments.dtype.is_integer() else pl.Float64, strict=False)
        in_range = moments.is_between(0, YEAR_2200 // TICK[unit]).fill_null(False)
        known = moments.to_frame("x").select(pl.when(in_range).then("x")).to_series()
        microseconds = (known * TICK[unit]).cast(pl.Int64)
    elif isinstance(moments.dtype, pl.Date | pl.Datetime):
        microseconds = moments.cast(pl.Datetime("us")).cast(pl.Int64)
    else:
        raise InputError(f"{locate(0)}: a time column of {moments.dtype}; give numbers, dates or text")
    bad = ~microseconds.is_between(0, YEAR_2200).fill_null(False)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise InputError(
            f"{locate(row)}: bad timestamp {column[row]!r}; correct it, or say with --time-unit whether numbers are "
            "s, ms or us"
        )
    return microseconds.alias("time")


def item_table(
    frame: pl.DataFrame,
    source: Path,
    *,
    item: str,
    title: str | None,
    description: str | None,
    attributes: Sequence[str],
) -> pl.DataFrame:
    """The columns id, title, description and the attributes from the named columns of an item file.

    title: by default the first column whose name ends in "title". description: by default the column of that name.
    Empty text counts as unknown. Raises InputError for a missing column, an item without id and an item listed twice.
    """
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
        text(item).alias("id"),
        text(title).alias("title"),
        text(description).alias("description"),
        *(pl.when(text(name) != "").then(text(name)).alias(name) for name in attributes),
    )
    for bad, what in [
        (table["id"] == "", "an item without id; fill it or remove the row"),
        (~table["id"].is_first_distinct(), "an item that appears twice; remove one of the rows"),
    ]:
        if bad.any():
            raise InputError(f"{locate_in(source)(int(bad.arg_max() or 0))}: {what}")
    return table


def locate_in(path: Path) -> Callable[[int], str]:
    """Where row n of a table stands: its line in a text file with a header, else its row counted from 1."""
    in_lines = path.suffix in (".csv", ".tsv", ".inter", ".item")
    return lambda row: f"{path}, line {row + 2}" if in_lines else f"{path}, row {row + 1}"


def check_column(columns: Sequence[str], name: str, source: Path, option: str) -> None:
    """Raise InputError unless the file has the column that an option names."""
    if name not in columns:
        raise InputError(f"{source}: no column {name!r}; name one with --{option}: {', '.join(columns)}")


def locate_line(path: Path, separator: str | None = None) -> str:
    """Where a text file that a parser refused is broken: the first line that is not UTF-8 or has too many fields."""
    n_fields = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                fields = line.decode("utf-8").count(separator) if separator else 0
            except UnicodeDecodeError as error:
                return f"{path}, line {number}: byte {line[error.start]:#04x} is not UTF-8; re-encode the file"
            n_fields = n_fields if number > 1 else fields
            if fields > n_fields:
                return (
                    f"{path}, line {number}: {fields + 1} fields where the header has {n_fields + 1}; correct the line"
                )
    return f"{path}: cannot be parsed; export it again"


def _parse_dates(column: pl.Series, locate: Callable[[int], str]) -> pl.Series:
    try:
        return column.str.to_datetime(time_unit="us", strict=False)
    except pl.exceptions.ComputeError:
        raise InputError(
            f"{locate(0)}: bad timestamp {column[0]!r}; give seconds since 1970 or ISO 8601 dates"
        ) from None
