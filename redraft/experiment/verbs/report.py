"""`redraft experiment report`: the page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from redraft.bench.report.page import Section, render
from redraft.experiment.analysis.conclude import Analysis, sentence_of
from redraft.experiment.traffic.design import MIXED, Experiment
from redraft.experiment.verbs.looking import analysis_of, chosen, moment
from redraft.experiment.verbs.mixed import mixed_part
from redraft.experiment.verbs.page import parts_of
from redraft.experiment.verbs.verb import ReportConfig
from redraft.files import atomic_file
from redraft.folders import Kind, check_file
from redraft.terminal import plain_console

__all__ = ["PAGE", "main", "write_page"]

MADE = "Made by `redraft experiment report`"
PAGE = Kind("an experiment's report", lambda path: MADE in path.read_text(encoding="utf-8"))


def main(config: ReportConfig) -> None:
    """Analyse and draw."""
    check_file(config.out, PAGE, replace=config.replace)
    experiment = chosen(config.file, config.name)[0]
    now, console = moment(config.now), plain_console()
    if experiment.kind in MIXED:
        section = mixed_part(experiment, config.state, now)
        _write(experiment, [section], (experiment.kind,), config.out)
        console.print(section.sentence)
    else:
        analysis = analysis_of(experiment, config.state, now)
        write_page(analysis, config.out)
        console.print(sentence_of(analysis))
    console.print(f"wrote {config.out}")


def write_page(analysis: Analysis, out: Path, truth: Mapping[str, Mapping[str, float]] | None = None) -> None:
    """Write the page of an analysis. truth: true lifts by arm and metric."""
    users = (f"{name}: {count:,} users" for name, count in analysis.users.items())
    facts = (f"day {analysis.days} of {analysis.experiment.days}", *users, f"control: {analysis.experiment.control}")
    _write(analysis.experiment, parts_of(analysis, truth), facts, out)


def _write(experiment: Experiment, sections: Sequence[Section], facts: Sequence[str], out: Path) -> None:
    dates = f"{experiment.start:%Y-%m-%d} to {experiment.end:%Y-%m-%d}"
    footer = f"Layout {experiment.layout}. {MADE}."
    text = render(experiment.name, [dates, *facts], sections, footer)
    with atomic_file(out) as partial:
        partial.write_text(text, encoding="utf-8")
