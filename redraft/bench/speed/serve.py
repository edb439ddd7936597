"""`redraft bench serve`: how many requests a service answers in time, and what becomes of the others."""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from redraft.baselines.fitted import BaselineRecommender
from redraft.bench.columns import Column
from redraft.bench.results import RESULTS, check_result, seeds_of, write_result
from redraft.bench.speed.server import Answered, Plan, Server, answers, load, percentile, serving, with_status
from redraft.checkpoint import check_same_items
from redraft.data.store import load_dataset
from redraft.recommender import GenerativeRecommender
from redraft.records import MAX_COUNT, Dataset, InputError, check_between
from redraft.runs import load as load_run

__all__ = ["ServeBenchConfig", "main"]

TRIALS = 5
ASKED = 500
SENDERS = 16
OVERHEAD_RATE = 20.0
SETTLED = 0.2
"""Part of the minutes after which memory should no longer grow."""

DAY = 86_400

Row = dict[str, Any]


@dataclass(frozen=True)
class ServeBenchConfig:
    """Start `redraft serve` on this machine, and send it requests by locust."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    data: Annotated[Path, tyro.conf.Positional]
    """Data set it was trained on: its users are asked for."""
    k: int = 10
    """Items per list."""
    beams: int = 200
    """Beam budget."""
    milliseconds: float = 100.0
    """Time within which 99 % of the requests must be answered."""
    threads: int = 1
    """Threads of the decode; those that wait for a core that is busy elsewhere make it slower."""
    seconds: float = 20.0
    """Length of each trial of a rate."""
    minutes: float = 30.0
    """How long memory is watched, at a quarter of the highest rate; 0 leaves it out."""
    stores: tuple[str, ...] = ()
    """Stores whose events are counted beside those of SQLite: redis://HOST:PORT/0, postgresql://USER@HOST/DATABASE."""
    results: Path = RESULTS
    """The folder for serve.json."""


def main(config: ServeBenchConfig) -> None:
    """Measure everything, memory last, and write results/serve.json."""
    check_between(1, MAX_COUNT, k=config.k, beams=config.beams, threads=config.threads)
    check_between(1, DAY, seconds=config.seconds)
    check_between(0, DAY, minutes=config.minutes)
    check_between(1, 1000 * DAY, milliseconds=config.milliseconds)
    check_result("serve", config.results)
    dataset = load_dataset(config.data)
    run = load_run(config.run, beams=config.beams)
    if isinstance(run, BaselineRecommender):
        raise InputError(f"{config.run}: a run of a baseline, which cannot be served; give one of a generative recipe")
    check_same_items(config.run, run.catalogue, config.data, dataset.catalogue)
    kind = type(run.model if isinstance(run, GenerativeRecommender) else run).__name__
    bodies = _bodies(dataset, config.k)
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("first", "second"):
            (folder / name).symlink_to(config.run.absolute())
        flags, state = ("--beams", config.beams), folder / "state"
        with serving(folder / "first", config.data, state, *flags, threads=config.threads) as server:
            most, rate, rows = rates(server, bodies, config)
            for words, offered in (("at twice that rate", 2 * rate), ("at twice what 16 senders get", 2 * most)):
                rows += overload(server, bodies, offered, words, config)
            rows += reload(server, bodies, most / 4)
            rows += new_item(server, dataset)
        with serving(folder / "first", config.data, state, "--beams", 1, threads=1) as server:
            rows += overhead(server, bodies, config)
        for store in (f"sqlite:{folder / 'events.sqlite'}", *config.stores):
            with serving(folder / "first", config.data, folder / "events", "--beams", 1, "--store", store) as server:
                rows += events(server, store, dataset, config)
        if config.minutes:
            with serving(folder / "first", config.data, state, *flags, threads=config.threads) as server:
                rows += memory(server, bodies, most / 4, config)
    path = write_result(
        "serve",
        rows,
        columns=[Column("measured", "measured"), Column("value", "value", ",.4g"), Column("unit", "unit")],
        protocol=f"`redraft serve` and locust on one machine with {os.cpu_count()} cores, whose load was {before:.1f} "
        "before it began: if that is not near 0, other work shared the cores with all that was measured. "
        f"{dataset.name}, run {config.run.name} ({kind}), k = {config.k}, {config.beams} beams, the decode with "
        f"{config.threads} threads, users of the data set by chance, requests at random times that do not wait for one "
        f"another, seen items filtered. The highest rate is found by halving, each trial of {config.seconds:g} s; the "
        "last good one is reported. Processor time beside the decode is that of the process less that of the engine's "
        "thread in its lists, with one thread and few beams, over all requests; a million additions in Python tell how "
        f"fast the processor was then. Events are sent by {SENDERS} senders, each after the answer to its last. New "
        "items are put, and asked for with an allow list.",
        fingerprints={"data": dataset.fingerprint, "semantic_ids": run.ids.fingerprint},
        seeds=seeds_of([config.run]),
        folder=config.results,
    )
    print(f"wrote {path}")


