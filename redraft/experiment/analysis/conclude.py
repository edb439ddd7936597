"""What an experiment says, day by day, and what a product manager may say of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np

from redraft.experiment.analysis.compare import ALPHA, Lift, compare
from redraft.experiment.analysis.log import DAY, Log
from redraft.experiment.analysis.outcomes import Outcomes, moments, outcomes_of
from redraft.experiment.analysis.quality import Guarded, Ratio, guarded, problems_of, ratios_of, remarks_of
from redraft.experiment.analysis.sequence import half_widths
from redraft.experiment.traffic.design import Experiment, Metric
from redraft.records import BoolArray, InputError

__all__ = ["NAMES", "Analysis", "Guard", "Segment", "Verdict", "analyse", "guards_of", "sentence_of", "verdict_of"]

Verdict = Literal["refused", "harm", "running", "better", "worse", "mixed", "undecided"]
NAMES: dict[Metric, str] = {"ctr": "CTR", "gmv": "GMV per list", "revenue": "revenue per user"}


@dataclass(frozen=True)
class Guard:
    """The confidence sequence of one day: it holds on all days at once."""

    low: float
    high: float


@dataclass(frozen=True)
class Segment:
    """Lifts among some of the users; to look at, nothing is decided by them."""

    name: str
    users: int
    lifts: Sequence[Lift]


@dataclass(frozen=True)
class Analysis:
    """days: complete ones. users: by arm. by_day: lifts after each day; guards: beside them. problems: why nothing
    may be concluded. remarks: what was left out.
    """

    experiment: Experiment
    days: int
    users: dict[str, int]
    by_day: Sequence[Sequence[Lift]]
    guards: Sequence[Sequence[Guard]]
    ratios: Sequence[Ratio]
    guardrails: Sequence[Guarded]
    segments: Sequence[Segment]
    problems: Sequence[str]
    remarks: Sequence[str]

    @property
    def lifts(self) -> Sequence[Lift]:
        """Those of the last complete day."""
        return self.by_day[-1]


def analyse(log: Log, now: datetime) -> Analysis:
    """The analysis of all days that are complete.

    Raises InputError before the end of the first.
    """
    experiment = log.experiment
    days = min(experiment.days, (now - experiment.start) // DAY)
    if days < 1:
        raise InputError(f"experiment {experiment.name!r}: its first day is not over; wait until then")
    outcomes = outcomes_of(log, days)
    by_day, latest = [], {}
    for day, totals, here in outcomes.cumulated(days):
        latest = moments(totals, outcomes.arm, outcomes.arms, here)
        by_day.append(compare(latest, experiment.control, experiment.metrics))
        if day == days - 1:
            segments = [
                Segment(
                    name, int(who.sum()), compare(moments(totals, outcomes.arm, outcomes.arms, who), *_of(experiment))
                )
                for name, who in _segments(outcomes).items()
                if who.sum() > 1
            ]
    ratios = ratios_of(experiment, latest)
    return Analysis(
        experiment,
        days,
        {arm: each.count for arm, each in latest.items()},
        by_day,
        guards_of(by_day, experiment.days),
        ratios,
        guarded(log, days),
        segments,
        problems_of(outcomes, ratios),
        remarks_of(outcomes),
    )


def guards_of(by_day: Sequence[Sequence[Lift]], horizon: int) -> list[list[Guard]]:
    """The confidence sequence beside the lifts of each day; nan before there is a lift.

    All comparisons share the 5 % (Bonferroni), so that a false alarm is no more probable with more of them.
    """
    keys = [(lift.arm, lift.metric) for lift in by_day[-1]]
    guards: list[list[Guard]] = [[] for _ in by_day]
    for key in keys:
        line = [next((lift for lift in lifts if (lift.arm, lift.metric) == key), None) for lifts in by_day]
        se = np.array([np.nan if lift is None else lift.se for lift in line])
        known = np.flatnonzero(np.isfinite(se) & (se > 0))
        widths = np.full(len(line), np.nan)
        if len(known):
            first = known[0]
            widths[known] = half_widths(se[known], max(1, horizon - first), ALPHA / len(keys))
        for day, (lift, width) in enumerate(zip(line, widths)):
            if lift is not None:
                centre = lift.log_ratio
                guards[day].append(Guard(float(np.expm1(centre - width)), float(np.expm1(centre + width))))
    return guards


def verdict_of(analysis: Analysis) -> Verdict:
    """What may be concluded. The sequence may stop for harm on any day; what is better is decided at the horizon
    alone.
    """
    if analysis.problems:
        return "refused"
    if any(guard.high < 0 for guards in analysis.guards for guard in guards):
        return "harm"
    if analysis.days < analysis.experiment.days:
        return "running"
    proven = [lift for lift in analysis.lifts if lift.p_holm < ALPHA]
    better, worse = any(lift.lift > 0 for lift in proven), any(lift.lift < 0 for lift in proven)
    if better and worse:
        return "mixed"
    return "better" if better else "worse" if worse else "undecided"


def sentence_of(analysis: Analysis) -> str:
    """The sentence that a product manager may say."""
    experiment, verdict = analysis.experiment, verdict_of(analysis)
    if verdict == "refused":
        return f"Nothing may be concluded: {analysis.problems[0]}."
    if verdict == "harm":
        return f"Stop: {_harmed(analysis)}, whenever one looks."
    if verdict == "running":
        return f"Day {analysis.days} of {experiment.days}: no harm is seen, and nothing is decided before the last day."
    broken = [guard for guard in analysis.guardrails if guard.broken and guard.arm != experiment.control]
    but = f" But {broken[0].arm} breaks a guardrail: {broken[0].name} is {broken[0].value:.4g}." if broken else ""
    proven = [lift for lift in analysis.lifts if lift.p_holm < ALPHA]
    if proven:
        said = "; ".join(_changed(lift) for lift in proven)
        rest = [lift for lift in analysis.lifts if lift.p_holm >= ALPHA]
        more = f" Of {_named(rest)} nothing can be said." if rest else ""
        return f"In {experiment.days} days, {said}.{more}{but}"
    ends = max((max(abs(lift.low), abs(lift.high)) for lift in analysis.lifts), default=np.nan)
    none = f"In {experiment.days} days, no difference was proven; effects up to {ends:.1%} either way remain possible."
    return none + but


def _harmed(analysis: Analysis) -> str:
    for day, (lifts, guards) in enumerate(zip(analysis.by_day, analysis.guards)):
        for lift, guard in zip(lifts, guards):
            if guard.high < 0:
                return f"{lift.arm} lowered {NAMES[lift.metric]} by at least {-guard.high:.2%}, seen on day {day + 1}"
    raise AssertionError("no harm")


def _changed(lift: Lift) -> str:
    verb = "raised" if lift.lift > 0 else "lowered"
    low, high = sorted((abs(lift.low), abs(lift.high)))
    return (
        f"{lift.arm} {verb} {NAMES[lift.metric]} by {abs(lift.lift):.2%} (95 % interval {low:.2%} to {high:.2%}, "
        f"p {lift.p_holm:.2g} after Holm)"
    )


def _named(lifts: Sequence[Lift]) -> str:
    return " and ".join(dict.fromkeys(NAMES[lift.metric] for lift in lifts))


def _of(experiment: Experiment) -> tuple[str, Sequence[Metric]]:
    return experiment.control, experiment.metrics


def _segments(outcomes: Outcomes) -> dict[str, BoolArray]:
    history = outcomes.history
    old = history > 0
    middle = int(np.median(history[old])) if old.any() else 0
    return {
        "new users": history == 0,
        "old users": old,
        f"histories up to {middle} events": old & (history <= middle),
        f"histories above {middle} events": history > middle,
    }
