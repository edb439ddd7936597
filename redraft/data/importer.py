"""`redraft data import`: read raw logs of any kind, drop, sort, number, and write a data set."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import polars as pl
import tyro

from redraft.data.amazon import read_amazon
from redraft.data.core import k_core
from redraft.data.lcrec import read_lcrec
from redraft.data.raw import RawData, TimeUnit
from redraft.data.recbole import read_recbole
from redraft.data.store import catalogue_from_frame, load_dataset, make_dataset, save_dataset
from redraft.data.table import read_table
from redraft.folders import DATASET, check_replace
from redraft.records import Dataset, InputError, IntArray, Interactions
from redraft.terminal import next_command, plain_console

__all__ = ["Duplicates", "ImportConfig", "Kind", "build_dataset", "import_dataset", "main"]

Kind = Literal["lcrec", "amazon", "recbole", "table"]
Duplicates = Literal["error", "drop", "first", "keep"]

DEFAULT_CORE: dict[Kind, int] = {"lcrec": 0, "amazon": 5, "recbole": 0, "table": 0}
DEFAULT_DUPLICATES: dict[Kind, Duplicates] = {"lcrec": "keep", "amazon": "first", "recbole": "error", "table": "error"}


@dataclass(frozen=True)
class ImportConfig:
    """Read raw logs and write a data set."""

    kind: Annotated[Kind, tyro.conf.Positional]
    """Layout: lcrec (NAME.inter.json), amazon (reviews, metadata), recbole (NAME.inter), table (Parquet, CSV, TSV)."""
    src: Annotated[Path, tyro.conf.Positional]
    """The folder with the logs; for table and amazon also the file of events."""
    dst: Annotated[Path, tyro.conf.Positional]
    """The data-set folder to write."""
    name: str | None = None
    """What tables and reports call the data set [the last part of DST]."""
    core: int | None = None
    """Drop users and items with fewer events than this until all have as many [amazon: 5, else 0: drop nothing]."""
    duplicates: Duplicates | None = None
    """For events that repeat user, item and time; first keeps only the earliest event of a user with an item
    [first for amazon, keep for lcrec, else error]."""
    items: Path | None = None
    """table, amazon: the file that describes the items."""
    user: str = "user_id"
    """table, recbole: the column of user ids."""
    item: str = "item_id"
    """table, recbole: the column of item ids, in the events and in the items."""
    time: str | None = "timestamp"
    """table, recbole: the column of times; None keeps the order of the file."""
    time_unit: TimeUnit = "s"
    """table, recbole: the unit of times that are numbers, since 1970."""
    title: str | None = None
    """table, recbole: the items' column of titles [the first whose name ends in "title"]."""
    description: str | None = None
    """table, recbole: the items' column of descriptions ["description" if there is one]."""
    attributes: tuple[str, ...] | None = None
    """table, recbole: the items' columns to use as attributes [table: none; recbole: every other token column]."""
    replace: bool = False
    """Lose the data set that is in DST, with its semantic IDs."""


def main(config: ImportConfig) -> None:
    """Import, say what was written and what to run next."""
    console = plain_console()
    with console.status("reading"):
        dataset, dropped = import_dataset(**asdict(config))
    console.print(
        f"{dataset.name}: {dataset.interactions.n_users:,} users, {dataset.catalogue.n_items:,} items, "
        f"{len(dataset.interactions.items):,} interactions"
    )
    if any(dropped.values()):
        console.print("dropped: " + ", ".join(f"{count:,} {what}" for what, count in dropped.items() if count))
    console.print(f"wrote {config.dst}")
    console.print(next_command("data", "show", config.dst))


def import_dataset(
    kind: Kind,
    src: Path,
    dst: Path,
    *,
    name: str | None = None,
    core: int | None = None,
    duplicates: Duplicates | None = None,
    items: Path | None = None,
    user: str = "user_id",
    item: str = "item_id",
    time: str | None = "timestamp",
    time_unit: TimeUnit = "s",
    title: str | None = None,
    description: str | None = None,
    attributes: Sequence[str] | None = None,
    replace: bool = False,
) -> tuple[Dataset, dict[str, int]]:
    """Read raw logs and write a data set; the options are those of `ImportConfig`.

    Returns the data set as `load_dataset` opens it, and how many events, users and items were dropped.
    Raises InputError, before anything is written, for input that cannot be used.
    """
    check_replace(dst, DATASET, replace=replace)
    if not src.exists():
        raise InputError(f"{src}: no such file or folder; check the path")
    match kind:
        case "lcrec":
            raw = read_lcrec(src)
        case "amazon":
            raw = read_amazon(src, items)
        case "recbole":
            raw = read_recbole(
                src,
                user=user,
                item=item,
                time=time,
                time_unit=time_unit,
                title=title,
                description=description,
                attributes=attributes,
            )
        case "table":
            raw = read_table(
                src,
                items=items,
                user=user,
                item=item,
                time=time,
                time_unit=time_unit,
                title=title,
                description=description,
                attributes=attributes or (),
            )
    core = DEFAULT_CORE[kind] if core is None else core
    duplicates = duplicates or DEFAULT_DUPLICATES[kind]
    dataset, dropped = build_dataset(raw, name=name or dst.name, core=core, duplicates=duplicates)
    options = {"src": src.name, "core": core, "duplicates": duplicates}
    save_dataset(dataset, dst, source=kind, options=options, dropped=dropped, replace=replace)
    return load_dataset(dst), dropped


