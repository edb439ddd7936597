"""`redraft data import`: read raw logs of any kind, drop, sort, number, and write a data set."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import polars as pl
import tyro

from redraft.data.account import Account, Matches, Ties, suspicions
from redraft.data.amazon import read_amazon
from redraft.data.core import k_core
from redraft.data.lcrec import read_lcrec
from redraft.data.raw import Columns, RawData
from redraft.data.recbole import read_recbole
from redraft.data.split import temporal
from redraft.data.store import catalogue_from_frame, load_dataset, make_dataset, save_dataset
from redraft.data.table import read_table
from redraft.data.ties import in_tie, random_order, with_previous
from redraft.folders import DATASET, check_replace
from redraft.ids import normal_ids
from redraft.options import check_unread
from redraft.records import MAX_COUNT, MAX_SEED, Dataset, InputError, IntArray, Interactions, check_between
from redraft.terminal import next_command, plain_console

__all__ = ["Duplicates", "ImportConfig", "Kind", "build_dataset", "import_dataset", "main"]

Duplicates = Literal["error", "drop", "first", "keep"]
MOMENTS = ("time", "order")


@dataclass(frozen=True)
class Reader:
    """One layout of logs. read: finds them by the config. core, duplicates: what is done unless the config says.

    columns, items: whether it reads these options. ordered: whether its events stand in the order in which they came.
    """

    read: Callable[["ImportConfig"], RawData]
    core: int = 0
    duplicates: Duplicates = "error"
    columns: bool = True
    items: bool = True
    ordered: bool = False


READERS: dict[str, Reader] = {
    "lcrec": Reader(lambda c: read_lcrec(c.src), duplicates="keep", columns=False, items=False, ordered=True),
    "amazon": Reader(lambda c: read_amazon(c.src, c.items), core=5, duplicates="first", columns=False),
    "recbole": Reader(lambda c: read_recbole(c.src, c.columns), items=False),
    "table": Reader(lambda c: read_table(c.src, c.items, c.columns)),
}

if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal[tuple(READERS)]


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
    ties: Ties = "random"
    """The order of a user's events that share their time: random, or that of the file; see also --order."""
    seed: int = 0
    """Seed of that random order."""
    items: Path | None = None
    """table, amazon: the file that describes the items."""
    columns: tyro.conf.OmitArgPrefixes[Columns] = field(default_factory=Columns)
    """table, recbole: which columns hold what."""
    keep_short: bool = False
    """Keep users with one or two events: all of them are for training."""
    split: Literal["leave-one-out", "time"] = "leave-one-out"
    """What is to be predicted: each user's last item, which leaks what others did later, or items of a later time."""
    validation_from: str | None = None
    """--split time: when validation begins, such as 2024-03-01 [so that 80 % of the events come before it]."""
    test_from: str | None = None
    """--split time: when the test begins [so that 90 % of the events come before it]."""
    replace: bool = False
    """Lose the data set that is in DST, with its semantic IDs."""


def main(config: ImportConfig) -> None:
    """Import, say what was written and what to run next."""
    console = plain_console()
    with console.status("reading"):
        dataset, account = import_dataset(config)
    console.print(
        f"{dataset.name}: {dataset.interactions.n_users:,} users, {dataset.catalogue.n_items:,} items, "
        f"{len(dataset.interactions.items):,} interactions"
    )
    for line in [*account.lines(), *(f"warning: {warning}" for warning in account.warnings())]:
        console.print(line)
    console.print(f"wrote {config.dst}")
    console.print(next_command("data", "show", config.dst))


def import_dataset(config: ImportConfig) -> tuple[Dataset, Account]:
    """Read raw logs and write a data set.

    Returns the data set as `load_dataset` opens it, and what there is to say of the import.
    Raises InputError, before anything is written, for input that cannot be used and for options that would not be read.
    """
    kind, src, dst = config.kind, config.src, config.dst
    _check_options(config)
    check_replace(dst, DATASET, replace=config.replace)
    if not src.exists():
        raise InputError(f"{src}: no such file or folder; check the path")
    reader = READERS[kind]
    raw = reader.read(config)
    core = reader.core if config.core is None else config.core
    duplicates = config.duplicates or reader.duplicates
    name = config.name or dst.name
    dataset, account = build_dataset(
        raw,
        name=name,
        core=core,
        duplicates=duplicates,
        ties=config.ties,
        seed=config.seed,
        keep_short=config.keep_short or config.split == "time",
    )
    if config.split == "time":
        moments = _moments(dataset.interactions, config)
        temporal(dataset.interactions, *moments)
        dataset = make_dataset(name, dataset.interactions, dataset.catalogue, dataset.user_ids, moments)
    options: dict[str, Any] = {"src": src.name, "core": core, "duplicates": duplicates}
    if account.tied is not None:
        options |= {"ties": account.ties, "seed": account.seed, "order": config.columns.order, "tied": account.tied}
    save_dataset(dataset, dst, source=kind, options=options, dropped=account.dropped, replace=config.replace)
    return load_dataset(dst), account


