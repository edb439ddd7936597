"""Where something stands in a file of text: what every message about a table names."""

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["find_fault", "locate_in", "text_suffix"]

UNKNOWN_FAULT = "cannot be parsed; export it again"
MOST_LINES = 1000
"""A quoted field of more lines than this was never meant to be one."""


def text_suffix(path: Path) -> str:
    """The suffix of a file, that below .gz where it is compressed."""
    return Path(path.name.removesuffix(".gz")).suffix


def locate_in(path: Path) -> Callable[[int], str]:
    """Where row n of a table stands: its line in a text file with a header, else its row counted from 1."""
    in_lines = text_suffix(path) in (".csv", ".tsv", ".inter", ".item")
    return lambda row: f"{path}, line {row + 2}" if in_lines else f"{path}, row {row + 1}"


def find_fault(path: Path, separator: str, *, quotes: bool = True) -> str:
    """Where a text file that a parser refused is broken, and how.

    The first line that is not UTF-8, has too many fields or, if `quotes` may enclose fields, a quote in a wrong place.
    """
    try:
        with _open(path) as file:
            return _first_fault(path, _records(file, quotes), separator, quotes) or f"{path}: {UNKNOWN_FAULT}"
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return f"{path}: broken gzip ({error}); get the file again"


def _first_fault(path: Path, records: Iterator[tuple[int, bytes]], separator: str, quotes: bool) -> str | None:
    enclosed = re.compile(rf'(^|{separator})"(?:[^"]|"")*"(?={separator}|$)')
    n_fields = 0
    for number, record in records:
        try:
            text = record.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            line = number + record.count(b"\n", 0, error.start)
            return f"{path}, line {line}: byte {record[error.start]:#04x} is not UTF-8; re-encode the file"
        bare = enclosed.sub(r"\1", text) if quotes else text
        if quotes and '"' in bare:
            return (
                f"{path}, line {number}: a quote that does not enclose a whole field; enclose the field, "
                'and write each quote in it twice: "5"" pipe"'
            )
        n_here = bare.count(separator) + 1
        n_fields = n_fields or n_here
        if n_here > n_fields:
            return f"{path}, line {number}: {n_here} fields where the header has {n_fields}; correct the line"
    return None


def _open(path: Path) -> BinaryIO:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _records(file: BinaryIO, quotes: bool) -> Iterator[tuple[int, bytes]]:
    """The number of the first line of each record and its bytes: one line, or more where quotes enclose a break."""
    lines: list[bytes] = []
    odd = False
    for number, line in enumerate(file, start=1):
        lines.append(line)
        odd ^= quotes and line.count(b'"') % 2 == 1
        if not odd or len(lines) == MOST_LINES:
            yield number + 1 - len(lines), b"".join(lines)
            lines, odd = [], False
    if lines:
        yield number + 1 - len(lines), b"".join(lines)
