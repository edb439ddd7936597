"""What `watch` and `report` begin with: one experiment of a file, its journals, and the time to look at."""

from datetime import UTC, datetime
from pathlib import Path

from redraft.experiment.analysis.conclude import Analysis, analyse
from redraft.experiment.analysis.log import read_log
from redraft.experiment.traffic.design import Design, Experiment
from redraft.experiment.traffic.reading import read_design
from redraft.experiment.traffic.record import check_record
from redraft.records import InputError

__all__ = ["analysis_of", "chosen", "moment"]


def chosen(path: Path, name: str | None) -> list[Experiment]:
    """The experiments of a file, or the one of a name. Raises InputError if there is none."""
    design: Design = read_design(path)
    if name is None:
        return list(design.experiments)
    experiment = design.named(name)
    if experiment is None:
        names = ", ".join(each.name for each in design.experiments)
        raise InputError(f"{path}: has no experiment {name!r}; there are {names}")
    return [experiment]


def moment(words: str | None) -> datetime:
    """The time that ISO 8601 says, or now. Raises InputError for other words, and without a zone."""
    if words is None:
        return datetime.now(UTC)
    try:
        when = datetime.fromisoformat(words)
    except ValueError:
        raise InputError(f"--now {words!r}: not ISO 8601; write such as 2026-01-12T00:00:00Z") from None
    if when.tzinfo is None:
        raise InputError(f"--now {words!r}: has no zone; add Z")
    return when


def analysis_of(experiment: Experiment, state: Path, now: datetime) -> Analysis:
    """The analysis of an experiment as it was registered by the service.

    Raises InputError if the file says something else now than when the experiment started, and as `read_log`.
    """
    record = state / "experiments.json"
    if record.exists():
        check_record(record, Design([experiment]), now)
    return analyse(read_log(state, experiment), now)