def _check_options(config: ImportConfig) -> None:
    """Raise InputError for an option that cannot be, or that the kind of logs has no use for."""
    kind = f"kind {config.kind}"
    check_between(0, MAX_COUNT, core=config.core or 0)
    check_between(0, MAX_SEED, seed=config.seed)
    if config.kind not in READERS:
        raise InputError(f"no kind {config.kind!r} of logs; there are {', '.join(READERS)}")
    reader = READERS[config.kind]
    if not reader.columns:
        check_unread(config.columns, [column.name for column in fields(Columns)], kind)
    if not reader.items:
        check_unread(config, ["items"], kind)
    if reader.ordered:
        check_unread(config, ["ties", "seed"], f"{kind}, which is in order already,")
    if config.split != "time":
        check_unread(config, ["validation_from", "test_from"], "--split leave-one-out")
    if config.ties == "file":
        check_unread(config, ["seed"], "--ties file")


def build_dataset(
    raw: RawData,
    *,
    name: str,
    core: int,
    duplicates: Duplicates,
    ties: Ties = "random",
    seed: int = 0,
    keep_short: bool = False,
) -> tuple[Dataset, Account]:
    """Sort by user, time and order, drop duplicates, cut to the k-core, settle ties, number users and items.

    Users and items are numbered in the order of their ids: as numbers if all ids are whole numbers, else as text. With
    core 0 described items without events stay, as cold items; otherwise they are dropped. Events without time and order
    stand in the order of the file.
    Returns the data set, and what there is to say of it.
    Raises InputError for an event without user or item, for duplicates if they are errors, and unless `keep_short` for
    a user with fewer than 3 events left.
    """
    if not raw.events.height:
        raise InputError(f"{raw.source}: no events; export it again")
    columns, distinct = zip(*(_normal_ids(raw, column) for column in ("user", "item")))
    described = pl.Series("id", [], dtype=pl.String) if raw.items is None else raw.items["id"]
    user_ids = _ordered_ids(distinct[0])
    item_ids = _ordered_ids(distinct[1] if core else pl.concat([distinct[1], described]).unique())
    all_events = _sorted_codes(raw.events.with_columns(columns), user_ids, item_ids)
    events = _without_duplicates(all_events, duplicates, raw, user_ids, item_ids)
    n_distinct = events.height
    if core:
        events = events.filter(k_core(events["user"].to_numpy(), events["item"].to_numpy(), core))
        if not events.height:
            raise InputError(f"{raw.source}: no events are left with `--core {core}`; lower it")
    events, tied = _settle_ties(events, ties, seed)
    users, kept_users = _renumber(events["user"].to_numpy(), len(user_ids))
    items, kept_items = _renumber(events["item"].to_numpy(), len(item_ids), keep_all=not core)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users))]).astype(np.int64)
    times = events["time"].to_numpy() // 1_000_000 if "time" in events.columns else None
    interactions = Interactions(items, offsets, times)
    if not keep_short:
        _check_lengths(interactions, user_ids.gather(kept_users), raw.source)
    catalogue = catalogue_from_frame(*_described(item_ids.gather(kept_items), raw))
    dropped = {
        "duplicates": all_events.height - n_distinct,
        "interactions": n_distinct - events.height,
        "users": len(user_ids) - len(kept_users),
        "items": len(item_ids) - len(kept_items),
    }
    warnings = suspicions({"user": user_ids, "item": item_ids}, raw.events.get_column("time", default=None))
    matches = None
    if raw.items is not None:
        n_met = np.count_nonzero(item_ids.is_in(described.implode()).to_numpy()[all_events["item"].to_numpy()])
        matches = Matches(distinct[1], described, all_events.height, int(n_met))
    account = Account(dropped, ties, seed, tied, matches, tuple(warnings))
    return make_dataset(name, interactions, catalogue, user_ids.gather(kept_users)), account


