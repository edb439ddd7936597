"""What lists say that were mixed: which arm's items are clicked in interleaved ones, and what arms would have got
from random ones.

Off-policy estimates take a click at a position to depend on the item and the position, not on the other items: then a
list is as many single decisions as it has positions, each with a propensity of its own. They are of clicks per list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from scipy.stats import norm

from redraft.experiment.analysis.compare import QUANTILE
from redraft.experiment.analysis.log import CLICK, Log
from redraft.experiment.analysis.outcomes import attributed
from redraft.records import BoolArray, FloatArray, InputError, IntArray

__all__ = ["Estimate", "Preference", "Slates", "answered", "off_policy", "preference", "slates_of"]

Method = Literal["IPS", "SNIPS", "DR"]
SHRINK = 20.0
"""Lists whose mean an item's own clicks are mixed with, in the model of clicks."""


@dataclass(frozen=True)
class Preference:
    """Of interleaved lists: clicks of each arm, and the second arm's share of them with a 95 % interval. p: of one
    half.
    """

    arms: tuple[str, str]
    clicks: tuple[int, int]
    lists: int
    share: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Estimate:
    """Clicks per list that an arm would have got, with a 95 % interval."""

    arm: str
    method: Method
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Slates:
    """n random lists. users, items: int64 [n] and [n, k], -1 where a list is short. propensities: float64 [n, k] of
    those items there. clicks: bool [n, k].
    """

    users: IntArray
    items: IntArray
    propensities: FloatArray
    clicks: BoolArray


def answered(log: Log, days: int) -> pl.DataFrame:
    """The lists of a mixed experiment in its first days, and `clicks`, one bool for each of their items."""
    credited = []
    for day in range(days):
        clicks = log.events_of(day).filter(pl.col("kind") == CLICK).with_row_index("event")
        mine, _ = attributed(clicks, log.lists_near(day), log.window)
        credited.append(mine.select("request_id", "item_id"))
    clicked = pl.concat(credited).unique().group_by("request_id").agg(clicked=pl.col("item_id"))
    lists = log.lists.filter((pl.col("day") < days) & pl.col("error").is_null() & ~pl.col("fallback").fill_null(False))
    joined = lists.unique("request_id").collect().join(clicked, on="request_id", how="left").sort("request_id")
    flags = [
        [item in set(some or ()) for item in items] for items, some in zip(joined["items"], joined["clicked"].to_list())
    ]
    return joined.with_columns(clicks=pl.Series(flags, dtype=pl.List(pl.Boolean)))


def preference(lists: pl.DataFrame, arms: tuple[str, str]) -> Preference:
    """Which arm's items are clicked; users are what is drawn, so that those who click much do not count as many.

    Raises InputError for lists without teams, and if nobody clicked.
    """
    if lists["teams"].null_count():
        raise InputError(
            "some lists do not say whose item is whose; interleave with an experiment of kind 'interleaving'"
        )
    rows = lists.select("user_id", "teams", "clicks").explode("teams", "clicks").filter(pl.col("clicks"))
    per_user = rows.group_by("user_id").agg(both=pl.len(), second=(pl.col("teams") == arms[1]).sum())
    both, second = (per_user[name].to_numpy().astype(np.float64) for name in ("both", "second"))
    if not len(both):
        raise InputError("nobody clicked in interleaved lists; wait for clicks")
    share = second.sum() / both.sum()
    errors = (float(np.sqrt(((second - middle * both) ** 2).sum()) / both.sum()) for middle in (share, 0.5))
    se = next((error for error in errors if error > 0), 0.0)  # users who are all alike do not say how users vary
    p = 2 * norm.sf(abs(share - 0.5) / se) if se > 0 else 1.0
    clicks = int(both.sum() - second.sum()), int(second.sum())
    low, high = share - QUANTILE * se, share + QUANTILE * se
    return Preference(arms, clicks, lists.height, float(share), float(low), float(high), float(p))


