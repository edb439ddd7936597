"""Experiments as records: arms, their shares of the users, what is measured, and what must not happen.

redraft.experiment.traffic.reading makes them from a file; its checks hold for every `Design`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

from redraft.decode.correction import Correction
from redraft.experiment.traffic.assignment import BUCKETS, Lane, bucket

__all__ = [
    "MIXED",
    "Arm",
    "Assigned",
    "Design",
    "Experiment",
    "Guardrails",
    "Kind",
    "Layer",
    "Metric",
]

Kind = Literal["ab", "interleaving", "randomised"]
Metric = Literal["ctr", "gmv", "revenue"]
MIXED: tuple[Kind, ...] = ("interleaving", "randomised")
"""Kinds whose users get lists made of those of all arms."""
HOLDOUT = "holdout"


@dataclass(frozen=True)
class Arm:
    """What some users get. run, beams, correction: None for those that the service was started with.

    share: of all units. origin: where in the layer its buckets begin, as a share.
    """

    name: str
    run: str | None = None
    beams: int | None = None
    correction: Correction | None = None
    share: float = 0.0
    origin: float = 0.0

    @property
    def changes(self) -> dict[str, Any]:
        """What it sets, by name."""
        values = {"run": self.run, "beams": self.beams, "correction": self.correction}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Guardrails:
    """The most that may happen in an arm; None is not watched."""

    p99_ms: float | None = None
    """99th percentile of the time to a list, in milliseconds."""
    errors: float | None = 0.01
    """Share of requests without a list, or with that of another model because the arm's failed."""
    short: float | None = 0.01
    """Share of lists with fewer items than were asked for."""
    unavailable: float | None = 0.0
    """Share of lists with an item that was off sale when they were sent."""


@dataclass(frozen=True)
class Layer:
    """Experiments whose users are kept apart; users of different layers are mixed at random by different salts."""

    name: str
    salt: str


@dataclass(frozen=True)
class Experiment:
    """Arms of one layer, compared from `start` on for so many days.

    share, origin: of the mixed kinds, whose arms have none. window_hours: how long after a list an event counts for it.
    before_days: the time before the start whose revenue explains differences between users. overrides: arm by unit.
    """

    name: str
    layer: Layer
    kind: Kind
    start: datetime
    days: int
    control: str
    arms: Sequence[Arm]
    metrics: Sequence[Metric] = get_args(Metric)
    guardrails: Guardrails = Guardrails()
    window_hours: float = 24.0
    before_days: int = 14
    share: float = 0.0
    origin: float = 0.0
    overrides: Mapping[str, str] = field(default_factory=dict)

    @property
    def end(self) -> datetime:
        """When it is over."""
        return self.start + timedelta(days=self.days)

    def arm(self, name: str) -> Arm:
        """The arm of a name that it has."""
        return next(arm for arm in self.arms if arm.name == name)

    @cached_property
    def lanes(self) -> dict[str, Lane]:
        """Buckets by the name of an arm, or by the kind where users get lists made of all arms."""
        if self.kind in MIXED:
            return {self.kind: _lane(self.origin, self.share)}
        return {arm.name: _lane(arm.origin, arm.share) for arm in self.arms}

    @cached_property
    def layout(self) -> str:
        """8 hexadecimal digits over all that says who is in which arm, however far it is ramped."""
        firsts = {name: lane.first for name, lane in self.lanes.items()}
        return hashlib.sha256(json.dumps([self.layer.salt, firsts], sort_keys=True).encode()).hexdigest()[:8]

    def where(self, unit: str) -> tuple[str, bool] | None:
        """A unit's lane, and whether it was put there by name; None outside the experiment."""
        forced = self.overrides.get(unit)
        if forced is not None:
            return forced, True
        number = bucket(self.layer.salt, unit)
        return next(((name, False) for name, lane in self.lanes.items() if number in lane), None)


class Assigned(NamedTuple):
    """In which arm a unit is. arm: its name, or the kind of an experiment that mixes its arms' lists."""

    experiment: Experiment
    arm: str
    forced: bool


@dataclass(frozen=True)
class Design:
    """All experiments. holdout: share of the units that are in none, by a salt of their own."""

    experiments: Sequence[Experiment]
    holdout: float = 0.0
    holdout_salt: str = HOLDOUT

    def held_out(self, unit: str) -> bool:
        """Whether a unit is kept out of all experiments."""
        return self.holdout > 0 and bucket(self.holdout_salt, unit) in _lane(0.0, self.holdout)

    def assign(self, unit: str, now: datetime) -> list[Assigned]:
        """Where a unit is, at most once a layer; overrides come before the holdout."""
        running = [each for each in self.experiments if each.start <= now < each.end]
        out = self.held_out(unit)
        arms = ((each, each.where(unit)) for each in running)
        assigned = [Assigned(each, *arm) for each, arm in arms if arm and not (out and not arm[1])]
        forced = {each.experiment.layer.name for each in assigned if each.forced}
        return [each for each in assigned if each.forced or each.experiment.layer.name not in forced]

    def named(self, name: str) -> Experiment | None:
        """The experiment of a name."""
        return next((each for each in self.experiments if each.name == name), None)


def _lane(origin: float, share: float) -> Lane:
    return Lane(round(origin * BUCKETS), round(share * BUCKETS))
