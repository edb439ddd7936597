"""`redraft data import`: read raw logs of any kind, drop, sort, number, and write a data set."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import polars as pl
import tyro

from redraft.data.account import Account, Ties
from redraft.data.amazon import read_amazon
from redraft.data.lcrec import read_lcrec
from redraft.data.partitioned import How, Shards, import_in_parts
from redraft.data.parts import Duplicates
from redraft.data.raw import Columns, RawData
from redraft.data.recbole import read_recbole
from redraft.data.sequences import open_interactions
from redraft.data.split import check_temporal, time_quantiles
from redraft.data.store import catalogue_from_frame, describe_dataset, load_dataset, make_dataset
from redraft.data.table import ROWS, read_table
from redraft.engines.local import HERE
from redraft.engines.options import EngineOptions, engine_of
from redraft.engines.tasks import Parts, parts_of
from redraft.files import place_of
from redraft.folders import DATASET, check_replace, new_folder
from redraft.options import check_unread
from redraft.records import MAX_COUNT, MAX_SEED, Catalogue, Dataset, InputError, Interactions, check_between
from redraft.terminal import next_command, plain_console

__all__ = ["Duplicates", "ImportConfig", "Kind", "build_dataset", "import_dataset", "main"]


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
    "table": Reader(lambda c: read_table(c.src, c.items, c.columns, c.part)),
}

if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal[tuple(READERS)]


@dataclass(frozen=True)
class ImportConfig(EngineOptions):
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
    part: int = ROWS
    """Events in memory at a time, for each process."""
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
    core = reader.core if config.core is None else config.core
    duplicates = config.duplicates or reader.duplicates
    keep_short = config.keep_short or config.split == "time"
    how = How(core, duplicates, config.ties, config.seed, keep_short, config.part)
    work = place_of(dst).with_name(f".{place_of(dst).name}.parts")
    with parts_of(work, _about(config, how)) as parts, engine_of(config) as engine:
        raw = reader.read(config)
        shards = import_in_parts(raw, how, parts, engine)
        with new_folder(dst, DATASET, replace=config.replace) as folder:
            name = config.name or dst.name
            user_ids, catalogue = shards.write(folder), _catalogue(shards, raw)
            interactions = open_interactions(folder)
            moments = None
            if config.split == "time":
                moments = _moments(interactions, config)
                check_temporal(interactions, *moments)
            dataset = make_dataset(name, interactions, catalogue, user_ids, moments)
            options: dict[str, Any] = {"src": src.name, "core": core, "duplicates": duplicates}
            account = shards.account
            if account.tied is not None:
                options |= {"ties": account.ties, "seed": account.seed, "order": config.columns.order}
                options["tied"] = account.tied
            describe_dataset(dataset, folder, source=kind, options=options, dropped=account.dropped)
    return load_dataset(dst), account


def _about(config: ImportConfig, how: How) -> dict[str, Any]:
    """What the parts of an import depend on: the files as they are, and how they are read."""
    files = [path for path in (config.src, config.items) if path is not None]
    found = [file for path in files for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in found if path.is_file()]
    return {"kind": config.kind, "files": stamps, "columns": asdict(config.columns), "how": asdict(how)}


def _check_options(config: ImportConfig) -> None:
    """Raise InputError for an option that cannot be, or that the kind of logs has no use for."""
    kind = f"kind {config.kind}"
    check_between(0, MAX_COUNT, core=config.core or 0)
    check_between(0, MAX_SEED, seed=config.seed)
    check_between(1, MAX_COUNT, part=config.part)
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
    rows: int = ROWS,
) -> tuple[Dataset, Account]:
    """Sort by user, time and order, drop duplicates, cut to the k-core, settle ties, number users and items.

    Users and items are numbered in the order of their ids: as numbers if all ids are whole numbers, else as text. With
    core 0 described items without events stay, as cold items; otherwise they are dropped. Events without time and order
    stand in the order of the file. rows: events in memory at a time, which changes nothing else.
    Returns the data set, and what there is to say of it.
    Raises InputError for an event without user or item, for duplicates if they are errors, and unless `keep_short` for
    a user with fewer than 3 events left.
    """
    how = How(core, duplicates, ties, seed, keep_short, rows)
    with TemporaryDirectory() as scratch:
        shards = import_in_parts(raw, how, Parts(Path(scratch)), HERE)
        user_ids = shards.write(Path(scratch))
        found = open_interactions(Path(scratch))
        times = None if found.times is None else np.array(found.times)
        interactions = Interactions(np.array(found.items), np.array(found.offsets), times)
    return make_dataset(name, interactions, _catalogue(shards, raw), user_ids), shards.account


def _moments(interactions: Interactions, config: ImportConfig) -> tuple[int, int]:
    """When validation and test begin, in seconds since 1970.

    Raises InputError for what is no date, and without times.
    """
    if interactions.times is None:
        raise InputError(f"{config.src}: a split in time needs times and there are none; leave --split out")
    shares = {"validation_from": 0.8, "test_from": 0.9}
    said = {name: getattr(config, name) for name in shares}
    found = {}
    for name, text in said.items():
        try:
            moment = None if text is None else datetime.fromisoformat(text)
        except ValueError:
            raise InputError(
                f"--{name.replace('_', '-')} is {text!r}, no date; write 2024-03-01 or 2024-03-01T12:00"
            ) from None
        if moment is not None:
            found[name] = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    drawn = [name for name in shares if name not in found]
    found |= zip(drawn, time_quantiles(interactions, [shares[name] for name in drawn]))
    return found["validation_from"], found["test_from"]


def _catalogue(shards: Shards, raw: RawData) -> Catalogue:
    return catalogue_from_frame(*_described(shards.item_ids, raw))


def _described(item_ids: pl.Series, raw: RawData) -> tuple[pl.DataFrame, list[str]]:
    """The catalogue's columns for these items in this order, and the attributes of which any value is known."""
    frame = pl.DataFrame({"id": item_ids})
    if raw.items is None:
        return frame.with_columns(title=pl.lit(""), description=pl.lit("")), []
    frame = frame.join(raw.items, on="id", how="left", maintain_order="left")
    frame = frame.with_columns(pl.col("title", "description").fill_null(""))
    return frame, [name for name in raw.attributes if frame[name].null_count() < frame.height]
