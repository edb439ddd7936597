"""Journals of exposures and events as a service would have written them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from worlds import N_ITEMS, crowd

from redraft.experiment.customers.people import Answers, Visits, draw_prices
from redraft.experiment.customers.worlds import by_taste, live
from redraft.experiment.traffic.design import Arm, Experiment, Layer
from redraft.service.journal import EVENTS, EXPOSURES

__all__ = ["START", "at", "experiment", "of_customers", "write"]

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


def of_customers(state: Path, made: Experiment, noises: Mapping[str, float], users: int = 1500) -> Path:
    """What customers left who came to a server with so much noise for each arm of an experiment."""
    lists: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for arm, noise in noises.items():
        customers = crowd(users)
        serve = by_taste(customers, 8, noise, 5)
        mine = {user for user in range(users) if (made.where(f"u{user}") or ("", False))[0] == arm}

        def tell(day: int, visits: Visits, shown: Any, answers: Answers, arm: str = arm, mine: Any = mine) -> None:
            for row, user in enumerate(visits.users.tolist()):
                when = {"user_id": f"u{user}", "timestamp": at(day + visits.seconds[row] / 90_000)}
                if user not in mine:
                    continue
                items = [str(item) for item in shown[row]]
                if day >= 0:
                    lists.append(when | {"arm": arm, "items": items, "asked": 8, "history": user % 5})
                for place in np.flatnonzero(answers.clicked[row]):
                    event = when | {"item_id": items[place], "timestamp": when["timestamp"] + timedelta(seconds=30)}
                    events.append(event)
                    if answers.bought[row, place]:
                        value = float(draw_prices(N_ITEMS, 0)[shown[row, place]])
                        events.append(event | {"kind": "purchase", "value": value})

        live(customers, range(-made.before_days, 0), by_taste(customers, 8, 2.0, 5), tell)
        live(customers, range(made.days), serve, tell)
    return write(state, lists, [event | {"event_id": f"e{n}"} for n, event in enumerate(events)])
