"""The page of an experiment whose lists were mixed: interleaved, or drawn at random."""

from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

from redraft.bench.columns import Column
from redraft.bench.report.page import Note, Section
from redraft.experiment.analysis.compare import ALPHA
from redraft.experiment.analysis.log import DAY, Log, read_log
from redraft.experiment.analysis.mixed import answered, off_policy, preference, slates_of
from redraft.experiment.traffic.design import Experiment
from redraft.experiment.verbs.page import table
from redraft.records import InputError

__all__ = ["mixed_part"]


def mixed_part(experiment: Experiment, state: Path, now: datetime) -> Section:
    """What interleaved or random lists say of the arms up to a time.

    Raises InputError before the end of the first day, and as the readers of lists do.
    """
    days = min(experiment.days, (now - experiment.start) // DAY)
    if days < 1:
        raise InputError(f"experiment {experiment.name!r}: its first day is not over; wait until then")
    log = read_log(state, replace(experiment, metrics=("ctr",)))
    if experiment.kind == "interleaving":
        return _interleaved(log, experiment, days)
    return _random(log, experiment, days)


def _interleaved(log: Log, experiment: Experiment, days: int) -> Section:
    one, other = (arm.name for arm in experiment.arms)
    preferred = preference(answered(log, days), (one, other))
    better = other if preferred.share > 0.5 else one
    sentence = f"Neither arm's items are clicked more, as far as {preferred.lists:,} lists can tell."
    if preferred.p < ALPHA:
        share = max(preferred.share, 1 - preferred.share)
        sentence = f"Of the clicks in lists of both arms, {share:.1%} are on items of {better} (p {preferred.p:.2g})."
    rows = [asdict(preferred) | {"one": preferred.clicks[0], "other": preferred.clicks[1]}]
    columns = [
        Column("lists", "lists", ",d"),
        Column(f"clicks of {one}", "one", ",d"),
        Column(f"clicks of {other}", "other", ",d"),
        Column(f"share of {other}", "share", ".1%"),
        Column("95 % interval", "low", "{low:.1%} to {high:.1%}"),
        Column("p of one half", "p", ".3g"),
    ]
    note = (
        "Team draft: the arms pick items in turns. It says which arm is preferred, not by how much a metric would move."
    )
    return Section("Interleaved lists", sentence, [table(rows, columns), Note(note)])


def _random(log: Log, experiment: Experiment, days: int) -> Section:
    slates, wanted = slates_of(answered(log, days))
    estimates = [each for arm, lists in zip(experiment.arms, wanted) for each in off_policy(slates, lists, arm.name)]
    columns = [
        Column("arm", "arm"),
        Column("method", "method"),
        Column("clicks per list", "value", ".3f"),
        Column("95 % interval", "low", "{low:.3f} to {high:.3f}"),
    ]
    sentence = f"What each arm's lists would have got, by {len(slates.users):,} lists that were drawn at random."
    note = (
        "IPS: inverse propensities. SNIPS: normalised at each position. DR: doubly robust. All take a click to depend "
        "on the item and its position alone."
    )
    return Section("Random lists", sentence, [table([asdict(each) for each in estimates], columns), Note(note)])
