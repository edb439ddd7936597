"""`redraft bench import`: time and memory of importing many events."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redraft.bench.columns import Column
from redraft.bench.measure import in_new_process, peak_memory, seconds
from redraft.bench.results import RESULTS, check_result, write_result
from redraft.data.importer import ImportConfig, import_dataset
from redraft.data.store import load_meta
from redraft.options import check_counts
from redraft.records import InputError
from redraft.terminal import next_command

__all__ = ["ImportBenchConfig", "generate_events", "main", "measure_import"]

FIRST_TIME = 1_600_000_000


@dataclass(frozen=True)
class ImportBenchConfig:
    """Generate events, write them to a Parquet file and import it."""

    events: int = 10_000_000
    """Events to import."""
    users: int = 1_000_000
    """Users; each has at least 3 events."""
    items: int = 200_000
    """Items, some far more popular than others."""
    seed: int = 0
    """Seed of the events."""
    results: Path = RESULTS
    """The folder for import.json."""


def main(config: ImportBenchConfig) -> None:
    """Import the generated events in a process of its own and write results/import.json."""
    check_counts(config)
    check_result("import", config.results)
    with tempfile.TemporaryDirectory() as scratch:
        src, dst = Path(scratch) / "events.parquet", Path(scratch) / "generated"
        in_new_process(generate_events, src, config.events, config.users, config.items, config.seed)
        row = in_new_process(measure_import, src, dst)
    path = write_result(
        "import",
        [row],
        columns=[
            Column("events", "events", ","),
            Column("users", "users", ","),
            Column("items", "items", ","),
            Column("Parquet file (MB)", "file_megabytes", ".0f"),
            Column("seconds", "seconds", ".1f"),
            Column("peak memory (GB)", "peak_gigabytes", ".2f"),
        ],
        protocol="Events with text ids for users and items and a time in seconds, in order of time, from one Parquet "
        "file to a data-set folder; peak memory is that of the whole importing process.",
        fingerprints={"data": row.pop("fingerprint")},
        seeds=[config.seed],
        folder=config.results,
    )
    print(f"wrote {path}")
    print(next_command("bench", "documents"))


def generate_events(path: Path, n_events: int, n_users: int, n_items: int, seed: int) -> None:
    """Write a log in order of time with the columns user_id, item_id and timestamp.

    Raises InputError if there are not 3 events for each user.
    """
    if n_events < 3 * n_users:
        raise InputError(f"events is {n_events} and {n_users} users need 3 each; it must be >= {3 * n_users}")
    rng = np.random.default_rng(seed)
    users = np.concatenate([np.tile(np.arange(n_users), 3), rng.integers(n_users, size=n_events - 3 * n_users)])
    items = (n_items * rng.random(n_events) ** 3).astype(np.int64)
    columns = {"user": rng.permutation(users), "item": items, "timestamp": FIRST_TIME + np.arange(n_events)}
    named = pl.format("user-{}", "user").alias("user_id"), pl.format("item-{}", "item").alias("item_id"), "timestamp"
    pl.LazyFrame(columns).select(*named).sink_parquet(path)


def measure_import(src: Path, dst: Path) -> dict[str, Any]:
    """Import an event table: counts, seconds, peak memory of this process and the fingerprint of the data set."""
    time = seconds(lambda: import_dataset(ImportConfig("table", src, dst)))
    meta = load_meta(dst)
    return {
        "events": meta["interactions"],
        "users": meta["users"],
        "items": meta["items"],
        "file_megabytes": src.stat().st_size / 1e6,
        "seconds": time,
        "peak_gigabytes": peak_memory() / 1e9,
        "fingerprint": meta["fingerprint"],
    }
