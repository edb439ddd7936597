"""What came of each user: lists, items shown, clicks, money; by day, as numbers whose means and covariances are enough.

Attribution, settled: a click or purchase belongs to the newest list that its user got within `window_hours` before it
and that had the item. A click counts once for list, item and day. `gmv` is the value of purchases that belong to a
list; `revenue` is that of all purchases from the user's first list on, whatever led to them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from redraft.experiment.analysis.log import CLICK, PURCHASE, Log
from redraft.records import BoolArray, FloatArray, IntArray

__all__ = ["TOTALS", "Moments", "Outcomes", "attributed", "moments", "outcomes_of"]

TOTALS = ("lists", "items", "clicks", "gmv", "revenue", "before")
"""What is summed over a user. before: revenue before the start."""
CLOCK_MINUTES = 5


@dataclass(frozen=True)
class Moments:
    """Of the users of an arm: how many, means [V] of `TOTALS` and their covariances [V, V]."""

    count: int
    mean: FloatArray
    cov: FloatArray


@dataclass(frozen=True)
class Outcomes:
    """Users and what came of them.

    arms: names. arm: int [U]. first: int [U], the day of a user's first list. history: int [U], events that were
    known then, -1 if nobody knows. daily: long table of rows `unit`, `day` and the totals of that day. before: float
    [U]. two_arms: users who were in two arms, who are left out. early: events that are older than the list that had
    their item.
    """

    arms: tuple[str, ...]
    arm: IntArray
    first: IntArray
    history: IntArray
    before: FloatArray
    daily: pl.DataFrame
    two_arms: int
    layouts: int
    early: int

    def cumulated(self, days: int) -> Iterator[tuple[int, FloatArray, BoolArray]]:
        """For each day: its number, the totals [V, U] of all days up to it, and who has come by then."""
        totals = np.zeros((len(TOTALS), len(self.arm)))
        totals[-1] = self.before
        for day in range(days):
            rows = self.daily.filter(pl.col("day") == day)
            units = rows["unit"].to_numpy()
            for number, name in enumerate(TOTALS[:-1]):
                np.add.at(totals[number], units, rows[name].to_numpy())
            yield day, totals, self.first <= day


def moments(totals: FloatArray, arm: IntArray, arms: tuple[str, ...], who: BoolArray) -> dict[str, Moments]:
    """Moments by arm of the totals [V, U] of the users bool [U] who count."""
    by_arm = {}
    for number, name in enumerate(arms):
        mine = totals[:, who & (arm == number)]
        count = mine.shape[1]
        centre = mine.mean(axis=1) if count else np.full(len(mine), np.nan)
        off = mine - centre[:, None]
        by_arm[name] = Moments(
            count, centre, off @ off.T / (count - 1) if count > 1 else np.full((len(mine),) * 2, np.nan)
        )
    return by_arm


def outcomes_of(log: Log, days: int) -> Outcomes:
    """Outcomes of the first so many days of an experiment."""
    experiment = log.experiment
    arms = tuple(arm.name for arm in experiment.arms)
    lists = log.lists.filter(pl.col("day") < days)
    exposed = lists.group_by("user_id").agg(
        arm=pl.col("arm").first(),
        arms=pl.col("arm").n_unique(),
        first=pl.col("day").min(),
        history=pl.col("history").sort_by("timestamp").first().fill_null(-1),
    )
    everyone = exposed.collect(engine="streaming")
    layouts = lists.select(pl.col("layout").n_unique()).collect(engine="streaming").item()
    users = (
        everyone.filter(pl.col("arms") == 1).filter(pl.col("arm").is_in(arms)).sort("user_id").with_row_index("unit")
    )
    index = users.select("user_id", "unit", "first")
    parts, early = [], 0
    for day in range(days):
        near = log.lists_near(day)
        today = near.filter(pl.col("timestamp") >= log.start_of(day))
        answers, late = _answers(log, index, day, near, today)
        parts += [_shown(today, index, day), answers]
        early += late
    daily = pl.concat(parts).group_by("unit", "day").agg(pl.col(*TOTALS[:-1]).sum())
    return Outcomes(
        arms,
        users["arm"].cast(pl.Enum(arms)).to_physical().to_numpy().astype(np.int64),
        users["first"].to_numpy().astype(np.int64),
        users["history"].to_numpy().astype(np.int64),
        _before(log, index),
        daily,
        everyone.filter(pl.col("arms") > 1).height,
        layouts,
        early,
    )


def _shown(today: pl.DataFrame, index: pl.DataFrame, day: int) -> pl.DataFrame:
    shown = today.group_by("user_id").agg(lists=pl.len(), items=pl.col("items").list.len().sum())
    return _rows(shown.with_columns(day=pl.lit(day, pl.Int16)).join(index, on="user_id"))


def _answers(
    log: Log, index: pl.DataFrame, day: int, near: pl.DataFrame, today: pl.DataFrame
) -> tuple[pl.DataFrame, int]:
    """Clicks and money of a day, and how many events came before the list that had their item."""
    events = log.events_of(day).join(index, on="user_id").filter(pl.col("first") <= day).with_row_index("event")
    mine, early = attributed(events, near, log.window)
    clicks = mine.filter(pl.col("kind") == CLICK).unique(["request_id", "item_id"])
    bought = mine.filter(pl.col("kind") == PURCHASE)
    paid = events.filter(pl.col("kind") == PURCHASE)
    return (
        pl.concat(
            [
                _rows(clicks.group_by("unit", "day").agg(clicks=pl.len())),
                _rows(bought.group_by("unit", "day").agg(gmv=pl.col("value").sum())),
                _rows(_since_first(paid, today, day).group_by("unit", "day").agg(revenue=pl.col("value").sum())),
            ]
        ),
        early,
    )


def attributed(events: pl.DataFrame, near: pl.DataFrame, window: timedelta) -> tuple[pl.DataFrame, int]:
    """Events, numbered by `event`, that belong to a list, with its request; and how many are older than theirs."""
    pairs = events.join(near, on="user_id", suffix="_list").filter(pl.col("items").list.contains(pl.col("item_id")))
    since = pl.col("timestamp") - pl.col("timestamp_list")
    mine = pairs.filter(since.is_between(timedelta(0), window)).sort("timestamp_list").unique("event", keep="last")
    early = pairs.filter(since.is_between(-timedelta(minutes=CLOCK_MINUTES), timedelta(0), closed="left"))
    return mine, early.join(mine, on="event", how="anti")["event"].n_unique()


def _since_first(paid: pl.DataFrame, today: pl.DataFrame, day: int) -> pl.DataFrame:
    """Purchases that are not before the user's first list of the experiment."""
    first = today.group_by("user_id").agg(came=pl.col("timestamp").min())
    joined = paid.join(first, on="user_id", how="left")
    return joined.filter((pl.col("first") < day) | (pl.col("timestamp") >= pl.col("came")))


def _before(log: Log, index: pl.DataFrame) -> FloatArray:
    paid = log.events.filter((pl.col("day") < 0) & (pl.col("kind") == PURCHASE)).group_by("user_id")
    values = index.join(paid.agg(pl.col("value").sum()).collect(), on="user_id", how="left", maintain_order="left")
    return values["value"].fill_null(0.0).to_numpy().astype(np.float64)


def _rows(totals: pl.DataFrame) -> pl.DataFrame:
    """Rows of the daily table, 0 for the totals that are not there."""
    missing = [pl.lit(0.0).alias(name) for name in TOTALS[:-1] if name not in totals.columns]
    return totals.with_columns(missing).select("unit", "day", *(pl.col(name).cast(pl.Float64) for name in TOTALS[:-1]))
