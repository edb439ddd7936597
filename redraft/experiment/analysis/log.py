"""The journals of a service as one experiment sees them: its own lists, and what its users did.

What is settled here: a request counts once, an event (user and event id) counts once, the first time it is seen;
users who were put into an arm by name do not count; times outside the experiment do not count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from redraft.experiment.traffic.design import Experiment, Metric
from redraft.records import InputError
from redraft.service.journal import EVENTS, EXPOSURES

__all__ = ["Log", "read_before", "read_log"]

CLICK, PURCHASE = "click", "purchase"
KINDS: Mapping[Metric, str] = {"ctr": CLICK, "gmv": PURCHASE, "revenue": PURCHASE}
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Log:
    """What an experiment left.

    lists: its exposures, with `day` (0 is the first). events: clicks and purchases from `before_days` before its
    start to its end, with `day`, which is negative before the start.
    """

    experiment: Experiment
    lists: pl.LazyFrame
    events: pl.LazyFrame

    @property
    def window(self) -> timedelta:
        """How long after a list an event counts for it."""
        return timedelta(hours=self.experiment.window_hours)

    def start_of(self, day: int) -> datetime:
        """When a day begins."""
        return self.experiment.start + day * DAY

    def lists_near(self, day: int) -> pl.DataFrame:
        """Lists of one day and of a window before it: those that events of the day can belong to."""
        start = self.start_of(day)
        near = pl.col("timestamp").is_between(start - self.window, start + DAY, closed="left")
        lists = self.lists.filter(near & pl.col("error").is_null())
        return lists.select("user_id", "request_id", "timestamp", "items").unique("request_id").collect()

    def events_of(self, day: int) -> pl.DataFrame:
        """Events of one day."""
        return self.events.filter(pl.col("day") == day).collect()


def read_log(state: Path, experiment: Experiment) -> Log:
    """The journals of a service's state folder.

    Raises InputError if there are none, if the experiment has no list in them, for a metric without a single event,
    and for a purchase of negative value.
    """
    lists = _scan(state / "exposures", EXPOSURES).filter(
        (pl.col("experiment") == experiment.name) & ~pl.col("forced").fill_null(False)
    )
    lists = _within(lists, experiment)
    if lists.head(1).collect().is_empty():
        raise InputError(
            f"{state}: no list of experiment {experiment.name!r} between {experiment.start:%Y-%m-%d} and "
            f"{experiment.end:%Y-%m-%d}; start `redraft serve` with --experiment, or wait until the hour is over"
        )
    events = _events(state, experiment)
    _check_events(state, events, experiment)
    return Log(experiment, lists, events)


def read_before(state: Path, experiment: Experiment, until: datetime) -> tuple[Log, int]:
    """All lists up to a time as if they were the control's of an experiment that begins with the first, and its days.

    Raises InputError if the journals hold less than a day, and as `read_log` for events.
    """
    lists = _scan(state / "exposures", EXPOSURES).filter(
        pl.col("user_id").is_not_null() & (pl.col("timestamp") < until)
    )
    first, last = lists.select(first=pl.col("timestamp").min(), last=pl.col("timestamp").max()).collect().row(0)
    days = 0 if first is None else round((last - first) / DAY)
    if days < 1:
        raise InputError(f"{state}: the journals hold less than a day of lists; plan when there is more")
    as_if = replace(experiment, start=last - days * DAY + timedelta(microseconds=1), days=days)
    lists = lists.with_columns(arm=pl.lit(experiment.control), layout=pl.lit("")).unique("request_id")
    events = _events(state, as_if)
    _check_events(state, events, as_if)
    return Log(as_if, _within(lists, as_if), events), days


def _within(lists: pl.LazyFrame, experiment: Experiment) -> pl.LazyFrame:
    inside = pl.col("timestamp").is_between(experiment.start, experiment.end, closed="left")
    return lists.filter(inside).with_columns(day=_day(experiment))


def _events(state: Path, experiment: Experiment) -> pl.LazyFrame:
    since = experiment.start - timedelta(days=experiment.before_days)
    events = _scan(state / "events", EVENTS).filter(
        pl.col("kind").is_in([CLICK, PURCHASE]) & pl.col("timestamp").is_between(since, experiment.end, closed="left")
    )
    events = events.unique(["user_id", "event_id"], keep="first", maintain_order=True).with_columns(
        day=_day(experiment)
    )
    return events.collect(engine="streaming").lazy()


def _scan(folder: Path, schema: Mapping[str, Any]) -> pl.LazyFrame:
    if not any(folder.glob("*.parquet")):
        raise InputError(
            f"{folder}: holds no journal; give the --state folder of `redraft serve`, an hour after its start"
        )
    return pl.scan_parquet(
        folder / "*.parquet", schema=pl.Schema(schema), missing_columns="insert", extra_columns="ignore"
    )


def _day(experiment: Experiment) -> pl.Expr:
    since = pl.col("timestamp") - pl.lit(experiment.start).cast(pl.Datetime("us", "UTC"))
    return (since.dt.total_microseconds() // (24 * 3600 * 1_000_000)).cast(pl.Int16)


def _check_events(state: Path, events: pl.LazyFrame, experiment: Experiment) -> None:
    checks = events.filter(pl.col("day") >= 0).select(
        clicks=(pl.col("kind") == CLICK).sum(),
        valued=((pl.col("kind") == PURCHASE) & pl.col("value").is_not_null()).sum(),
    )
    counts = checks.collect().row(0, named=True)
    for metric in experiment.metrics:
        what = "click" if KINDS[metric] == CLICK else "purchase with a value"
        if not counts["clicks" if KINDS[metric] == CLICK else "valued"]:
            raise InputError(
                f"{state}: no {what} since the start of {experiment.name!r}, so {metric} cannot be measured; "
                f"send such events to /v1/events, or leave the metric out"
            )
    wrong = events.filter(pl.col("value") < 0).head(1).collect()
    if wrong.height:
        row = wrong.row(0, named=True)
        raise InputError(
            f"{state}: event {row['event_id']!r} of user {row['user_id']!r} has the value {row['value']:g}; "
            "revenue cannot be negative: correct it, and leave refunds out"
        )
