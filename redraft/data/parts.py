"""The parts of an import: the events of a range of users, from sorted runs to the rows of a data set.

A part is a folder: users (id, in order) and events (user: row of the users, item: its number, time, order), by user,
time and order. Nothing here holds more than one part, and a few numbers per item.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from redraft.data.account import Ties, first_odd
from redraft.data.chunks import opened, order_ids, write_arrow
from redraft.data.ranges import Cut, runs
from redraft.data.ties import in_tie, random_order, with_previous
from redraft.records import BoolArray, IntArray

__all__ = ["Duplicates", "advance_core", "count_items", "count_part", "merge", "write_shard"]

Duplicates = Literal["error", "drop", "first", "keep"]
MOMENTS = ("time", "order")


def merge(
    out: Path, chunks: Sequence[Path], numbers: Path, cut: Cut, whole: bool, duplicates: Duplicates
) -> dict[str, Any]:
    """Write the part of the users in a range of ids; returns counts, and the first event that repeats another.

    chunks: names of files of `chunks.stage`. numbers: the folder of `ranges.number_items`. whole: of the users' ids.
    """
    given, lengths, tables = [], [], []
    with runs([Path(f"{chunk}.users") for chunk in chunks], cut, whole=whole) as users_of:
        for n, (batch, a, b) in enumerate(users_of):
            if a == b:
                continue
            with opened(Path(f"{chunks[n]}.events")) as events:
                starts = np.append(batch.column(1).to_numpy(), events.num_rows)[a : b + 1]
                table = pl.DataFrame(pl.from_arrow(events.slice(starts[0], starts[-1] - starts[0])))
                of_chunk = np.load(numbers / f"{n}.npy", mmap_mode="r")
                item = pl.Series("item", of_chunk[table["item"].to_numpy()])
                tables.append(table.with_columns(item, chunk=pl.lit(n, pl.UInt32)))
            given.append(pl.DataFrame(pl.from_arrow(batch.slice(a, b - a)))["id"])
            lengths.append(np.diff(starts))
    names = pl.concat(given)
    ids = order_ids(names.unique(), whole=whole)
    codes = names.cast(pl.Enum(ids)).to_physical().cast(pl.Int32).to_numpy()
    events = pl.concat(tables).with_columns(user=pl.Series(np.repeat(codes, np.concatenate(lengths))))
    events = events.sort([name for name in ("user", *MOMENTS) if name in events.columns], maintain_order=True)
    kept, repeated = without_duplicates(events.with_row_index("at"), duplicates)
    columns = [name for name in ("user", "item", *MOMENTS) if name in kept.columns]
    write_arrow(out / "events", kept.select(columns).to_dict())
    write_arrow(out / "users", {"id": ids})
    first = repeated.row(0, named=True) if repeated.height else None
    return {
        "users": len(ids),
        "events": kept.height,
        "odd": first_odd(ids),
        "repeated": first and [ids[first["user"]], first["item"], first["chunk"], first["row"]],
    }


def without_duplicates(events: pl.DataFrame, duplicates: Duplicates) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events sorted by user and time with their row in column `at`: those to keep, and those that repeat another."""
    if duplicates == "keep":
        return events, events.clear()
    same = ["user", "item"] if duplicates == "first" or "time" not in events.columns else ["user", "item", "time"]
    alike = events
    if "time" in same:  # few share both
        alike = events.filter(in_tie(with_previous(events["user"].to_numpy(), [events["time"].to_numpy()])))
    first = alike.unique(same, keep="first", maintain_order=True)
    repeated = alike.join(first, on="at", how="anti", maintain_order="left")
    return events.join(repeated, on="at", how="anti", maintain_order="left") if repeated.height else events, repeated


def count_items(out: Path, part: Path, alive: Path | None, core: int) -> dict[str, Any]:
    """Write items.npy and counts.npy: what is bought, and how often, by users with `core` events of living items."""
    events = _kept(part, alive, core)
    items, counts = np.unique(events["item"].to_numpy(), return_counts=True)
    np.save(out / "items.npy", items)
    np.save(out / "counts.npy", counts.astype(np.int64))
    return {}


