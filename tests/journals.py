"""Journals of exposures and events as a service would have written them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from redraft.experiment.traffic.design import Arm, Experiment, Layer
from redraft.service.journal import EVENTS, EXPOSURES

__all__ = ["START", "at", "experiment", "write"]

START = datetime(2026, 1, 2, tzinfo=UTC)


def at(day: float) -> datetime:
    return START + timedelta(days=day)


def experiment(**changes: Any) -> Experiment:
    """Arms a (control) and b, half of the users each, two days."""
    arms = [Arm("a", share=0.5), Arm("b", share=0.5, origin=0.5)]
    values: dict[str, Any] = {"kind": "ab", "start": START, "days": 2, "control": "a", "arms": arms}
    return Experiment("e", Layer("model", "model"), **{**values, **changes})


def write(state: Path, lists: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> Path:
    """One file each; what a row leaves out is that of a list of experiment e without fault, or of a click."""
    usual = {"experiment": "e", "layout": "l", "forced": False, "fallback": False, "unavailable": 0, "asked": 2}
    usual |= {"milliseconds": 5.0, "history": 3, "items": ["x", "y"], "arm": "a"}
    shown = [usual | {"request_id": f"r{n}"} | dict(row) for n, row in enumerate(lists)]
    done = [{"event_id": f"e{n}", "kind": "click", "item_id": "x"} | dict(row) for n, row in enumerate(events)]
    for name, rows, schema in (("exposures", shown, EXPOSURES), ("events", done, EVENTS)):
        (state / name).mkdir(parents=True, exist_ok=True)
        pl.DataFrame(rows, schema=schema, orient="row").write_parquet(state / name / "2026-01-02T00.parquet")
    return state