def build_dataset(raw: RawData, *, name: str, core: int, duplicates: Duplicates) -> tuple[Dataset, dict[str, int]]:
    """Sort by (user, time, place in the file), drop duplicates, cut to the k-core, number users and items.

    Users and items are numbered in the order of their ids: as numbers if all ids are whole numbers, else as text. With
    core 0 described items without events stay, as cold items; otherwise they are dropped.
    Returns the data set and the counts of dropped duplicates, interactions, users and items.
    Raises InputError for an event without user or item, for duplicates if they are errors, and for a user with fewer
    than 3 events left.
    """
    _check_events(raw)
    user_ids = _ordered_ids(raw.events["user"])
    described = pl.Series([], dtype=pl.String) if raw.items is None or core else raw.items["id"]
    item_ids = _ordered_ids(pl.concat([raw.events["item"], described]))
    events = _sorted_codes(raw.events, user_ids, item_ids)
    n_events = events.height
    events = _without_duplicates(events, duplicates, raw, user_ids, item_ids)
    n_distinct = events.height
    if core:
        events = events.filter(k_core(events["user"].to_numpy(), events["item"].to_numpy(), core))
        if not events.height:
            raise InputError(f"{raw.source}: no events are left with `--core {core}`; lower it")
    users, kept_users = _renumber(events["user"].to_numpy(), len(user_ids))
    items, kept_items = _renumber(events["item"].to_numpy(), len(item_ids), keep_all=not core)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users))]).astype(np.int64)
    times = events["time"].to_numpy() // 1_000_000 if "time" in events.columns else None
    interactions = Interactions(items, offsets, times)
    _check_lengths(interactions, user_ids.gather(kept_users), raw.source)
    dropped = {
        "duplicates": n_events - n_distinct,
        "interactions": n_distinct - events.height,
        "users": len(user_ids) - len(kept_users),
        "items": len(item_ids) - len(kept_items),
    }
    catalogue = catalogue_from_frame(*_described(item_ids.gather(kept_items), raw))
    return make_dataset(name, interactions, catalogue, user_ids.gather(kept_users)), dropped


def _check_events(raw: RawData) -> None:
    if not raw.events.height:
        raise InputError(f"{raw.source}: no events; export it again")
    for column in ("user", "item"):
        missing = raw.events[column].is_null() | (raw.events[column] == "").fill_null(True)
        if missing.any():
            raise InputError(f"{raw.locate(int(missing.arg_max() or 0))}: no {column} id; fill it or remove the event")


def _ordered_ids(column: pl.Series) -> pl.Series:
    """Distinct ids, by value if all are whole numbers, else as text."""
    ids = column.unique().alias("id")
    numbers = ids.cast(pl.Int64, strict=False)
    return ids.sort() if numbers.null_count() else pl.DataFrame([ids, numbers.alias("n")]).sort("n", "id")["id"]


def _sorted_codes(events: pl.DataFrame, user_ids: pl.Series, item_ids: pl.Series) -> pl.DataFrame:
    """The events with numbers for ids and their row in the file, by user and time; ties keep the file's order."""
    codes = events.with_columns(
        pl.col("user").cast(pl.Enum(user_ids)).to_physical().cast(pl.Int32),
        pl.col("item").cast(pl.Enum(item_ids)).to_physical().cast(pl.Int32),
    ).with_row_index("row")
    return codes.sort([name for name in ("user", "time", "row") if name in codes.columns])


def _without_duplicates(
    events: pl.DataFrame, duplicates: Duplicates, raw: RawData, user_ids: pl.Series, item_ids: pl.Series
) -> pl.DataFrame:
    if duplicates == "keep":
        return events
    same = ["user", "item"] if duplicates == "first" or "time" not in events.columns else ["user", "item", "time"]
    distinct = events.unique(same, keep="first", maintain_order=True)
    if duplicates == "error" and distinct.height < events.height:
        repeated = events.join(distinct, on="row", how="anti").row(0, named=True)
        raise InputError(
            f"{raw.locate(repeated['row'])}: user {user_ids[repeated['user']]!r} and item "
            f"{item_ids[repeated['item']]!r} appear together twice; remove one line, or import with "
            "`--duplicates drop` or `keep`"
        )
    return distinct


def _renumber(codes: IntArray, n: int, *, keep_all: bool = False) -> tuple[IntArray, IntArray]:
    """The codes counted from 0 without gaps (int32), and the old code of each new one."""
    kept = np.arange(n) if keep_all else np.flatnonzero(np.bincount(codes, minlength=n))
    new = np.zeros(n, dtype=np.int32)
    new[kept] = np.arange(len(kept))
    return new[codes], kept


def _check_lengths(interactions: Interactions, user_ids: pl.Series, source: Path) -> None:
    short = np.flatnonzero(interactions.lengths < 3)
    if len(short):
        raise InputError(
            f"{source}: user {user_ids[int(short[0])]!r} has {interactions.lengths[short[0]]} events and 3 are needed "
            f"({len(short)} such users); filter with `--core 3` or higher"
        )


def _described(item_ids: pl.Series, raw: RawData) -> tuple[pl.DataFrame, list[str]]:
    """The catalogue's columns for these items in this order, and the attributes of which any value is known."""
    frame = pl.DataFrame({"id": item_ids})
    if raw.items is None:
        return frame.with_columns(title=pl.lit(""), description=pl.lit("")), []
    frame = frame.join(raw.items, on="id", how="left", maintain_order="left")
    frame = frame.with_columns(pl.col("title", "description").fill_null(""))
    return frame, [name for name in raw.attributes if frame[name].null_count() < frame.height]
