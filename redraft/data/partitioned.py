"""An import in parts: sorted runs of the log, items numbered, users in ranges, and the rows of a data set in order.

One road for a thousand events and for a billion: memory depends on how many events a part has, on how many items and
users there are, and not on how many events.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redraft.data.account import Account, Matches, Ties, first_odd, suspicions
from redraft.data.chunks import IdForm, chunk_files, is_whole, opened, stage
from redraft.data.parts import Duplicates, advance_core, count_items, count_part, merge, write_shard
from redraft.data.ranges import cuts, number_items
from redraft.data.raw import RawData, place_in
from redraft.data.sequences import join_interactions
from redraft.engines.local import HERE
from redraft.engines.tasks import Engine, Parts, Task
from redraft.records import InputError, IntArray

__all__ = ["How", "Shards", "import_in_parts"]


@dataclass(frozen=True)
class How:
    """What is dropped and how events are ordered; rows: events in memory at a time. See `importer.ImportConfig`."""

    core: int
    duplicates: Duplicates
    ties: Ties = "random"
    seed: int = 0
    keep_short: bool = False
    rows: int = 1 << 21


@dataclass(frozen=True)
class Shards:
    """What an import in parts came to. folders: of `parts.write_shard`, in the order of their users."""

    folders: Sequence[Path]
    item_ids: pl.Series
    account: Account

    def write(self, folder: Path) -> pl.Series:
        """Write items.npy, offsets.npy and times.npy of all shards; returns the ids of their users."""
        join_interactions(self.folders, folder)
        ids = []
        for shard in self.folders:
            with opened(shard / "users") as batch:
                ids.append(pl.DataFrame(pl.from_arrow(batch))["id"])
        return pl.concat(ids)


@dataclass(frozen=True)
class _Log:
    """The runs of a log. names: of their files. facts: what `chunks.stage` says of each. whole: ids, by column."""

    names: list[Path]
    facts: list[dict[str, Any]]
    whole: dict[str, bool]

    def files(self, kind: str) -> list[Path]:
        return [Path(f"{name}.{kind}") for name in self.names]


def import_in_parts(raw: RawData, how: How, parts: Parts, engine: Engine) -> Shards:
    """Sort, drop, cut to the k-core, settle ties and number a log; see `importer.build_dataset` for what comes out.

    Raises InputError as it, and for times that are written in one way here and in another there.
    """
    log = _staged(raw, how, parts, engine)
    n_events = [fact["rows"] for fact in log.facts]
    total = sum(n_events)
    described = pl.Series("id", [], dtype=pl.String) if raw.items is None else raw.items["id"]
    cold = described if not how.core else described.clear()
    n_ranges = -(-total // how.rows)
    task = Task("items", number_items, (log.files("items"), cold, n_ranges, log.whole["item"]))
    (numbered,) = parts.finish(HERE, [task])
    items = pl.read_parquet(parts.folder / "items" / "ids.parquet")
    ranges = cuts(log.files("users"), n_ranges, whole=log.whole["user"], events=n_events)
    merges = [
        Task(f"part-{n:05d}", merge, (log.names, parts.folder / "items", cut, log.whole["user"], how.duplicates))
        for n, cut in enumerate(ranges)
    ]
    merged = parts.finish(engine, merges)
    if how.duplicates == "error":
        _check_repeated(merged, raw, log, items["id"])
    folders = [parts.folder / task.name for task in merges]
    alive = _core(folders, numbered["items"], how.core, parts, engine)
    counts = parts.finish(
        engine, [Task(f"count-{n:05d}", count_part, (part, alive, how.core)) for n, part in enumerate(folders)]
    )
    _check_left(raw, how, counts)
    kept = None if alive is None else np.flatnonzero(np.load(alive / "alive.npy"))
    shards = _shards(folders, alive, kept, merged, counts, how, parts, engine)
    item_ids = items["id"] if kept is None else items["id"].gather(kept)
    dropped = {
        "duplicates": total - sum(part["events"] for part in merged),
        "interactions": sum(part["events"] for part in merged) - sum(part["events"] for part in counts),
        "users": sum(part["users"] for part in merged) - sum(part["users"] for part in counts),
        "items": len(items) - len(item_ids),
    }
    return Shards(shards, item_ids, _account(dropped, raw, how, log, items, merged, counts))


def _staged(raw: RawData, how: How, parts: Parts, engine: Engine) -> _Log:
    """The runs of a log, with ids as the whole of it shows them to be written."""
    pieces = raw.pieces
    engine, locate = (engine, None) if isinstance(raw.events, tuple) else (HERE, raw.locate)
    tasks = [Task(f"run-{n:05d}", stage, (piece, how.rows, None, locate)) for n, piece in enumerate(pieces)]
    found = parts.finish(engine, tasks)
    chunks = [chunk for piece in found for chunk in piece["chunks"]]
    if not chunks:
        raise InputError(f"{raw.source}: no events; export it again")
    forms = {name: _common_form([chunk["forms"][n] for chunk in chunks]) for n, name in enumerate(("user", "item"))}
    if raw.items is not None and not how.core:
        forms["item"] = IdForm(forms["item"].pointed, forms["item"].whole and is_whole(raw.items["id"]))
    wanted = [[form.pointed, form.whole] for form in forms.values()]
    for n, piece in enumerate(found):
        if any(chunk["forms"] != wanted for chunk in piece["chunks"]):
            tasks[n] = Task(f"run-{n:05d}-again", stage, (pieces[n], how.rows, forms, locate))
    parts.finish(engine, tasks)
    names = [
        chunk_files(parts.folder / task.name, n) for task, said in zip(tasks, found) for n in range(len(said["chunks"]))
    ]
    _check_times(chunks)
    return _Log(names, chunks, {name: form.whole for name, form in forms.items()})


def _common_form(forms: list[list[bool]]) -> IdForm:
    """How ids are written in all of a log: a decimal point that some lack is a part of the others."""
    pointed = all(point for point, _ in forms)
    return IdForm(pointed, all(whole for _, whole in forms) and (pointed or not any(point for point, _ in forms)))


def _check_times(chunks: list[dict[str, Any]]) -> None:
    for chunk in chunks:
        if chunk["time"] != chunks[0]["time"]:
            first, other = (place_in(part["spans"], 0) for part in (chunks[0], chunk))
            raise InputError(
                f"{other}: the times are {chunk['time']} here and {chunks[0]['time']} in {first}; write all alike"
            )


def _check_repeated(merged: list[dict[str, Any]], raw: RawData, log: _Log, item_ids: pl.Series) -> None:
    found = next((part["repeated"] for part in merged if part["repeated"]), None)
    if found:
        user, item, chunk, row = found
        spans = log.facts[chunk]["spans"]
        raise InputError(
            f"{place_in(spans, row) if spans else raw.locate(row)}: user {user!r} and item {item_ids[item]!r} appear "
            "together twice; remove one line, or import with `--duplicates drop` or `keep`"
        )


def _core(folders: list[Path], n_items: int, core: int, parts: Parts, engine: Engine) -> Path | None:
    """The folder of the items in the k-core; None where nothing is dropped."""
    alive, step, changed = None, 0, core > 0
    while changed:
        counted = [Task(f"core-{step:03d}-{n:05d}", count_items, (part, alive, core)) for n, part in enumerate(folders)]
        parts.finish(engine, counted)
        names = [parts.folder / task.name for task in counted]
        task = Task(f"core-{step:03d}", advance_core, (names, n_items, core, alive))
        changed = parts.finish(HERE, [task])[0]["changed"]
        alive, step = parts.folder / task.name, step + 1
    return alive


def _check_left(raw: RawData, how: How, counts: list[dict[str, Any]]) -> None:
    if not sum(part["events"] for part in counts):
        raise InputError(f"{raw.source}: no events are left with `--core {how.core}`; lower it")
    short = next((part["first_short"] for part in counts if part["short"]), None)
    if short and not how.keep_short:
        raise InputError(
            f"{raw.source}: user {short[0]!r} has {short[1]} events and 3 are needed "
            f"({sum(part['short'] for part in counts)} such users); filter with `--core 3` or higher, or pass "
            "--keep-short to train on them"
        )


def _shards(
    folders: list[Path],
    alive: Path | None,
    kept: IntArray | None,
    merged: list[dict[str, Any]],
    counts: list[dict[str, Any]],
    how: How,
    parts: Parts,
    engine: Engine,
) -> list[Path]:
    new_items = None
    if kept is not None:
        new_items = parts.folder / "new_items.npy"
        new = np.zeros(int(kept[-1]) + 1, dtype=np.int32)
        new[kept] = np.arange(len(kept))
        np.save(new_items, new)
    users, moments = (
        np.cumsum([0, *(part[what] for part in facts)]).tolist()
        for what, facts in (("users", merged), ("moments", counts))
    )
    tasks = [
        Task(
            f"shard-{n:05d}",
            write_shard,
            (part, alive, how.core, new_items, users[n], moments[n], how.ties, how.seed),
        )
        for n, part in enumerate(folders)
    ]
    parts.finish(engine, tasks)
    return [parts.folder / task.name for task in tasks]


def _account(
    dropped: dict[str, int],
    raw: RawData,
    how: How,
    log: _Log,
    items: pl.DataFrame,
    merged: list[dict[str, Any]],
    counts: list[dict[str, Any]],
) -> Account:
    bought = items.filter(pl.col("count") > 0)
    events = sum(fact["rows"] for fact in log.facts)
    matches = None
    if raw.items is not None:
        met = bought.filter(bought["id"].is_in(raw.items["id"].implode()))["count"].sum()
        matches = Matches(bought["id"], raw.items["id"], events, int(met))
    odd = {
        "user": next((part["odd"] for part in merged if part["odd"]), None),
        "item": first_odd(items["id"]),
    }
    tied = [part["tied"] for part in counts]
    warnings = suspicions(odd, sum(fact["early"] for fact in log.facts), events)
    n_tied = None if None in tied else sum(tied)
    return Account(dropped, how.ties, how.seed, n_tied, matches, tuple(warnings))
