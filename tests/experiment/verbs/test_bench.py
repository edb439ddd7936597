"""The measurement on a small journal: what is generated can be analysed, and nothing is lost on the way."""

from pathlib import Path

import polars as pl
import pytest

from redraft.experiment.analysis.log import read_log
from redraft.experiment.analysis.outcomes import outcomes_of
from redraft.experiment.verbs.bench import (
    ExperimentBenchConfig,
    _experiment,
    generate_journals,
    measure_analysis,
    measure_request,
)


def test_generated_journals_hold_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.experiment.verbs.bench.HOURS", 30)
    generate_journals(tmp_path, ExperimentBenchConfig(exposures=5_000, events=1_000, users=300, items=400))
    outcomes = outcomes_of(read_log(tmp_path, _experiment("e", "model")), 10)
    sums = outcomes.daily.select(pl.col("lists", "items").sum()).row(0)
    assert sums == (5_000, 50_000)
    assert len(outcomes.arm) == 300
    assert outcomes.daily["clicks"].sum() > 800

    row = measure_analysis(tmp_path)
    assert row["processor"] > 0
    assert row["gigabytes"] > 0.05
    assert 0 < measure_request(tmp_path / "requests")["milliseconds"] < 10
