"""`redraft bench faults`: destinations, damages, numbers and kills that must cost nobody a byte, counted.

Everything is tried in processes forked from one that has only imported what they need.
"""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from signal import SIGKILL
from tempfile import TemporaryDirectory
from typing import Any

import torch

from redraft.bench.columns import Column
from redraft.bench.results import RESULTS, check_result, write_result
from redraft.faults.damage import Damaged
from redraft.faults.destinations import Tried, try_all
from redraft.faults.files import try_files
from redraft.faults.flags import CALLS, Edge, try_numbers
from redraft.faults.kills import CASES, LONGEST, Kills, in_child, try_case
from redraft.faults.logs import try_logs
from redraft.faults.world import World, build
from redraft.options import check_counts
from redraft.records import InputError

__all__ = ["FaultsConfig", "main", "measure"]

COLUMNS = [
    Column("what", "what"),
    Column("tried", "tried"),
    Column("SIGKILL", "killed"),
    Column("Ctrl-C", "interrupted"),
    Column("held", "held"),
]

OTHERS: dict[str, Callable[[World, Path], Sequence[Tried | Damaged | Edge]]] = {
    "writers against destinations": try_all,
    "damaged files of ours": try_files,
    "damaged raw logs": lambda world, scratch: try_logs(scratch),
    "numbers of flags": lambda world, scratch: [
        edge for call in CALLS for edge in try_numbers(call, world, scratch / call)
    ],
}


@dataclass(frozen=True)
class FaultsConfig:
    """Try every writer against every destination, and kill every long verb at random moments, in a tiny world."""

    kills: int = 20
    """Kills of each verb; three times as many of those that take no time, a quarter of export's, which takes long."""
    cases: tuple[str, ...] = tuple(CASES)
    """The verbs to kill."""
    others: tuple[str, ...] = tuple(OTHERS)
    """What else is tried: destinations of writers, damaged files and logs, numbers of flags."""
    processes: int = 1
    """Verbs that are killed at the same time."""
    seed: int = 0
    """Seed of the moments."""
    results: Path = RESULTS
    """The folder for faults.json."""


def main(config: FaultsConfig) -> None:
    """Try, count, write results/faults.json, and say what did not hold. Raises InputError if anything did not."""
    check_counts(config)
    check_result("faults", config.results)
    known: tuple[tuple[str, Sequence[str], Iterable[str]], ...] = (
        ("case", config.cases, CASES),
        ("trial", config.others, OTHERS),
    )
    for what, names, there in known:
        wrong = next((name for name in names if name not in there), None)
        if wrong is not None:
            raise InputError(f"no {what} {wrong!r}; there are {', '.join(there)}")
    rows, faults = measure(config)
    for fault in faults:
        print(fault)
    protocol = (
        "Writers against destinations, without and with --replace: every byte stays, status 2, one line. Files and "
        "logs cut, changed, swapped, of other shapes, not numbers: one line names them, or they do no harm. Numbers "
        "of every verb, below, at and above their bounds, huge, NaN: refused in one line, or taken. Verbs on a "
        "tiny world, killed at moments drawn uniformly over the time that they take, by SIGKILL and SIGINT in turn: "
        "afterwards the old or the new state is whole, Ctrl-C says one line, and the next call ends as one in peace."
    )
    path = write_result("faults", rows, columns=COLUMNS, protocol=protocol, seeds=[config.seed], folder=config.results)
    print(f"wrote {path}")
    if faults:
        raise InputError(f"{len(faults)} of {sum(row['tried'] for row in rows)} did not hold; see above")


def measure(config: FaultsConfig) -> tuple[list[dict[str, Any]], list[str]]:
    """A row a kind of trial, and in words what did not hold."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    faults: list[str] = []
    with TemporaryDirectory() as folder:
        world, log = World(Path(folder) / "world"), Path(folder) / "log"
        if in_child(lambda: build(world), log, LONGEST, SIGKILL):
            raise AssertionError(log.read_text())
        with ThreadPoolExecutor(config.processes) as pool:
            others = {name: pool.submit(_tried, name, world, Path(folder)) for name in config.others}
            for name, outcome in zip(config.cases, pool.map(partial(_killed, config, world), config.cases)):
                rows.append({"what": name, "tried": outcome.killed + outcome.interrupted} | asdict(outcome))
                faults += outcome.faults
                print(
                    f"{name}: {outcome.killed} killed, {outcome.interrupted} interrupted, {outcome.held} held",
                    flush=True,
                )
            for name, trial in others.items():
                tried = trial.result()
                wrong = [words for words in tried if words]
                rows.append({"what": name, "tried": len(tried), "held": len(tried) - len(wrong)})
                faults += wrong
                print(f"{name}: {len(tried)} tried, {len(tried) - len(wrong)} held", flush=True)
    return rows, faults


def _killed(config: FaultsConfig, world: World, name: str) -> Kills:
    scratch = world.folder.parent / name
    scratch.mkdir()
    kills = max(1, round(config.kills * CASES[name].share))
    return try_case(name, world, kills, scratch, random.Random(f"{config.seed} {name}"))


def _tried(name: str, world: World, folder: Path) -> list[str]:
    """For each trial in words what went wrong, "" if nothing did; done in a process of its own."""
    written, log, scratch = folder / f"{name}.json", folder / f"{name}.log", folder / f"scratch for {name}"

    def work() -> None:
        scratch.mkdir()
        written.write_text(json.dumps([_said(one) for one in OTHERS[name](world, scratch)]))

    if in_child(work, log, LONGEST, SIGKILL):
        raise AssertionError(log.read_text())
    faults: list[str] = json.loads(written.read_text())
    return faults


def _said(one: Tried | Damaged | Edge) -> str:
    """What was tried and what went wrong, "" if nothing did."""
    tried = asdict(one)
    fault = tried.pop("fault")
    return f"{', '.join(map(str, tried.values()))}: {fault}" if fault else ""