def rates(server: Server, bodies: Sequence[Row], config: ServeBenchConfig) -> tuple[float, float, list[Row]]:
    """What many senders get, the highest rate at which all are answered and 99 % of them in time, and their rows.

    Rates are requests per second. The highest rate is 0 if not even the least of the trials is kept.
    """
    patient = Plan(bodies, config.seconds, senders=SENDERS, deadline_ms=60_000)
    most = _per_second(with_status(answers(server, patient), 200))
    least, high, kept = 0.0, most, list[Answered]()
    for _ in range(TRIALS):
        rate = (least + high) / 2
        outcomes = answers(server, Plan(bodies, config.seconds, rate))
        good = len(with_status(outcomes, 200)) == len(outcomes) and percentile(outcomes, 99) <= config.milliseconds
        print(f"{rate:.1f} requests per second: 99 % within {percentile(outcomes, 99):.0f} ms", flush=True)
        least, high, kept = (rate, high, outcomes) if good else (least, rate, kept)
    rows = [
        _row(f"{SENDERS} senders, one request each: answered", most, "requests per second"),
        _row(f"highest rate with 99 % within {config.milliseconds:g} ms", least, "requests per second"),
        _row("at that rate: 50 % within", percentile(kept, 50), "ms"),
        _row("at that rate: 99 % within", percentile(kept, 99), "ms"),
    ]
    return most, least, rows


def overload(server: Server, bodies: Sequence[Row], rate: float, words: str, config: ServeBenchConfig) -> list[Row]:
    """At a rate, requests per second: how many are answered, and how soon the others are turned away."""
    if not rate:
        return []
    outcomes = answers(server, Plan(bodies, config.seconds, rate))
    answered, away = with_status(outcomes, 200), with_status(outcomes, 429)
    return [
        _row(f"{words}: offered", _per_second(outcomes), "requests per second"),
        _row(f"{words}: answered", _per_second(answered), "requests per second"),
        _row(f"{words}: answered, 99 % within", percentile(answered, 99), "ms"),
        _row(f"{words}: turned away", 100 * len(away) / len(outcomes), "%"),
        _row(f"{words}: turned away, 50 % within", percentile(away, 50), "ms"),
        _row(f"{words}: turned away, 99 % within", percentile(away, 99), "ms"),
        _row(f"{words}: neither", len(outcomes) - len(answered) - len(away), "requests"),
    ]


def reload(server: Server, bodies: Sequence[Row], rate: float) -> list[Row]:
    """Load and promote the same run from another folder under load: its time, and the worst latency meanwhile."""
    with load(server, Plan(bodies, 15.0, rate)) as outcomes:
        time.sleep(5.0)
        start = time.time()
        staged = server.ask("POST", "/v1/admin/models", {"run": "second"})["staged"]
        loaded = time.time()
        server.ask("POST", "/v1/admin/models/promote", {"fingerprint": staged["fingerprint"]})
        end = time.time()
    during = [one for one in outcomes if start <= one.sent + one.milliseconds / 1000 and one.sent <= end]
    others = [one for one in outcomes if one not in during]
    return [
        _row("reload: load and warm", loaded - start, "s"),
        _row("reload: put in place", 1000 * (end - loaded), "ms"),
        _row("reload: worst latency meanwhile", percentile(during, 100), "ms"),
        _row("reload: worst latency before and after", percentile(others, 100), "ms"),
        _row("reload: requests that failed", len(outcomes) - len(with_status(outcomes, 200)), "requests"),
        *(
            _row(f"reload: answered with {status or 'nothing'}", count, "requests")
            for status, count in sorted(Counter(one.status for one in outcomes).items())
            if status != 200
        ),
    ]


