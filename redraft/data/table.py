"""Event tables in Parquet, CSV or TSV with named columns, and an optional table of the items."""

from pathlib import Path

import polars as pl

from redraft.arrays import parquet_columns, read_parquet
from redraft.data.places import UNKNOWN_FAULT, find_fault, locate_in, text_suffix
from redraft.data.raw import Columns, RawData, apart, check_column, event_table, item_table
from redraft.records import InputError

__all__ = ["read_table"]

SEPARATORS = {".csv": ",", ".tsv": "\t"}
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_table(src: Path, items: Path | None, columns: Columns) -> RawData:
    """Read events from a .parquet, .csv or .tsv file, the latter also as .gz, or a folder of such files.

    Of the events only the named columns are loaded. items: a table of the items, whose id column has the same name;
    title, description, attributes: see `item_table`.
    Raises InputError for a missing file or column, a file that cannot be parsed and a value that is not a time.
    """
    locate = locate_in(src)
    named = {"user": columns.user, "item": columns.item, "time": columns.time, "order": columns.order}
    events = event_table(_read(src, {option: name for option, name in named.items() if name}), columns, locate)
    attributes = columns.attributes or ()
    if items is None:
        if attributes or columns.title or columns.description or columns.several:
            raise InputError(f"{src}: title, description and attributes come from a table of items; give --items FILE")
        return RawData(src, events, None, (), locate)
    described = item_table(_read(items), items, columns, attributes)
    described, attributes = apart(described, attributes, columns.several, r"[|;,]", items)
    return RawData(src, events, described, attributes, locate)


def _read(path: Path, columns: dict[str, str] | None = None) -> pl.DataFrame:
    """The whole table, or {new name: column} of it."""
    files = _files(path)
    separator = SEPARATORS.get(text_suffix(files[0]))
    return _read_text(path, files, separator, columns) if separator else _read_parquet(path, files, columns)


def _read_text(path: Path, files: list[Path], separator: str, columns: dict[str, str] | None) -> pl.DataFrame:
    _check_text(files)
    try:
        table = pl.scan_csv(files, separator=separator, infer_schema=False)
        names = table.collect_schema().names()
        for option, name in (columns or {}).items():
            check_column(names, name, path, option)
        return (table.select(**columns) if columns else table).collect(engine="streaming")
    except (OSError, pl.exceptions.PolarsError):
        faults = (find_fault(file, separator) for file in files)
        known = (fault for fault in faults if not fault.endswith(UNKNOWN_FAULT))
        raise InputError(next(known, f"{path}: {UNKNOWN_FAULT}")) from None


def _read_parquet(path: Path, files: list[Path], columns: dict[str, str] | None) -> pl.DataFrame:
    names = parquet_columns(files[0])
    for option, name in (columns or {}).items():
        check_column(names, name, path, option)
    parts = [read_parquet(file, list(columns.values()) if columns else names) for file in files]
    for file, part in zip(files, parts):
        if part.schema != parts[0].schema:
            raise InputError(f"{file}: columns of other types than in {files[0].name}; export them as one table")
    table = pl.concat(parts)
    return table.select(**columns) if columns else table


def _files(path: Path) -> list[Path]:
    """The file itself, or the data files of a folder, without what Spark puts beside them (_SUCCESS, .crc)."""
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    found = [path]
    if path.is_dir():
        parts = (part for part in sorted(path.rglob("*")) if part.is_file())
        found = [part for part in parts if not any(name[0] in "._" for name in part.relative_to(path).parts)]
    kinds = {text_suffix(file) for file in found}
    if len(kinds) != 1 or kinds - {".parquet", *SEPARATORS}:
        raise InputError(f"{path}: not a .parquet, .csv or .tsv file or a folder of one such kind; export it as one")
    for file in found:
        if file.stat().st_size == 0:
            raise InputError(f"{file}: the file is empty; export it again")
    return found


def _check_text(files: list[Path]) -> None:
    for file in files:
        with file.open("rb") as opened:
            if opened.read(2) in UTF_16:
                raise InputError(f"{file}: text in UTF-16; save it as UTF-8")