def slates_of(lists: pl.DataFrame) -> tuple[Slates, list[IntArray]]:
    """Random lists as numbers, and the lists of each arm int64 [n, k] at the same requests.

    Raises InputError, naming the first, if a list has no propensity for each of its items.
    """
    known = (pl.col("propensities").list.len() == pl.col("items").list.len()) & (pl.col("propensities").list.min() > 0)
    bad = lists.filter(~known.fill_null(False) | pl.col("lists").is_null())
    if bad.height:
        raise InputError(
            f"{bad.height:,} lists have no propensities, the first is request {bad['request_id'][0]!r}: a fixed order "
            "has none; draw lists at random with an experiment of kind 'randomised'"
        )
    k = int(lists["items"].list.len().max())  # type: ignore[arg-type]
    n_arms = len(lists["lists"][0])
    names: dict[str, int] = {}

    def padded(column: Sequence[Sequence[str]]) -> IntArray:
        return np.array([[names.setdefault(x, len(names)) for x in row[:k]] + [-1] * (k - len(row)) for row in column])

    rows = lists["lists"].to_list()
    p, clicks = (
        np.array([[*row, *[fill] * (k - len(row))] for row in lists[name].to_list()])
        for name, fill in (("propensities", 1.0), ("clicks", False))
    )
    users = lists["user_id"].rank("dense").to_numpy().astype(np.int64) - 1
    slates = Slates(users, padded(lists["items"].to_list()), p, clicks.astype(bool))
    return slates, [padded([row[arm] for row in rows]) for arm in range(n_arms)]


def off_policy(slates: Slates, wanted: IntArray, arm: str) -> list[Estimate]:
    """Clicks per list of an arm whose lists would have been `wanted` int64 [n, k], by three methods.

    IPS: inverse propensities. SNIPS: the same, normalised at each position. DR: doubly robust, a model of clicks
    by position and item that is fitted on the other half of the users, corrected by inverse propensities.
    """
    n = len(wanted)
    weights = (slates.items == wanted) * (wanted >= 0) / slates.propensities
    clicks = slates.clicks.astype(np.float64)
    normal = weights.mean(axis=0)
    means = np.divide((weights * clicks).mean(axis=0), normal, out=np.zeros(len(normal)), where=normal > 0)
    logged, foreseen = _modelled(slates, wanted)
    parts: dict[Method, tuple[float, FloatArray]] = {}
    ips = (weights * clicks).sum(axis=1)
    parts["IPS"] = float(ips.mean()), ips - ips.mean()
    scaled = np.divide(weights, normal, out=np.zeros_like(weights), where=normal > 0)
    parts["SNIPS"] = float(means.sum()), (scaled * (clicks - means)).sum(axis=1)
    dr = (foreseen + weights * (clicks - logged)).sum(axis=1)
    parts["DR"] = float(dr.mean()), dr - dr.mean()
    estimates = []
    for method, (value, off) in parts.items():
        se = float(np.sqrt((np.bincount(slates.users, off) ** 2).sum()) / n)
        estimates.append(Estimate(arm, method, value, value - QUANTILE * se, value + QUANTILE * se))
    return estimates


def _modelled(slates: Slates, wanted: IntArray) -> tuple[FloatArray, FloatArray]:
    """float64 [n, k] each: foreseen clicks of the items that were shown and of those that are wanted."""
    logged, foreseen = np.zeros(slates.items.shape), np.zeros(wanted.shape)
    size = int(max(slates.items.max(), wanted.max())) + 1
    half = slates.users % 2
    for fold in (0, 1):
        fit, use = half != fold, half == fold
        real = slates.items[fit] >= 0
        by_position = slates.clicks[fit].sum(axis=0) / np.maximum(real.sum(axis=0), 1)
        expected = np.broadcast_to(by_position, real.shape)[real]
        items = slates.items[fit][real]
        got = np.bincount(items, slates.clicks[fit][real], size) + SHRINK * by_position.mean()
        factor = got / np.maximum(np.bincount(items, expected, size) + SHRINK * by_position.mean(), 1e-12)
        for target, given in ((logged, slates.items), (foreseen, wanted)):
            target[use] = np.where(given[use] >= 0, by_position * factor[given[use]], 0.0)
    return logged, foreseen
