"""Whether the numbers may be believed, and what must not happen in an arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from redraft.experiment.analysis.compare import sample_ratio, totals_differ
from redraft.experiment.analysis.log import Log
from redraft.experiment.analysis.outcomes import Moments, Outcomes
from redraft.experiment.traffic.design import Experiment

__all__ = ["Guarded", "Ratio", "guarded", "problems_of", "ratios_of", "remarks_of"]

MISMATCH = 0.001
"""A p-value below which users or lists are not as the shares say: something loses them."""
MIXED_UP = 0.01
"""Share of users in two arms above which nothing is concluded."""


@dataclass(frozen=True)
class Ratio:
    """The sample-ratio check of an arm. users_p: of as many users as the shares say; lists_p: of as many lists per
    user.
    """

    arm: str
    users: int
    expected: float
    users_p: float
    lists_p: float


@dataclass(frozen=True)
class Guarded:
    """A guardrail of an arm: what is watched, its value and the most that it may be."""

    arm: str
    name: str
    value: float
    most: float | None

    @property
    def broken(self) -> bool:
        """Whether it is above what it may be."""
        return self.most is not None and self.value > self.most


def ratios_of(experiment: Experiment, arms: Mapping[str, Moments]) -> list[Ratio]:
    """The check for each arm beside the control."""
    base, control = arms[experiment.control], experiment.arm(experiment.control)
    checked = []
    for arm in experiment.arms:
        mine = arms[arm.name]
        if arm is control or not arm.share or not control.share or min(base.count, mine.count) < 2:
            continue
        ratio = arm.share / control.share
        expected = (base.count + mine.count) * ratio / (1 + ratio)
        lists_p = totals_differ(arms, control.name, arm.name, "lists")
        checked.append(Ratio(arm.name, mine.count, expected, sample_ratio(base.count, mine.count, ratio), lists_p))
    return checked


def problems_of(outcomes: Outcomes, ratios: Sequence[Ratio]) -> list[str]:
    """Why nothing may be concluded, a sentence each; empty if something may."""
    said = []
    for ratio in ratios:
        if ratio.users_p < MISMATCH:
            said.append(
                f"{ratio.arm} has {ratio.users:,} users where its share asks for {ratio.expected:,.0f} "
                f"(p {ratio.users_p:.1g}): users or their lists are lost; find where and start again under another name"
            )
        elif ratio.lists_p < MISMATCH:
            said.append(
                f"users of {ratio.arm} have another number of lists each than the control's (p {ratio.lists_p:.1g}): "
                "lists are lost, or the arm changes how often people come; find out which before anything is concluded"
            )
    if outcomes.layouts > 1:
        said.append(
            f"users were assigned in {outcomes.layouts} different ways: salt or arms changed on the way; "
            "start again under another name"
        )
    if outcomes.two_arms > MIXED_UP * (outcomes.two_arms + len(outcomes.arm)):
        said.append(f"{outcomes.two_arms:,} users were in two arms; find why, and start again under another name")
    return said


def remarks_of(outcomes: Outcomes) -> list[str]:
    """What was left out or looks odd, and does not stop a conclusion."""
    said = []
    if outcomes.two_arms:
        said.append(f"{outcomes.two_arms:,} users were in two arms and are left out")
    if outcomes.early:
        said.append(f"{outcomes.early:,} events are older than the list that had their item: clocks differ")
    return said


def guarded(log: Log, days: int) -> list[Guarded]:
    """The guardrails of every arm over the first so many days."""
    lists = log.lists.filter(pl.col("day") < days)
    bad = pl.col("error").is_not_null()
    flags = lists.select(
        "arm",
        good=~bad,
        errors=bad | pl.col("fallback").fill_null(False),
        short=~bad & (pl.col("items").list.len() < pl.col("asked")),
        unavailable=~bad & (pl.col("unavailable") > 0),
    )
    shares = flags.group_by("arm").agg(
        pl.col("errors").mean(), *(pl.col(name).sum() / pl.col("good").sum() for name in ("short", "unavailable"))
    )
    slow = lists.filter(~bad).group_by("arm").agg(p99_ms=pl.col("milliseconds").quantile(0.99))
    measured = shares.collect(engine="streaming").join(slow.collect(engine="streaming"), on="arm", how="left")
    rows = {row["arm"]: row for row in measured.iter_rows(named=True)}
    return [
        Guarded(arm.name, name, float(rows[arm.name][name] or 0.0), most)
        for arm in log.experiment.arms
        if arm.name in rows
        for name, most in vars(log.experiment.guardrails).items()
    ]
