"""What an experiment was when it started: it may end or ramp up, but not become another one on the way."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from redraft.experiment.traffic.design import Design, Experiment
from redraft.files import read_json, write_json
from redraft.records import InputError

__all__ = ["check_record", "registered"]

Registered = Mapping[str, Any]


def registered(experiment: Experiment) -> dict[str, Any]:
    """All that must not change once users are assigned: every field but the shares and overrides."""
    arms = {arm.name: _arm(arm.changes) | {"from": arm.origin} for arm in experiment.arms}
    return {
        "salt": experiment.layer.salt,
        "kind": experiment.kind,
        "from": experiment.origin,
        "start": experiment.start.isoformat(),
        "days": experiment.days,
        "control": experiment.control,
        "metrics": list(experiment.metrics),
        "window_hours": experiment.window_hours,
        "before_days": experiment.before_days,
        "arms": arms,
    }


def check_record(path: Path, design: Design, now: datetime) -> None:
    """Compare a design with what was recorded of experiments that had started, and record those that have by now.

    Raises InputError, naming the first difference, for one that changed while it ran.
    """
    known: dict[str, Registered] = read_json(path) if path.exists() else {}
    running = {each.name: registered(each) for each in design.experiments if each.start <= now}
    for each in design.experiments:
        if each.name in known and datetime.fromisoformat(known[each.name]["start"]) <= now:
            _check_same(each.name, known[each.name], registered(each))
    if {**known, **running} != known:
        write_json(path, {**known, **running})


def _check_same(name: str, old: Registered, new: Registered) -> None:
    for field in new:
        if old.get(field) != new[field]:
            place, before, after = field, old.get(field), new[field]
            if field == "arms":
                arm = next(a for a in {**old["arms"], **new["arms"]} if old["arms"].get(a) != new["arms"].get(a))
                place, before, after = f"arm {arm!r}", old["arms"].get(arm), new["arms"].get(arm)
            raise InputError(
                f"experiment {name!r}: {place} was {before!r} when it started and is {after!r} now; users would be "
                "moved or metrics chosen late: put it back, or give the experiment another name"
            )


def _arm(changes: Mapping[str, Any]) -> dict[str, Any]:
    correction = changes.get("correction")
    return {**changes} | ({} if correction is None else {"correction": asdict(correction)})
