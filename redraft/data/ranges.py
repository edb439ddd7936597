"""Ids of many chunks in one order, a range of them at a time: what lies between two ids is a run of every chunk."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redraft.data.chunks import opened, order_ids, write_arrow
from redraft.records import IntArray

__all__ = ["Cut", "cuts", "number_items", "runs"]

SAMPLES = 64
"""Ids of a chunk from which the cuts between ranges are chosen."""

Cut = tuple[str | None, str | None]
"""From the first id of a range to the first after it; None for the ends."""


def cuts(files: Sequence[Path], n_ranges: int, *, whole: bool, events: Sequence[int] | None = None) -> list[Cut]:
    """Ranges of ids that together hold all, each about as many ids, or events where each file says how many it has.

    files: of users or items, see `chunks`. whole: whether the ids are whole numbers, in the order of their values.
    events: of files of users.
    """
    samples: list[str] = []
    weights: list[float] = []
    for n, path in enumerate(files if n_ranges > 1 else ()):
        with opened(path) as batch:
            size = batch.num_rows if events is None else events[n]
            places, times = np.unique(_places(batch, None if events is None else size), return_counts=True)
            samples += [batch.column(0)[int(place)].as_py() for place in places]
            weights += (times * (size / times.sum())).tolist()
    if not samples:
        return [(None, None)]
    order = sorted(range(len(samples)), key=lambda n: _key(whole)(samples[n]))
    passed = np.cumsum([weights[n] for n in order])
    chosen = np.searchsorted(passed, np.arange(1, n_ranges) * passed[-1] / n_ranges)
    least = samples[order[0]]  # the first of all, as each file gives its own
    starts = [id_ for id_ in dict.fromkeys(samples[order[min(int(n), len(order) - 1)]] for n in chosen) if id_ != least]
    return list(pairwise([None, *starts, None]))


def _places(batch: Any, n_events: int | None) -> IntArray:
    """Rows of ids that lie evenly among so many events, or among the ids."""
    n = batch.num_rows
    if n_events is None:
        return np.linspace(0, n - 1, min(SAMPLES, n)).astype(np.int64)
    wanted = np.linspace(0, n_events - 1, min(SAMPLES, n))
    return np.searchsorted(batch.column(1).to_numpy(), wanted, side="right") - 1


@contextmanager
def runs(files: Sequence[Path], cut: Cut, *, whole: bool) -> Iterator[list[tuple[Any, int, int]]]:
    """The record batch of each file, and the rows from which to which its ids lie in a range."""
    with ExitStack() as stack:
        rows = []
        for path in files:
            batch = stack.enter_context(opened(path))
            column = batch.column(0)
            start, stop = (_place(column, id_, whole) for id_ in cut)
            rows.append((batch, start or 0, batch.num_rows if stop is None else stop))
        yield rows


def _place(column: Any, id_: str | None, whole: bool) -> int | None:
    if id_ is None:
        return None
    key = _key(whole)
    return bisect_left(range(len(column)), key(id_), key=lambda n: key(column[n].as_py()))


def _key(whole: bool) -> Callable[[str], Any]:
    return (lambda text: (int(text), text)) if whole else str


def number_items(out: Path, files: Sequence[Path], described: pl.Series, n_ranges: int, whole: bool) -> dict[str, Any]:
    """Number all items in their order, those described and never bought too.

    Writes ids.parquet (id, count: its events), and for file n of items n.npy, int32: the number of each of its items.
    """
    more = [out / "described"] if len(described) else []
    for path in more:
        write_arrow(path, {"id": order_ids(described, whole=whole), "count": np.zeros(len(described), dtype=np.int64)})
    numbers: list[list[IntArray]] = [[] for _ in files]
    parts, n_before = [], 0
    for cut in cuts(files, n_ranges, whole=whole):
        with runs([*files, *more], cut, whole=whole) as rows:
            tables = [pl.DataFrame(pl.from_arrow(batch.slice(a, b - a))) for batch, a, b in rows]
            given = pl.concat([table["id"] for table in tables])
            ids = order_ids(given.unique(), whole=whole)
            codes = given.cast(pl.Enum(ids)).to_physical().cast(pl.Int64).to_numpy()
            counts = np.bincount(codes, pl.concat([table["count"] for table in tables]).to_numpy(), len(ids))
            parts.append(pl.DataFrame({"id": ids, "count": counts.astype(np.int64)}))
            stops = np.cumsum([table.height for table in tables])
            for own, some in zip(numbers, np.split(codes, stops[:-1])):
                own.append((some + n_before).astype(np.int32))
            n_before += len(ids)
    for n, own in enumerate(numbers):
        np.save(out / f"{n}.npy", np.concatenate(own))
    for path in more:
        path.unlink()
    pl.concat(parts).write_parquet(out / "ids.parquet")
    return {"items": n_before}
