"""`redraft bench experiment`: time and memory of an analysis, and what assignment and logging cost a request."""

import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from redraft.bench.columns import Column
from redraft.bench.measure import in_new_process, peak_memory, seconds
from redraft.bench.results import RESULTS, check_result, write_result
from redraft.experiment.traffic.assignment import BUCKETS
from redraft.experiment.traffic.design import Arm, Design, Experiment, Layer
from redraft.options import check_counts
from redraft.service.journal import EVENTS, EXPOSURES, Journal
from redraft.service.live import LiveModel
from redraft.service.trials import Plan

__all__ = ["ExperimentBenchConfig", "generate_journals", "main", "measure_analysis", "measure_request"]

START, DAYS, HOURS, K = datetime(2026, 1, 2, tzinfo=UTC), 10, 240, 10
REQUESTS = 20_000


@dataclass(frozen=True)
class ExperimentBenchConfig:
    """Generate the journals of an experiment, analyse them, and assign and log requests."""

    exposures: int = 10_000_000
    """Lists of ten items, over ten days."""
    events: int = 1_000_000
    """Clicks and purchases."""
    users: int = 1_000_000
    """Users of both arms."""
    items: int = 100_000
    """Items of the catalogue."""
    seed: int = 0
    """Seed of all that is generated."""
    results: Path = RESULTS
    """The folder for experiment.json."""


def main(config: ExperimentBenchConfig) -> None:
    """Measure each in a process of its own, and write results/experiment.json."""
    check_counts(config)
    check_result("experiment", config.results)
    with tempfile.TemporaryDirectory() as scratch:
        in_new_process(generate_journals, Path(scratch), config)
        row = in_new_process(measure_analysis, Path(scratch))
        row |= in_new_process(measure_request, Path(scratch) / "requests")
    path = write_result(
        "experiment",
        [{"exposures": config.exposures, "events": config.events, "users": config.users} | row],
        columns=[
            Column("lists", "exposures", ","),
            Column("events", "events", ","),
            Column("users", "users", ","),
            Column("journals (MB)", "megabytes", ".0f"),
            Column("analysis (s)", "seconds", ".1f"),
            Column("processor (s)", "processor", ".1f"),
            Column("peak memory (GB)", "gigabytes", ".2f"),
            Column("assign and log a request (ms)", "milliseconds", ".3f"),
        ],
        protocol="Lists of ten items over ten days in 240 Parquet files, two arms, three metrics, all days and "
        "segments; peak memory is that of the whole analysing process. Assigning and logging: processor time of a hash "
        f"in two layers, the row, and its line given to the system, mean of {REQUESTS:,}.",
        seeds=[config.seed],
        folder=config.results,
    )
    print(f"wrote {path}")


def generate_journals(state: Path, config: ExperimentBenchConfig) -> None:
    """Write journals as a service would, an hour a file; every event is of an item of a list, up to an hour later."""
    rng = np.random.default_rng(config.seed)
    names = pl.select(pl.format("item-{}", pl.int_range(config.items)).alias("name"))["name"]
    for name in ("exposures", "events"):
        (state / name).mkdir(parents=True)
    for hour in range(HOURS):
        n, m = (len(range(hour, total, HOURS)) for total in (config.exposures, config.events))
        users = rng.integers(config.users, size=n)
        items = (config.items * rng.random((n, K)) ** 2).astype(np.int64)
        since = np.sort(rng.uniform(hour, hour + 1, n)) * 3600e6
        when = pl.Series(since).cast(pl.Duration("us")) + START
        lists = pl.DataFrame({"user_id": users, "timestamp": when}).with_columns(
            pl.format("user-{}", "user_id").alias("user_id"),
            request_id=pl.format(f"{hour}-request-{{}}", pl.int_range(pl.len())),
            items=names.gather(items.ravel()).reshape((n, K)).arr.to_list(),
            arm=pl.Series(np.where(users % 2, "b", "a")),
            history=pl.Series(users % 30),
            milliseconds=pl.Series(rng.gamma(4, 3, n)),
            experiment=pl.lit("e"),
            layout=pl.lit("12345678"),
            asked=K,
            unavailable=0,
            forced=False,
            fallback=False,
        )
        _write(lists, EXPOSURES, state / "exposures", hour)
        rows = rng.integers(n, size=m)
        happened = (
            lists[rows]
            .select("user_id", "timestamp")
            .with_columns(
                pl.col("timestamp") + pl.Series(rng.uniform(0, 3600e6, m)).cast(pl.Duration("us")),
                item_id=names.gather(items[rows, rng.integers(K, size=m)]),
                kind=pl.Series(np.where(rng.random(m) < 0.1, "purchase", "click")),
                event_id=pl.format(f"{hour}-event-{{}}", pl.int_range(pl.len())),
                value=pl.Series(rng.lognormal(3, 0.5, m)),
            )
        )
        _write(happened, EVENTS, state / "events", hour)


def measure_analysis(state: Path) -> dict[str, Any]:
    """Analyse the whole experiment: seconds, processor seconds and peak memory of this process."""
    from redraft.experiment.analysis.conclude import analyse
    from redraft.experiment.analysis.log import read_log

    made = _experiment("e", "model")
    started = time.process_time()
    taken = seconds(lambda: analyse(read_log(state, made), made.end))
    size = sum(path.stat().st_size for path in state.rglob("*.parquet"))
    used = time.process_time() - started
    return {"megabytes": size / 1e6, "seconds": taken, "processor": used, "gigabytes": peak_memory() / 1e9}


def measure_request(folder: Path) -> dict[str, float]:
    """Processor milliseconds of assigning a user in two layers, and of logging a list of ten items."""
    design = Design([_experiment("e", "model"), _experiment("f", "colour")], holdout=0.05)
    journal = Journal(folder, EXPOSURES)
    items, scores = [f"item-{n:06d}" for n in range(K)], [-float(n) / 7 for n in range(K)]
    now = START + timedelta(hours=1)
    started = time.process_time()
    for n in range(REQUESTS):
        plan = Plan(cast("list[LiveModel]", []), design.assign(f"user-{n}", now)[:1])
        row = {"timestamp": n, "request_id": f"{n:032x}", "user_id": f"user-{n}", "model": "0123456789abcdef"}
        more = {"items": items, "scores": scores, "milliseconds": 5.0, "asked": K, "history": 12, "fallback": False}
        journal.append(plan.rows(row | more | {"unavailable": 0}))
    return {"milliseconds": 1000 * (time.process_time() - started) / REQUESTS}


def _experiment(name: str, layer: str) -> Experiment:
    arms = [Arm("a", share=0.5), Arm("b", share=0.5, origin=round(0.5 * BUCKETS) / BUCKETS)]
    return Experiment(name, Layer(layer, layer), "ab", START, DAYS, "a", arms)


def _write(frame: pl.DataFrame, schema: Any, folder: Path, hour: int) -> None:
    columns = [
        pl.col(name).cast(kind) if name in frame.columns else pl.lit(None, kind).alias(name)
        for name, kind in schema.items()
    ]
    frame.select(columns).write_parquet(folder / f"{START + timedelta(hours=hour):%Y-%m-%dT%H}.parquet")
