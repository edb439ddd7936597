"""What a night works on: all events and items as they are now, copied, so that nothing changes while it runs."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redraft.data.raw import Columns, RawData, Read
from redraft.data.store import catalogue_to_frame
from redraft.data.table import ROWS, read_table
from redraft.files import atomic_directory, atomic_file
from redraft.ids import normal_ids
from redraft.nightly.night import Night
from redraft.recommender import read_catalogue
from redraft.records import InputError, IntArray

__all__ = ["EVENTS", "ITEMS", "LISTED", "forget_events", "gather", "moments"]

EVENTS, ITEMS = "events", "items.parquet"
LISTED = "listed"


def gather(
    night: Night, sources: Sequence[Path], items: Path, columns: Columns, held_out: float, since: int
) -> dict[str, Any]:
    """Copy the events of all sources and the description of every item into the notes of a night.

    sources: files and folders of events, such as a service's journals. items: the table of the items that are sold now;
    what it does not list any more is described as it was before. since: seconds since 1970, from which on events are
    new. held_out: the share of the new events, the newest, that is not for training.
    Returns how many events and items there are, how many of them new, and when validation and test begin.
    Raises InputError as the readers do, for an event without user or item, and if there are not enough new events.
    """
    described = _described(night, read_table(_filled(sources)[0], items, columns), items)
    with atomic_file(night.notes / ITEMS) as partial:
        described.write_parquet(partial)
    plain = replace(columns, title=None, description=None, attributes=None)
    new, n_events = [np.zeros(0, dtype=np.int64)], 0
    with atomic_directory(night.notes / EVENTS) as out:
        for n, source in enumerate(_filled(sources)):
            reads = (read for piece in read_table(source, None, plain).pieces for read in piece.read(ROWS))
            for m, read in enumerate(reads):
                events = _complete(read)
                events.write_parquet(out / f"{n:03d}-{m:06d}.parquet")
                seconds = events["timestamp"].dt.epoch("s").to_numpy()
                new.append(seconds[seconds >= since])
                n_events += events.height
    last = night.before and night.before.done("events")
    if last and last["events"] == n_events:
        raise InputError(f"no event has come since the last night, which had {n_events:,} too; wait for some")
    times = np.concatenate(new)
    validation_from, test_from = moments(times, held_out, since)
    return {
        "events": n_events,
        "new": len(times),
        "items": described.height,
        "validation_from": validation_from,
        "test_from": test_from,
    }


def forget_events(night: Night) -> None:
    """Remove the copy of the events of a night that has nothing more to write of them."""
    shutil.rmtree(night.notes / EVENTS, ignore_errors=True)


def moments(times: IntArray, held_out: float, since: int) -> tuple[int, int]:
    """When validation and test begin, so that each gets half of the newest share of the new events [n].

    Raises InputError if there are not enough events for training, validation and test.
    """
    if not len(times):
        raise InputError("no event is newer than what was learnt last; run the night when there are some")
    validation_from, test_from = (int(x) for x in np.quantile(times, [1 - held_out, 1 - held_out / 2]))
    if not max(since, int(times.min())) < validation_from < test_from:
        raise InputError(
            f"{len(times):,} new events are too few, or too close in time, to learn from some and hold "
            f"{held_out:.0%} out; run the night when there are more"
        )
    return validation_from, test_from


def _filled(sources: Sequence[Path]) -> list[Path]:
    """The sources without folders in which nothing is yet. Raises InputError if nothing is left."""
    filled = [path for path in sources if not path.is_dir() or any(_shown(path))]
    if not filled:
        raise InputError(
            f"{', '.join(map(str, sources))}: no events; a journal's hour is there when it is over, so wait for one"
        )
    return filled


def _shown(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name[0] not in "._"]


def _complete(read: Read) -> pl.DataFrame:
    """The columns user_id, item_id and timestamp; raises InputError, naming the place, for an event without an id."""
    for name in ("user", "item"):
        missing = normal_ids(read.events[name]).fill_null("") == ""
        if missing.any():
            row = int(missing.arg_max() or 0)
            raise InputError(f"{read.place(row)}: no {name} id; fill it or remove the event")
    return read.events.select(
        user_id="user", item_id="item", timestamp=pl.from_epoch("time", time_unit="us").dt.cast_time_unit("us")
    )


def _described(night: Night, raw: RawData, table: Path) -> pl.DataFrame:
    """The items of today's table, and then those of yesterday that it lacks; column `listed` tells them apart."""
    assert raw.items is not None, "a table of items"
    today = raw.items.with_columns(pl.lit(True).alias(LISTED)).rename({"id": "item_id"})
    if night.parent is None:
        return today
    known = read_catalogue(night.parent.run / "catalogue.parquet")
    missing = [name for name in known.attribute_names if name not in raw.attributes]
    if missing:
        raise InputError(
            f"{table}: attribute {missing[0]!r} is not read, and the model in service knows it; give all of "
            f"`--attributes {' '.join(known.attribute_names)}`"
        )
    before = catalogue_to_frame(known).with_columns(pl.lit(False).alias(LISTED)).rename({"id": "item_id"})
    names = ["item_id", "title", "description", *known.attribute_names, LISTED]
    gone = before.select(names).join(today, on="item_id", how="anti", maintain_order="left")
    return pl.concat([today.select(names), gone])
