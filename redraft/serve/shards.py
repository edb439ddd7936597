"""Lists of many users, shard by shard: what was done before a stop is not done again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redraft.engines.local import HERE
from redraft.engines.tasks import Engine, Task, parts_of
from redraft.files import atomic_file
from redraft.records import Dataset, InputError, IntArray

__all__ = ["SHARD", "chosen_users", "lists_in_parts"]

SHARD = 1024


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


def lists_in_parts(
    out: Path,
    users: IntArray,
    lists: Callable[[IntArray], pl.DataFrame],
    about: dict[str, Any],
    engine: Engine = HERE,
    *,
    gpus: int = 0,
    done: Callable[[int], object] = lambda _: None,
) -> int:
    """Write the lists of users as one table, whole or not at all; returns how many shards were there already.

    Shards stand in a folder beside `out`, which goes when `out` is written. lists: those of some users, by their
    numbers; it can be pickled where the engine has processes. about: what the lists depend on; shards of anything else
    are not used. gpus: that a shard needs. done: called with the number of users after each shard.
    Raises InputError as `parts_of` and the engine.
    """
    about = about | {"users": len(users), "first": int(users[0]), "sum": int(users.sum()), "shard": SHARD}
    with parts_of(out.with_name(f".{out.name}.shards"), about) as parts:
        shards = [users[start : start + SHARD] for start in range(0, len(users), SHARD)]
        tasks = [Task(f"{n:08d}", _write_shard, (lists, some), gpus) for n, some in enumerate(shards)]
        missing = parts.missing(tasks)
        done(len(users) - sum(len(task.arguments[1]) for task in missing))
        engine.run(parts.folder, missing, lambda task: done(len(task.arguments[1])))
        table = pl.scan_parquet([parts.folder / task.name / "lists.parquet" for task in tasks])
        with atomic_file(out) as partial:
            if out.suffix == ".csv":
                table.sink_csv(partial)
            else:
                table.sink_parquet(partial)
    return len(tasks) - len(missing)


def _write_shard(out: Path, lists: Callable[[IntArray], pl.DataFrame], users: IntArray) -> dict[str, Any]:
    lists(users).write_parquet(out / "lists.parquet")
    return {}
