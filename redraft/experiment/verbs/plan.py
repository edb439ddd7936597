"""`redraft experiment plan`: who would be where, and how long it must run."""

from datetime import UTC, datetime
from math import sqrt

import numpy as np

from redraft.bench.columns import Column, terminal_table
from redraft.experiment.analysis.compare import needed
from redraft.experiment.analysis.conclude import NAMES
from redraft.experiment.analysis.log import read_before
from redraft.experiment.analysis.outcomes import moments, outcomes_of
from redraft.experiment.traffic.assignment import BUCKETS
from redraft.experiment.traffic.design import Experiment
from redraft.experiment.traffic.reading import check_runs, read_design
from redraft.experiment.verbs.verb import PlanConfig
from redraft.terminal import next_command, plain_console

__all__ = ["durations", "main"]

ARMS = [
    Column("arm", "arm"),
    Column("run", "run"),
    Column("share", "share", ".1%"),
    Column("buckets", "first", "{first} to {last}"),
]
DAYS = [Column("days", "days"), Column("users of both arms", "users", ",")]


def main(config: PlanConfig) -> None:
    """Print the arms of each experiment, and what its length would show."""
    design, console = read_design(config.file), plain_console()
    check_runs(design)
    for experiment in design.experiments:
        console.print(terminal_table(_arms(experiment), ARMS, f"{experiment.name}, layer {experiment.layer.name}"))
        if config.state is not None and experiment.kind == "ab":
            rows, wanted = durations(config, experiment)
            effects = [Column(f"{NAMES[metric]}, least effect", metric, ".2%") for metric in experiment.metrics]
            console.print(terminal_table(rows, DAYS + effects, "what a length shows, with a power of 80 %"))
            for name, users in wanted.items():
                console.print(f"{name}: {users:,} users of both arms together show {config.effect:.1%}")
    console.print(next_command("serve", "RUN", "--experiment", config.file))


def durations(config: PlanConfig, experiment: Experiment) -> tuple[list[dict[str, object]], dict[str, int]]:
    """For each length so far as journals reach: the users, and the least effect of each metric; and users by metric.

    As if all users of the time before were those of one arm, of whom a control and its least arm get their shares.
    """
    assert config.state is not None
    log, days = read_before(config.state, experiment, datetime.now(UTC))
    outcomes = outcomes_of(log, days)
    control = experiment.arm(experiment.control).share
    other = min(arm.share for arm in experiment.arms if arm.name != experiment.control)
    rows: list[dict[str, object]] = []
    wanted: dict[str, int] = {}
    for day, totals, here in outcomes.cumulated(days):
        everyone = moments(totals, outcomes.arm, outcomes.arms, here)[experiment.control]
        users = everyone.count * (control + other)
        row: dict[str, object] = {"days": day + 1, "users": round(users)}
        if everyone.count > 1 and users and control:
            for each in needed(everyone, experiment.metrics, config.effect, other / control):
                row[each.metric] = each.smallest * sqrt(everyone.count / users) if np.isfinite(each.smallest) else None
                wanted[NAMES[each.metric]] = each.users
        rows.append(row)
    return rows, wanted


def _arms(experiment: Experiment) -> list[dict[str, object]]:
    runs = {arm.name: arm.run or "the service's own" for arm in experiment.arms}
    return [
        {
            "arm": name,
            "run": runs.get(name, ", ".join(runs.values())),
            "share": lane.used / BUCKETS,
            "first": lane.first,
            "last": lane.end - 1,
        }
        for name, lane in experiment.lanes.items()
    ]
