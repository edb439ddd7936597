"""`redraft bench faults`: destinations and kills that must cost nobody a byte, counted.

Everything is tried in processes forked from one that has only imported what they need.
"""

import json
import random
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
from redraft.faults.destinations import try_all
from redraft.faults.kills import CASES, LONGEST, Kills, in_child, try_case
from redraft.faults.world import World, build
from redraft.records import InputError, check_least

__all__ = ["FaultsConfig", "main", "measure"]

COLUMNS = [
    Column("what", "what"),
    Column("tried", "tried"),
    Column("SIGKILL", "killed"),
    Column("Ctrl-C", "interrupted"),
    Column("held", "held"),
]


@dataclass(frozen=True)
class FaultsConfig:
    """Try every writer against every destination, and kill every long verb at random moments, in a tiny world."""

    kills: int = 20
    """Kills of each verb; three times as many of those that take no time, a quarter of export's, which takes long."""
    cases: tuple[str, ...] = tuple(CASES)
    """The verbs to kill."""
    destinations: bool = True
    """Also try every writer against every destination."""
    processes: int = 1
    """Verbs that are killed at the same time."""
    seed: int = 0
    """Seed of the moments."""
    results: Path = RESULTS
    """The folder for faults.json."""


def main(config: FaultsConfig) -> None:
    """Try, count, write results/faults.json, and say what did not hold. Raises InputError if anything did not."""
    check_least(1, kills=config.kills, processes=config.processes)
    check_result("faults", config.results)
    for name in config.cases:
        if name not in CASES:
            raise InputError(f"no case {name!r}; there are {', '.join(CASES)}")
    rows, faults = measure(config)
    for fault in faults:
        print(fault)
    protocol = (
        "Writers against destinations, without and with --replace: every byte stays, status 2, one line. Verbs on a "
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
            looked = pool.submit(_destinations, world, Path(folder)) if config.destinations else None
            for name, found in zip(config.cases, pool.map(partial(_killed, config, world), config.cases)):
                rows.append({"what": name, "tried": found.killed + found.interrupted} | asdict(found))
                faults += found.faults
                print(f"{name}: {found.killed} killed, {found.interrupted} interrupted, {found.held} held", flush=True)
            tried = looked.result() if looked else []
            if tried:
                held = [one for one in tried if one["fault"] is None]
                rows.append({"what": "writers against destinations", "tried": len(tried), "held": len(held)})
                faults += [f"{one['writer']} to {one['destination']}: {one['fault']}" for one in tried if one["fault"]]
    return rows, faults


def _killed(config: FaultsConfig, world: World, name: str) -> Kills:
    scratch = world.folder.parent / name
    scratch.mkdir()
    kills = max(1, round(config.kills * CASES[name].share))
    return try_case(name, world, kills, scratch, random.Random(f"{config.seed} {name}"))


def _destinations(world: World, folder: Path) -> list[dict[str, Any]]:
    written, log = folder / "destinations.json", folder / "destinations.log"

    def work() -> None:
        written.write_text(json.dumps([asdict(one) for one in try_all(world, folder / "scratch")]))

    if in_child(work, log, LONGEST, SIGKILL):
        raise AssertionError(log.read_text())
    found: list[dict[str, Any]] = json.loads(written.read_text())
    return found