def advance_core(out: Path, counted: Sequence[Path], n_items: int, core: int, before: Path | None) -> dict[str, Any]:
    """Write alive.npy, bool [N]: which items have `core` events, by `count_items` of all parts; and whether it is news.

    The steps end in the same set of events as `core.k_core`, which is the only one of its kind.
    """
    counts = np.zeros(n_items, dtype=np.int64)
    for folder in counted:
        counts[np.load(folder / "items.npy")] += np.load(folder / "counts.npy")
    alive = counts >= core
    np.save(out / "alive.npy", alive)
    return {"changed": before is None or not np.array_equal(alive, np.load(before / "alive.npy"))}


def count_part(_: Path, part: Path, alive: Path | None, core: int) -> dict[str, Any]:
    """How many events, users, moments of users and events in ties a part has; the first user with fewer than 3."""
    events = _kept(part, alive, core)
    same = _same_moment(events)
    lengths = np.bincount(events["user"].to_numpy())
    short = np.flatnonzero((lengths > 0) & (lengths < 3))
    with opened(part / "users") as users:
        first = [users.column(0)[int(short[0])].as_py(), int(lengths[short[0]])] if len(short) else None
    return {
        "events": events.height,
        "users": int(np.count_nonzero(lengths)),
        "moments": int(np.count_nonzero(~same)),
        "tied": int(in_tie(same).sum()) if has_moments(events) else None,
        "short": len(short),
        "first_short": first,
    }


def write_shard(
    out: Path,
    part: Path,
    alive: Path | None,
    core: int,
    new_items: Path | None,
    first_user: int,
    first_moment: int,
    ties: Ties,
    seed: int,
) -> dict[str, Any]:
    """Write items.npy, times.npy, lengths.npy and the ids of the users: what this part adds to the data set.

    new_items: .npy file of what items are called in the end. first_user, first_moment: how many come before.
    """
    events = _kept(part, alive, core)
    users, items = events["user"].to_numpy(), events["item"].to_numpy()
    same = _same_moment(events)
    if ties == "random" and has_moments(events) and same.any():
        order = random_order(same, users + np.int64(first_user), items, seed=seed, first_tie=first_moment)
        events, items = events[order], items[order]
    items = items if new_items is None else np.load(new_items, mmap_mode="r")[items]
    lengths = np.bincount(users)
    np.save(out / "items.npy", items.astype(np.int32))
    np.save(out / "lengths.npy", lengths[lengths > 0])
    if "time" in events.columns:
        np.save(out / "times.npy", events["time"].to_numpy() // 1_000_000)
    with opened(part / "users") as batch:
        ids = pl.DataFrame(pl.from_arrow(batch))["id"].gather(np.flatnonzero(lengths))
        write_arrow(out / "users", {"id": ids})
    return {}


def has_moments(events: pl.DataFrame) -> bool:
    """Whether anything but their place in the file says what came first."""
    return any(name in events.columns for name in MOMENTS)


def _same_moment(events: pl.DataFrame) -> BoolArray:
    moments = [events[name].to_numpy() for name in MOMENTS if name in events.columns]
    return with_previous(events["user"].to_numpy(), moments)


def _kept(part: Path, alive: Path | None, core: int) -> pl.DataFrame:
    """The events of living items by users who have `core` of them; all while nothing is known to die."""
    with opened(part / "events") as batch:
        events = pl.DataFrame(pl.from_arrow(batch))
        rows = np.ones(events.height, dtype=np.bool_)
        if alive is not None:
            rows &= np.load(alive / "alive.npy")[events["item"].to_numpy()]
        users: IntArray = events["user"].to_numpy()
        rows &= np.bincount(users[rows], minlength=int(users.max(initial=0)) + 1)[users] >= core
        return events.filter(rows)
