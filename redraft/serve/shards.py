"""Lists of many users, shard by shard: what was done before a stop is not done again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redraft.files import atomic_file, read_json, write_json
from redraft.frames import lists_frame
from redraft.records import Catalogue, Dataset, InputError, IntArray, Interactions, Recommendations

__all__ = ["chosen_users", "write_shards"]

SHARD = 4096


def chosen_users(path: Path | None, dataset: Dataset) -> IntArray:
    """int64 [n], numbers of the users whose ids stand in a text file, one per line; of all users without a file.

    Raises InputError for a file that is missing or empty, and for an id that is not in the data set.
    """
    if path is None:
        return np.arange(dataset.interactions.n_users)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give a text file with one user id per line") from None
    ids = pl.Series("id", [line for line in lines if line], dtype=pl.String)
    if not len(ids):
        raise InputError(f"{path}: no user id in it; write one per line")
    known = pl.DataFrame({"id": dataset.user_ids}).with_row_index("number")
    numbers = ids.to_frame().join(known, on="id", how="left", maintain_order="left")["number"]
    if numbers.has_nulls():
        place = int(numbers.is_null().arg_max() or 0)
        raise InputError(f"{path}: user {ids[place]!r} is not in the data set; leave it out")
    return numbers.to_numpy().astype(np.int64)


def write_shards(
    out: Path,
    users: IntArray,
    dataset: Dataset,
    catalogue: Catalogue,
    recommend: Callable[[Interactions], Recommendations],
    about: dict[str, Any],
) -> int:
    """Write the lists of users as one table, whole or not at all; returns how many shards were there already.

    Each shard is a file in a folder beside `out`, which goes when `out` is written. about: what the lists depend on;
    shards of anything else are not used.
    """
    folder = out.with_name(f".{out.name}.shards")
    about = about | {"users": len(users), "first": int(users[0]), "sum": int(users.sum()), "shard": SHARD}
    note = folder / "about.json"
    if not (note.exists() and read_json(note) == about):
        _clear(folder)
        with _written_for(out, folder):
            write_json(note, about)
    done = 0
    for start in range(0, len(users), SHARD):
        shard = folder / f"{start:012d}.parquet"
        if shard.exists():
            done += 1
            continue
        some = users[start : start + SHARD]
        recommended = recommend(dataset.interactions.take(some))
        with _written_for(out, folder), atomic_file(shard) as partial:
            lists_frame(dataset.user_ids.gather(some), catalogue, recommended).write_parquet(partial)
    lists = pl.scan_parquet(folder / "*.parquet")
    with atomic_file(out) as partial:
        if out.suffix == ".csv":
            lists.sink_csv(partial)
        else:
            lists.sink_parquet(partial)
    _clear(folder)
    folder.rmdir()
    return done


@contextmanager
def _written_for(out: Path, folder: Path) -> Iterator[None]:
    """Name what the user asked for where a part of it cannot be written; leave no folder without a shard."""
    try:
        yield
    except InputError as error:
        if not any(folder.glob("*.parquet")):
            _clear(folder)
            folder.rmdir()
        reason, _, fix = str(error).rpartition("; ")
        raise InputError(f"{out}: cannot be written (its part {reason}); {fix}") from None


def _clear(folder: Path) -> None:
    for path in folder.glob("*") if folder.exists() else ():
        path.unlink()