def _normal_ids(raw: RawData, column: str) -> tuple[pl.Series, pl.Series]:
    """A column of the events with its ids in normal form, and the distinct ones among them."""
    given = raw.events[column]
    distinct = given.unique()
    normal = normal_ids(distinct)
    if not normal.equals(distinct):
        given = given.replace_strict(distinct, normal, return_dtype=pl.String)
        distinct = normal.unique()
    if distinct.null_count() or (distinct == "").any():
        row = int((given.fill_null("") == "").arg_max() or 0)
        raise InputError(f"{raw.locate(row)}: no {column} id; fill it or remove the event")
    return given, distinct


def _ordered_ids(ids: pl.Series) -> pl.Series:
    """Distinct ids by value if all are whole numbers, else as text."""
    ids = ids.alias("id")
    numbers = ids.cast(pl.Int64, strict=False)
    return ids.sort() if numbers.null_count() else pl.DataFrame([ids, numbers.alias("n")]).sort("n", "id")["id"]


def _sorted_codes(events: pl.DataFrame, user_ids: pl.Series, item_ids: pl.Series) -> pl.DataFrame:
    """The events with numbers for ids and their row in the file, by user, time, order and row."""
    codes = events.with_columns(
        pl.col("user").cast(pl.Enum(user_ids)).to_physical().cast(pl.Int32),
        pl.col("item").cast(pl.Enum(item_ids)).to_physical().cast(pl.Int32),
    ).with_row_index("row")
    return codes.sort([name for name in ("user", *MOMENTS, "row") if name in codes.columns])


def _settle_ties(events: pl.DataFrame, ties: Ties, seed: int) -> tuple[pl.DataFrame, int | None]:
    """Sorted events, those of one moment at random if so asked, and how many share theirs; None without moments."""
    moments = [events[name].to_numpy() for name in MOMENTS if name in events.columns]
    if not moments:
        return events, None
    users = events["user"].to_numpy()
    same = with_previous(users, moments)
    if ties == "random" and same.any():
        events = events[random_order(same, users, events["item"].to_numpy(), seed=seed)]
    return events, int(in_tie(same).sum())


def _without_duplicates(
    events: pl.DataFrame, duplicates: Duplicates, raw: RawData, user_ids: pl.Series, item_ids: pl.Series
) -> pl.DataFrame:
    if duplicates == "keep":
        return events
    same = ["user", "item"] if duplicates == "first" or "time" not in events.columns else ["user", "item", "time"]
    alike = events
    if "time" in same:  # events are sorted by user and time, and few share both
        alike = events.filter(in_tie(with_previous(events["user"].to_numpy(), [events["time"].to_numpy()])))
    first = alike.unique(same, keep="first", maintain_order=True)
    repeated = alike.join(first, on="row", how="anti", maintain_order="left")
    if duplicates == "error" and repeated.height:
        row, user, item = repeated.select("row", "user", "item").row(0)
        raise InputError(
            f"{raw.locate(row)}: user {user_ids[user]!r} and item {item_ids[item]!r} appear together twice; "
            "remove one line, or import with `--duplicates drop` or `keep`"
        )
    return events.join(repeated, on="row", how="anti", maintain_order="left") if repeated.height else events


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
            f"({len(short)} such users); filter with `--core 3` or higher, or pass "
            "--keep-short to train on them"
        )


def _moments(interactions: Interactions, config: ImportConfig) -> tuple[int, int]:
    """When validation and test begin, in seconds since 1970.

    Raises InputError for what is no date, and without times.
    """
    if interactions.times is None:
        raise InputError(f"{config.src}: a split in time needs times and there are none; leave --split out")
    shares = {"validation_from": 0.8, "test_from": 0.9}
    found = []
    for name, share in shares.items():
        said = getattr(config, name)
        try:
            moment = None if said is None else datetime.fromisoformat(said)
        except ValueError:
            raise InputError(
                f"--{name.replace('_', '-')} is {said!r}, no date; write 2024-03-01 or 2024-03-01T12:00"
            ) from None
        if moment is None:
            found.append(int(np.quantile(interactions.times, share)))
        else:
            found.append(int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))
    return found[0], found[1]


def _described(item_ids: pl.Series, raw: RawData) -> tuple[pl.DataFrame, list[str]]:
    """The catalogue's columns for these items in this order, and the attributes of which any value is known."""
    frame = pl.DataFrame({"id": item_ids})
    if raw.items is None:
        return frame.with_columns(title=pl.lit(""), description=pl.lit("")), []
    frame = frame.join(raw.items, on="id", how="left", maintain_order="left")
    frame = frame.with_columns(pl.col("title", "description").fill_null(""))
    return frame, [name for name in raw.attributes if frame[name].null_count() < frame.height]
