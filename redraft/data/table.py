"""Event tables in Parquet, CSV or TSV with named columns, and an optional table of the items."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from redraft.arrays import gathered, parquet_batches, parquet_columns, parquet_rows, parquet_types, read_parquet
from redraft.data.places import UNKNOWN_FAULT, find_fault, locate_in, text_suffix
from redraft.data.raw import Columns, RawData, Read, apart, check_column, event_table, item_table, place_in
from redraft.data.times import form_of_times
from redraft.records import InputError

__all__ = ["ROWS", "FilePiece", "read_table"]

ROWS = 1 << 21
"""Events in memory at a time."""
LINE = 40
"""About how many bytes of text an event takes."""

SEPARATORS = {".csv": ",", ".tsv": "\t"}
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Span:
    """Some rows of a file. groups: row groups of a Parquet file, of which `first` is the first row in the file."""

    path: Path
    groups: tuple[int, ...] = ()
    first: int = 0


@dataclass(frozen=True)
class FilePiece:
    """Events of files that are read together, or of a part of one."""

    spans: tuple[Span, ...]
    columns: Columns

    def read(self, rows: int) -> Iterator[Read]:
        """See `Piece`; raises InputError as `read_table`."""
        held: list[Read] = []
        for part in (part for span in self.spans for part in _read_span(span, self.columns, rows)):
            full = sum(other.events.height for other in held) + part.events.height > rows
            if held and (full or part.times != held[0].times):
                yield _together(held)
                held = []
            held.append(part)
        if held:
            yield _together(held)


def _read_span(span: Span, columns: Columns, rows: int) -> Iterator[Read]:
    named = columns.named()
    if text_suffix(span.path) in SEPARATORS:
        parts = gathered(_text_batches(span.path, named, rows), rows)
    else:
        batches = parquet_batches(span.path, list(named.values()), rows, span.groups)
        parts = (part.select(**named) for part in batches)
    first = span.first
    for part in parts:
        spans = ((str(span.path), first, part.height),)
        written = form_of_times(part["time"]) if "time" in part.columns else ""
        yield Read(event_table(part, columns, partial(place_in, spans)), written, spans)
        first += part.height


def _together(parts: list[Read]) -> Read:
    events = pl.concat([part.events for part in parts])
    return Read(events, parts[0].times, tuple(span for part in parts for span in part.spans))


def read_table(src: Path, items: Path | None, columns: Columns, rows: int = ROWS) -> RawData:
    """Find events in a .parquet, .csv or .tsv file, the latter also as .gz, or a folder of such files.

    They are read when they are needed, about `rows` at a time, and of them only the named columns. items: a table of
    the items, whose id column has the same name; title, description, attributes: see `item_table`.
    Raises InputError for a missing file or column, a file that cannot be parsed and a value that is not a time.
    """
    files = _files(src)
    _check_text(files)
    pieces = tuple(_pieces(files, columns, rows))
    attributes = columns.attributes or ()
    if items is None:
        if attributes or columns.title or columns.description or columns.several:
            raise InputError(f"{src}: title, description and attributes come from a table of items; give --items FILE")
        return RawData(src, pieces, None, (), locate_in(src))
    described = item_table(_read(items), items, columns, attributes)
    described, attributes = apart(described, attributes, columns.several, r"[|;,]", items)
    return RawData(src, pieces, described, attributes, locate_in(src))


def _pieces(files: list[Path], columns: Columns, rows: int) -> Iterator[FilePiece]:
    """Small files together and parts of large Parquet files, about so many rows each."""
    held: list[Span] = []
    size = 0
    for span, n_rows in (sized for file in files for sized in _spans(file, files[0], columns, rows)):
        held.append(span)
        size += n_rows
        if size >= rows:
            yield FilePiece(tuple(held), columns)
            held, size = [], 0
    if held:
        yield FilePiece(tuple(held), columns)


def _spans(file: Path, first: Path, columns: Columns, rows: int) -> Iterator[tuple[Span, int]]:
    """A text file as a whole, a Parquet file in runs of row groups; and about how many rows each has."""
    named = columns.named()
    if text_suffix(file) in SEPARATORS:
        _check_columns(_text_columns(file), named, file)
        yield Span(file), file.stat().st_size // LINE
        return
    types, alike = parquet_types(file), parquet_types(first)
    _check_columns(list(types), named, file)
    if any(types[name] != alike[name] for name in named.values()):
        raise InputError(f"{file}: columns of other types than in {first.name}; export them as one table")
    groups: list[int] = []
    start = stop = 0
    for group, n_rows in enumerate(parquet_rows(file)):
        groups.append(group)
        stop += n_rows
        if stop - start >= rows:
            yield Span(file, tuple(groups), start), stop - start
            groups, start = [], stop
    if groups:
        yield Span(file, tuple(groups), start), stop - start


def _check_columns(names: list[str], named: dict[str, str], path: Path) -> None:
    for option, name in named.items():
        check_column(names, name, path, option)


def _text_columns(path: Path) -> list[str]:
    with _parse_faults([path]):
        return pl.scan_csv(path, separator=SEPARATORS[text_suffix(path)], infer_schema=False).collect_schema().names()


def _text_batches(path: Path, named: dict[str, str], rows: int) -> Iterator[pl.DataFrame]:
    with _parse_faults([path]):
        table = pl.scan_csv(path, separator=SEPARATORS[text_suffix(path)], infer_schema=False).select(**named)
        yield from table.collect_batches(chunk_size=rows, maintain_order=True, engine="streaming")


@contextmanager
def _parse_faults(files: list[Path]) -> Iterator[None]:
    """Raise InputError, with the place, for files that a parser refuses in the block."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError):
        faults = (find_fault(file, SEPARATORS[text_suffix(file)]) for file in files)
        known = (fault for fault in faults if not fault.endswith(UNKNOWN_FAULT))
        raise InputError(next(known, f"{files[0]}: {UNKNOWN_FAULT}")) from None


def _read(path: Path) -> pl.DataFrame:
    """A whole table of items."""
    files = _files(path)
    _check_text(files)
    if text_suffix(files[0]) in SEPARATORS:
        separator = SEPARATORS[text_suffix(files[0])]
        with _parse_faults(files):
            return pl.scan_csv(files, separator=separator, infer_schema=False).collect(engine="streaming")
    names = parquet_columns(files[0])
    parts = [read_parquet(file, names) for file in files]
    for file, part in zip(files, parts):
        if part.schema != parts[0].schema:
            raise InputError(f"{file}: columns of other types than in {files[0].name}; export them as one table")
    return pl.concat(parts)


def _files(path: Path) -> list[Path]:
    """The file itself, or the data files of a folder, without what Spark puts beside them (_SUCCESS, .crc)."""
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    files = [path]
    if path.is_dir():
        parts = (part for part in sorted(path.rglob("*")) if part.is_file())
        files = [part for part in parts if not any(name[0] in "._" for name in part.relative_to(path).parts)]
    kinds = {text_suffix(file) for file in files}
    if len(kinds) != 1 or kinds - {".parquet", *SEPARATORS}:
        raise InputError(f"{path}: not a .parquet, .csv or .tsv file or a folder of one such kind; export it as one")
    for file in files:
        if file.stat().st_size == 0:
            raise InputError(f"{file}: the file is empty; export it again")
    return files


def _check_text(files: list[Path]) -> None:
    for file in (file for file in files if text_suffix(file) in SEPARATORS):
        with file.open("rb") as opened:
            if opened.read(2) in UTF_16:
                raise InputError(f"{file}: text in UTF-16; save it as UTF-8")
