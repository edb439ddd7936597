from pathlib import Path

import polars as pl
import pytest
from imports import imported

from redraft.bench.speed.imports import ImportBenchConfig, generate_events, main
from redraft.files import read_json
from redraft.records import InputError


def test_generated_events_are_in_time_order_and_give_each_user_enough(tmp_path: Path) -> None:
    generate_events(tmp_path / "events.parquet", 1000, 200, 50, seed=0)
    events = pl.read_parquet(tmp_path / "events.parquet")
    assert events.columns == ["user_id", "item_id", "timestamp"]
    assert events["timestamp"].is_sorted()
    assert events["timestamp"].n_unique() == events.height == 1000
    assert events["user_id"].n_unique() == 200
    assert events["user_id"].value_counts()["count"].min() >= 3
    popularity = events["item_id"].value_counts()["count"].sort(descending=True)
    assert popularity[:5].sum() > 0.3 * 1000


def test_too_few_events_for_the_users_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it must be >= 30"):
        generate_events(tmp_path / "events.parquet", 29, 10, 5, seed=0)
    assert not list(tmp_path.iterdir())


def test_bench_imports_all_events(tmp_path: Path) -> None:
    main(ImportBenchConfig(events=5000, users=400, items=60, results=tmp_path))
    written = read_json(tmp_path / "import.json")
    (row,) = written["metrics"]
    assert (row["events"], row["users"], row["items"]) == (5000, 400, 60)
    assert 0 < row["seconds"] < 60
    assert 5e7 < row["peak_gigabytes"] * 1e9 < 2e9
    generate_events(tmp_path / "events.parquet", 5000, 400, 60, seed=0)
    dataset, _ = imported("table", tmp_path / "events.parquet", tmp_path / "generated")
    assert written["fingerprints"] == {"data": dataset.fingerprint}