def new_item(server: Server, dataset: Dataset) -> list[Row]:
    """From putting an item that nobody knows to the first list with it."""
    known, seconds = dataset.catalogue.ids[0], []
    for number in range(5):
        start = time.perf_counter()
        server.ask("PUT", f"/v1/items/new-{number}", {"title": dataset.catalogue.titles[number]})
        asked = {"history": [known], "times": [0], "k": 1, "allow": [f"new-{number}"]}
        [first] = server.ask("POST", "/v1/recommend", asked)["items"]
        assert first["id"] == f"new-{number}", "the item is recommended"
        seconds.append(time.perf_counter() - start)
    return [
        _row("first new item to its first recommendation", seconds[0], "s"),
        _row("further new items, median of 4", float(np.median(seconds[1:])), "s"),
    ]


def overhead(server: Server, bodies: Sequence[Row], config: ServeBenchConfig) -> list[Row]:
    """Processor time for each request beside the decode."""
    answers(server, Plan(bodies, 2.0, OVERHEAD_RATE))
    process, decode = server.processor_seconds(), server.counted("decode_processor_seconds_total")
    start = time.process_time()
    sum(range(1_000_000))
    additions = time.process_time() - start
    outcomes = answers(server, Plan(bodies, config.seconds, OVERHEAD_RATE))
    process = server.processor_seconds() - process
    decode = server.counted("decode_processor_seconds_total") - decode
    return [
        _row("processor time of a request beside the decode", 1000 * (process - decode) / len(outcomes), "ms"),
        _row("a million additions in Python meanwhile", 1000 * additions, "ms"),
    ]


def events(server: Server, store: str, dataset: Dataset, config: ServeBenchConfig) -> list[Row]:
    """Events that are acknowledged a second, sent one by one and by the hundred."""
    rows = []
    for together in (1, 100):
        plan = Plan(_event_bodies(dataset, together), config.seconds / 2, senders=SENDERS, path="/v1/events")
        before = server.counted("events_total")
        done = with_status(answers(server, plan), 200)
        each = (server.counted("events_total") - before) / len(done) * _per_second(done)
        words = f"events on {store.partition(':')[0]}, {together} per request: acknowledged"
        rows.append(_row(words, each, "events per second"))
    return rows


def memory(server: Server, bodies: Sequence[Row], rate: float, config: ServeBenchConfig) -> list[Row]:
    """Memory of the process under load, after a start and at the end."""
    seconds, held = 60 * config.minutes, list[float]()
    with load(server, Plan(bodies, seconds, rate)):
        while len(held) < 100:
            time.sleep(seconds / 100)
            held.append(server.megabytes())
    settled = held[int(SETTLED * len(held)) :]
    name = f"memory over {config.minutes:g} minutes"
    return [
        _row(f"{name}: after the first fifth", settled[0], "MB"),
        _row(f"{name}: at the end", settled[-1], "MB"),
        _row(f"{name}: most", max(held), "MB"),
        _row(f"{name}: requests", server.counted("requests_total"), "requests"),
    ]


def _per_second(outcomes: Sequence[Answered]) -> float:
    """How many there were in each second between the first request and the last answer; 0 for none."""
    if not outcomes:
        return 0.0
    return len(outcomes) / (
        max(one.sent + one.milliseconds / 1000 for one in outcomes) - min(one.sent for one in outcomes)
    )


def _bodies(dataset: Dataset, k: int) -> list[Row]:
    users = np.random.default_rng(0).choice(
        dataset.interactions.n_users, min(ASKED, dataset.interactions.n_users), False
    )
    return [{"user_id": dataset.user_ids[int(user)], "k": k} for user in users]


def _event_bodies(dataset: Dataset, together: int) -> list[Row]:
    """Bodies of events of many users; whoever sends them gives each event its id."""
    draw, ids = np.random.default_rng(0), dataset.catalogue.ids
    return [
        {
            "events": [
                {"user_id": f"shopper-{draw.integers(100_000)}", "item_id": ids[int(item)], "kind": "view"}
                for item in draw.integers(len(ids), size=together)
            ]
        }
        for _ in range(600 // together)
    ]


def _row(measured: str, value: float, unit: str) -> Row:
    print(f"{measured}: {value:,.4g} {unit}", flush=True)
    return {"measured": measured, "value": value, "unit": unit}
