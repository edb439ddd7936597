"""The verbs of `redraft experiment`: their flags; what they do is imported when they run."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import tyro

from redraft.options import check_counts
from redraft.records import InputError

__all__ = ["PlanConfig", "ReportConfig", "RunConfig", "WatchConfig", "plan", "report", "run", "watch"]


@dataclass(frozen=True)
class PlanConfig:
    """Say who would be in which arm, and how long an experiment must run to see an effect."""

    file: Annotated[Path, tyro.conf.Positional]
    """TOML file of experiments."""
    state: Path | None = None
    """Folder of `redraft serve` with journals of the time before, from which users and variances are read."""
    effect: float = 0.02
    """Relative effect that should be seen, with a power of 80 %."""


@dataclass(frozen=True)
class RunConfig:
    """Replay an experiment on customers of the generated shop, who answer to the lists of a real service.

    Without a file: the paper's section 6, TIGER against GRC on 15 % of the users each for ten days, everything trained
    first.
    """

    out: Annotated[Path, tyro.conf.Positional]
    """Folder to write: journals, report, what the arms truly do; and data and runs, without a file."""
    file: Path | None = None
    """TOML file of an experiment [section 6 of the paper]."""
    data: Path | None = None
    """The generated shop that its runs were trained on."""
    users: int = 3000
    """Customers of the shop, without a file."""
    items: int = 300
    """Items of the shop, without a file."""
    epochs: int = 12
    """Epochs of TIGER, without a file."""
    k: int = 10
    """Items per list."""
    seed: int = 0
    """Of the customers' moods and choices, and of all that is trained."""
    result: str | None = None
    """Also write estimates and true lifts to results/NAME.json."""


@dataclass(frozen=True)
class WatchConfig:
    """Say how an experiment stands: whether it may go on, and at its end what may be concluded."""

    file: Annotated[Path, tyro.conf.Positional]
    """TOML file of experiments."""
    state: Path
    """Folder of `redraft serve`."""
    name: str | None = None
    """Which experiment of the file [all]."""
    now: str | None = None
    """Time to look at, ISO 8601 with a zone [now]."""


@dataclass(frozen=True)
class ReportConfig:
    """Draw an experiment on one page: lifts by day, guardrails, sample ratio, segments, and what may be said."""

    file: Annotated[Path, tyro.conf.Positional]
    """TOML file of experiments."""
    state: Path
    """Folder of `redraft serve`."""
    out: Path
    """File to write."""
    name: str | None = None
    """Which experiment of the file [the first]."""
    now: str | None = None
    """Time to look at, ISO 8601 with a zone [now]."""
    replace: bool = False
    """Lose the report that is there."""


def plan(config: PlanConfig) -> None:
    """Print shares, buckets and durations."""
    if not 0 < config.effect < 1:
        raise InputError(f"effect is {config.effect}; it must be within 0 and 1, such as 0.02")
    _module("plan").main(config)


def run(config: RunConfig) -> None:
    """Train what is missing, serve, let customers come, and report."""
    check_counts(config)
    if (config.file is None) != (config.data is None):
        raise InputError("give --file and --data together, or neither to replay the paper's section 6")
    _module("run").main(config)


def watch(config: WatchConfig) -> None:
    """Print lifts and the verdict."""
    _module("watch").main(config)


def report(config: ReportConfig) -> None:
    """Write the page."""
    _module("report").main(config)


def _module(name: str) -> Any:
    try:
        return import_module(f"redraft.experiment.verbs.{name}")
    except ModuleNotFoundError as error:
        raise InputError(
            f"experiments need {error.name}, which is not installed; run: pip install 'redraft[experiment,serve]'"
        ) from None
