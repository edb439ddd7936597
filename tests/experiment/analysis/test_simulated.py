"""Two thousand experiments on customers who answer: what the intervals, the p-values and the guard promise is kept.

The customers' answers to both arms are known, so an experiment is a draw of who gets which, and 2,000 of them are two
products of matrices. That these give what the tool gives is tested too.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from journals import experiment
from worlds import DAYS, world

from redraft.experiment.analysis.compare import QUANTILE, compare
from redraft.experiment.analysis.conclude import Analysis, guards_of, verdict_of
from redraft.experiment.analysis.outcomes import moments
from redraft.experiment.analysis.sequence import half_widths
from redraft.experiment.customers.worlds import World

EXPERIMENTS, NOISE, BETTER = 2000, 1.0, 0.75


class Looks(NamedTuple):
    """log(1 + lift) of CTR and its standard error, [experiments, days]."""

    log_ratio: np.ndarray
    se: np.ndarray


@cache
def halves() -> np.ndarray:
    """Who gets the treatment, bool [experiments, U]: half of them each time."""
    rng = np.random.default_rng(11)
    users = world(NOISE).daily.shape[2]
    return rng.permuted(np.tile(np.arange(users) < users // 2, (EXPERIMENTS, 1)), axis=1)


def looks(control: World, treatment: World) -> Looks:
    """All experiments after each of their days."""
    logs, variances = zip(*(arm_of(who, each) for who, each in ((~halves(), control), (halves(), treatment))))
    return Looks(logs[1] - logs[0], np.sqrt(variances[0] + variances[1]))


def arm_of(who: np.ndarray, found: World) -> tuple[np.ndarray, np.ndarray]:
    """log of CTR by the delta method, and its variance, [experiments, days] each."""
    sums = found.daily.cumsum(axis=0)
    items, clicks, here = sums[:, 1], sums[:, 2], sums[:, 0] > 0
    features = np.stack([here, items, clicks, items**2, items * clicks, clicks**2])
    n, i, c, ii, ic, cc = np.moveaxis(np.tensordot(who.astype(float), features, (1, 2)), 1, 0)
    i, c, ii, ic, cc = (each / n for each in (i, c, ii, ic, cc))
    variance = ((cc - c * c) / c**2 - 2 * (ic - i * c) / (i * c) + (ii - i * i) / i**2) / (n - 1)
    return np.log(c / i), variance


def test_the_product_of_matrices_is_what_the_tool_computes() -> None:
    arms, found = (world(NOISE), world(BETTER)), looks(world(NOISE), world(BETTER))
    for number in range(2):
        arm = halves()[number].astype(int)
        for day in (0, DAYS - 1):
            sums = np.where(arm, *(each.daily[: day + 1].sum(axis=0) for each in reversed(arms)))
            totals = np.vstack([sums, np.zeros((1, len(arm)))])
            [lift] = compare(moments(totals, arm, ("a", "b"), sums[0] > 0), "a", ["ctr"])
            assert lift.log_ratio == pytest.approx(found.log_ratio[number, day], rel=1e-9)
            assert lift.se == pytest.approx(found.se[number, day], rel=1e-6)


def test_without_a_difference_5_percent_are_significant_at_the_horizon_and_many_more_by_peeking() -> None:
    found = looks(world(NOISE), world(NOISE))
    beyond = np.abs(found.log_ratio) > QUANTILE * found.se
    assert 0.04 <= beyond[:, -1].mean() <= 0.06
    assert beyond.any(axis=1).mean() > 0.12
    guarded = np.abs(found.log_ratio) > half_widths(found.se, DAYS)
    assert guarded.any(axis=1).mean() < 0.05


def test_the_tool_calls_no_peek_a_success() -> None:
    """Experiments that look significant before the horizon are still running."""
    found = looks(world(NOISE), world(NOISE))
    early = np.flatnonzero((found.log_ratio > QUANTILE * found.se)[:, : DAYS - 1].any(axis=1))
    assert len(early) > 20
    verdicts = []
    for number in early[:5]:
        arm, by_day = halves()[number].astype(int), []
        for day in range(DAYS - 1):
            sums = world(NOISE).daily[: day + 1].sum(axis=0)
            totals = np.vstack([sums, np.zeros((1, len(arm)))])
            by_day.append(compare(moments(totals, arm, ("a", "b"), sums[0] > 0), "a", ["ctr"]))
        guards = guards_of(by_day, DAYS)
        verdicts += [
            verdict_of(Analysis(experiment(days=DAYS), day, {}, by_day[:day], guards[:day], [], [], [], [], []))
            for day in range(1, DAYS)
        ]
    assert set(verdicts) == {"running"}


def test_the_interval_covers_a_planted_two_percent() -> None:
    control, treatment = world(NOISE), world(BETTER)
    clicks, items = (np.array([each.daily[:, row].sum() for each in (control, treatment)]) for row in (2, 1))
    truth = np.log(clicks[1] / items[1] * items[0] / clicks[0])
    assert truth == pytest.approx(0.02, abs=0.003)
    found = looks(control, treatment)
    covered = np.abs(found.log_ratio[:, -1] - truth) <= QUANTILE * found.se[:, -1]
    assert 0.93 <= covered.mean() <= 0.97


def test_harm_is_seen_before_the_horizon() -> None:
    found = looks(world(NOISE), world(3.0))
    stopped = found.log_ratio + half_widths(found.se, DAYS) < 0
    assert stopped.any(axis=1).mean() > 0.95
    assert np.median(stopped.argmax(axis=1)) < DAYS / 2
