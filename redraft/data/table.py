"""Event tables in Parquet, CSV or TSV with named columns, and an optional table of the items."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from redraft.data.raw import RawData, TimeUnit, check_column, item_table, locate_in, locate_line, to_microseconds
from redraft.records import InputError

__all__ = ["read_table"]

SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_table(
    src: Path,
    *,
    items: Path | None = None,
    user: str = "user_id",
    item: str = "item_id",
    time: str | None = "timestamp",
    time_unit: TimeUnit = "s",
    title: str | None = None,
    description: str | None = None,
    attributes: Sequence[str] = (),
) -> RawData:
    """Read events from a .parquet, .csv or .tsv file or a folder of Parquet files; only the named columns are loaded.

    items: a table of the items, whose id column is also called `item`. time: numbers in `time_unit`, dates, or text
    that holds either; None keeps the order of the file. title, description, attributes: columns of `items`, see
    `item_table`.
    Raises InputError for a missing file or column, a file that cannot be parsed and a value that is not a time.
    """

    locate = locate_in(src)
    columns = {"user": user, "item": item} | ({} if time is None else {"time": time})
    events = _read(src, columns).with_columns(pl.col("user", "item").cast(pl.String))
    if time is not None:
        events = events.with_columns(to_microseconds(events["time"], time_unit, locate))
    if items is None:
        if attributes or title or description:
            raise InputError(f"{src}: title, description and attributes come from a table of items; give --items FILE")
        return RawData(src, events, None, (), locate)
    described = item_table(_read(items), items, item=item, title=title, description=description, attributes=attributes)
    return RawData(src, events, described, tuple(attributes), locate)


def _read(path: Path, columns: dict[str, str] | None = None) -> pl.DataFrame:
    """The whole table, or {new name: column} of it."""
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; export it again")
    separator = SEPARATORS.get(path.suffix)
    if separator is None and path.suffix != ".parquet" and not path.is_dir():
        raise InputError(f"{path}: not a .parquet, .csv or .tsv file; export the table as one of these")
    try:
        table = pl.scan_csv(path, separator=separator, infer_schema=False) if separator else pl.scan_parquet(path)
        names = table.collect_schema().names()
        for option, name in (columns or {}).items():
            check_column(names, name, path, option)
        return (table.select(**columns) if columns else table).collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        if separator:
            raise InputError(locate_line(path, separator)) from None
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as Parquet ({reason}); export it again") from None
