"""Lifts by hand, Holm, CUPED, and how many users an effect takes."""

import math

import numpy as np
import pytest

from redraft.experiment.analysis.compare import compare, needed, sample_ratio, totals_differ
from redraft.experiment.analysis.outcomes import TOTALS, Moments, moments
from redraft.experiment.analysis.sequence import half_widths


def arms(users: int = 4000, lift: float = 1.1, seed: int = 0, names: str = "ab") -> dict[str, Moments]:
    rng = np.random.default_rng(seed)
    arm = rng.integers(len(names), size=users)
    taste = rng.lognormal(0, 0.5, users)
    lists = 1 + rng.poisson(3, users)
    clicks = rng.poisson(lists * taste * np.where(arm == len(names) - 1, lift, 1.0))
    before, revenue = (rng.poisson(20 * taste) for _ in range(2))
    totals = np.stack([lists, lists * 10, clicks, clicks * 2, revenue, before]).astype(float)
    return moments(totals, arm, tuple(names), np.ones(users, dtype=bool))


def test_a_ratio_by_hand() -> None:
    found = arms()
    [lift] = compare(found, "a", ["ctr"])
    i, c = TOTALS.index("items"), TOTALS.index("clicks")

    def log_variance(m: Moments) -> float:
        relative = m.cov[c, c] / m.mean[c] ** 2 + m.cov[i, i] / m.mean[i] ** 2
        return (relative - 2 * m.cov[i, c] / m.mean[i] / m.mean[c]) / m.count

    ratio = math.log(found["b"].mean[c] / found["b"].mean[i] * found["a"].mean[i] / found["a"].mean[c])
    assert lift.log_ratio == pytest.approx(ratio)
    assert lift.se == pytest.approx(math.sqrt(log_variance(found["a"]) + log_variance(found["b"])))
    assert lift.low < 0.1 < lift.high
    assert lift.p < 1e-3


def test_the_time_before_makes_the_interval_of_revenue_narrower() -> None:
    found = arms()
    row = TOTALS.index("before")
    blind = {}
    for name, each in found.items():
        cov = each.cov.copy()
        cov[row, :row] = cov[:row, row] = 0.0
        blind[name] = Moments(each.count, each.mean, cov)
    [sharp], [dull] = (compare(each, "a", ["revenue"]) for each in (found, blind))
    assert sharp.se < 0.85 * dull.se


def test_holm_over_arms_and_metrics() -> None:
    lifts = compare(arms(names="abc"), "a", ["ctr", "revenue"])
    assert [(lift.arm, lift.metric) for lift in lifts] == [
        ("b", "ctr"),
        ("b", "revenue"),
        ("c", "ctr"),
        ("c", "revenue"),
    ]
    order = sorted(lifts, key=lambda lift: lift.p)
    wanted = np.maximum.accumulate([min(1, lift.p * (4 - n)) for n, lift in enumerate(order)])
    np.testing.assert_allclose([lift.p_holm for lift in order], wanted)


def test_nothing_to_compare() -> None:
    assert compare({"a": arms()["a"]}, "a", ["ctr"]) == []
    empty = Moments(0, np.full(6, np.nan), np.full((6, 6), np.nan))
    assert compare({"a": empty, "b": arms()["b"]}, "a", ["ctr"]) == []


def test_as_many_users_as_an_effect_needs_find_it_four_times_in_five() -> None:
    everyone = arms(40_000, lift=1.0, names="a")["a"]
    [power] = needed(everyone, ["ctr"], 0.1)
    found = [compare(arms(power.users, seed=seed), "a", ["ctr"])[0].p < 0.05 for seed in range(100)]
    assert 0.7 < np.mean(found) < 0.9
    [less] = needed(everyone, ["ctr"], 0.2)
    assert less.users == pytest.approx(power.users / 4, rel=0.01)
    assert power.smallest == pytest.approx(0.1 * math.sqrt(power.users / 40_000), rel=0.01)


def test_sample_ratios() -> None:
    assert sample_ratio(10_000, 10_010, 1.0) > 0.5
    assert sample_ratio(10_000, 9_500, 1.0) < 0.001
    assert sample_ratio(10_000, 5_000, 0.5) > 0.5
    assert totals_differ(arms(), "a", "b", "lists") > 0.01


def test_the_sequence_is_narrowest_beside_plain_intervals_at_the_horizon() -> None:
    se = np.arange(1, 31) ** -0.5
    ratio = half_widths(se, 10) / se / 1.96
    assert ratio.argmin() in (9, 10, 11)
    assert ratio[9] == pytest.approx(1.55, abs=0.01)
    assert (half_widths(se, 10, 0.01) > half_widths(se, 10)).all()
