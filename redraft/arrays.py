"""Arrays and tables on disk, checked where they are opened."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PanicException, PolarsError

from redraft.records import InputError

__all__ = [
    "gathered",
    "parquet_batches",
    "parquet_columns",
    "parquet_rows",
    "parquet_types",
    "read_array",
    "read_parquet",
]

ROWS = 1 << 18


def read_array(path: Path, *, memory_mapped: bool = False) -> NDArray[Any]:
    """The array of a .npy file; memory-mapped, it stays on disk and is read-only.

    Raises InputError, naming the file, if it is missing, cut off or anything but one array of plain values.
    """
    try:
        array = np.load(path, mmap_mode="r" if memory_mapped else None, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (ValueError, EOFError, OverflowError, MemoryError, SyntaxError, TokenError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: not a readable .npy array ({reason}); write it again with numpy.save") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: not one array; write it again with numpy.save")
    return array


def parquet_columns(path: Path) -> list[str]:
    """The names of a Parquet file's columns. Raises InputError, naming the file, if it is missing or damaged."""
    with _opened(path) as file:
        return list(file.schema_arrow.names)


def parquet_types(path: Path) -> dict[str, Any]:
    """The Arrow type of each column. Raises InputError, naming the file, if it is missing or damaged."""
    with _opened(path) as file:
        return {field.name: field.type for field in file.schema_arrow}


def parquet_rows(path: Path) -> list[int]:
    """How many rows each row group has. Raises InputError, naming the file, if it is missing or damaged."""
    with _opened(path) as file:
        return [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]


def parquet_batches(path: Path, columns: Sequence[str], rows: int, groups: Sequence[int]) -> Iterator[pl.DataFrame]:
    """These columns of some row groups, at most so many rows at a time, checked as by `read_parquet`.

    Raises InputError, naming the file, if it is missing or damaged.
    """
    with _opened(path) as file:
        batches = file.iter_batches(rows, row_groups=list(groups), columns=list(dict.fromkeys(columns)))
        yield from gathered(map(_checked, batches), rows)


def gathered(frames: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Tables of at most `rows` rows as few tables of at most as many, in order."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        if held and sum(part.height for part in held) + frame.height > rows:
            yield pl.concat(held)
            held = []
        held.append(frame)
    if held:
        yield pl.concat(held)


def read_parquet(path: Path, columns: Sequence[str] | None = None, *, fix: str = "export it again") -> pl.DataFrame:
    """The table in a Parquet file, or these columns of it, in their order.

    Read by Arrow and checked in full: there are damaged files that end a process in which polars reads them.
    fix: how to go on without it, for messages.
    Raises InputError, naming the file, if it is missing or damaged, or lacks a column.
    """
    with _opened(path, fix) as file:
        names = list(file.schema_arrow.names)
        wanted = names if columns is None else list(dict.fromkeys(columns))
        missing = next((name for name in wanted if name not in names), None)
        if missing is not None:
            raise InputError(f"{path}: no column {missing!r}, only {', '.join(names)}; {fix}")
        parts = [_checked(batch) for batch in file.iter_batches(ROWS, columns=wanted)]
        return pl.concat(parts or [_checked(file.schema_arrow.empty_table())]).select(wanted)


def _checked(batch: Any) -> pl.DataFrame:
    """A part of an Arrow table without metadata, which may be damaged too."""
    batch.validate(full=True)
    return pl.DataFrame(pl.from_arrow(type(batch).from_arrays(batch.columns, names=batch.schema.names)))


@contextmanager
def _opened(path: Path, fix: str = "export it again") -> Iterator[Any]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {fix}") from None
    except InputError:
        raise
    except (ArrowException, MemoryError, OSError, PanicException, PolarsError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path}: cannot be read as Parquet ({reason}); {fix}") from None
