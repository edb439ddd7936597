"""Arms beside the control by tea-tasting: delta method for ratios, CUPED for revenue, Holm over all that decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, log1p, nan
from statistics import NormalDist
from typing import Any

import numpy as np
import tea_tasting as tt
from tea_tasting.aggr import Aggregates

from redraft.experiment.analysis.outcomes import TOTALS, Moments
from redraft.experiment.traffic.design import Metric

__all__ = ["ALPHA", "Lift", "Needed", "compare", "needed", "sample_ratio", "totals_differ"]

ALPHA = 0.05
POWER = 0.8
QUANTILE = NormalDist().inv_cdf(1 - ALPHA / 2)


@dataclass(frozen=True)
class Lift:
    """An arm beside the control. lift: relative, with a 95 % interval from `low` to `high`.

    p: of no difference, by itself. p_holm: with regard to all comparisons that decide together.
    """

    arm: str
    metric: Metric
    control: float
    treatment: float
    lift: float
    low: float
    high: float
    p: float
    p_holm: float

    @property
    def log_ratio(self) -> float:
        """log(1 + lift), nan where it is none."""
        return log1p(self.lift) if self.lift > -1 else nan

    @property
    def se(self) -> float:
        """Standard error of `log_ratio`."""
        return log((1 + self.high) / (1 + self.low)) / 2 / QUANTILE if self.low > -1 else nan


@dataclass(frozen=True)
class Needed:
    """What it takes to see an effect with a power of 80 %. smallest: relative effect that so many users show."""

    metric: Metric
    mean: float
    users: int
    smallest: float


def _metric(name: Metric, **more: float) -> tt.RatioOfMeans:
    settings = {"use_t": False, "alpha": ALPHA, "confidence_level": 1 - ALPHA, "power": POWER, **more}
    if name == "ctr":
        return tt.RatioOfMeans("clicks", "items", **settings)
    if name == "gmv":
        return tt.RatioOfMeans("gmv", "lists", **settings)
    return tt.Mean("revenue", "before", **settings)


def compare(arms: Mapping[str, Moments], control: str, metrics: Sequence[Metric], alpha: float = ALPHA) -> list[Lift]:
    """Every other arm beside the control, in every metric; nan where nothing can be said yet."""
    data = {arm: _aggregates(each) for arm, each in arms.items() if each.count > 1}
    if control not in data:
        return []
    together = tt.Experiment({name: _metric(name) for name in metrics})
    with np.errstate(invalid="ignore"):  # of metrics that nobody has an event of yet
        results = {
            (control, arm): together.analyze({control: data[control], arm: data[arm]}, control)
            for arm in data
            if arm != control
        }
    if not results:
        return []
    adjusted = tt.adjust_fwer(results, alpha=alpha, arbitrary_dependence=True, method="bonferroni")
    holm = {(row["comparison"], row["metric"]): row["pvalue_adj"] for row in adjusted.to_dicts()}
    return [
        _lift(pair[1], name, result[name], float(holm[str(pair), name]))
        for pair, result in results.items()
        for name in metrics
    ]


def _lift(arm: str, metric: Metric, result: Any, p_holm: float) -> Lift:
    return Lift(
        arm,
        metric,
        float(result.control),
        float(result.treatment),
        float(result.rel_effect_size),
        float(result.rel_effect_size_ci_lower),
        float(result.rel_effect_size_ci_upper),
        float(result.pvalue),
        p_holm,
    )


def needed(moments: Moments, metrics: Sequence[Metric], effect: float, ratio: float = 1.0) -> list[Needed]:
    """How many users, of two arms together, show a relative effect, and the smallest effect that these users show.

    ratio: users of the other arm per user of the control.
    """
    data, needs = _aggregates(moments), []
    for name in metrics:
        metric = _metric(name, rel_effect_size=effect, ratio=ratio)
        [users] = metric.solve_power(data, "n_obs")
        [smallest] = _metric(name, ratio=ratio).solve_power(data, "rel_effect_size")
        mean = smallest.effect_size / smallest.rel_effect_size
        needs.append(Needed(name, mean, users.n_obs, smallest.rel_effect_size))
    return needs


def sample_ratio(control: int, treatment: int, ratio: float) -> float:
    """P-value of so many users in two arms if `ratio` users are sent to the second for each of the first."""
    counts = {"control": Aggregates(control), "treatment": Aggregates(treatment)}
    return float(tt.SampleRatio(ratio).analyze(counts, "control", "treatment").pvalue)


def totals_differ(arms: Mapping[str, Moments], control: str, arm: str, name: str) -> float:
    """P-value of no difference between two arms in a total per user, such as lists."""
    data = {each: _aggregates(arms[each]) for each in (control, arm)}
    with np.errstate(invalid="ignore"):  # if all users have the same
        result = tt.Experiment({name: tt.Mean(name, use_t=False)}).analyze(data, control)
    return float(result[name].pvalue)


def _aggregates(moments: Moments) -> Aggregates:
    return Aggregates(
        moments.count,
        dict(zip(TOTALS, moments.mean.tolist())),
        dict(zip(TOTALS, moments.cov.diagonal().tolist())),
        {(TOTALS[i], TOTALS[j]): float(moments.cov[i, j]) for i in range(len(TOTALS)) for j in range(i)},
    )
