"""`redraft explain`: how recommendations were written: code by code, or draft by draft."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from redraft.decode.correction import Correction
from redraft.decode.engine import Plan
from redraft.decode.explain import Explanation
from redraft.evidence.recommender import ReflectingRecommender, Verdict
from redraft.options import fitted
from redraft.recommender import GenerativeRecommender, SelfCorrectingRecommender, check_used
from redraft.records import Catalogue, InputError, Trajectory
from redraft.runs import load
from redraft.serve.recommend import one_history, what_scores_are
from redraft.terminal import plain_console

__all__ = ["ExplainConfig", "codes_table", "evidence_table", "main", "trajectory_tables"]

SHOWN = 3


@dataclass(frozen=True)
class ExplainConfig:
    """Show the codes of each recommendation: how sure the model was, and how many items each code left."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    history: tuple[str, ...] = ()
    """Item ids, oldest first."""
    data: Path | None = None
    """Take the history of a user of this data set instead."""
    user: str | None = None
    """A user id of the data set."""
    k: int = 5
    """How many recommendations to explain."""
    beams: int | None = None
    """Beam budget [50, or all items of a smaller catalogue]."""
    keep_seen: bool = False
    """Allow items of the history itself."""
    correction: Correction = field(default_factory=Correction)
    """For runs that correct themselves."""
    device: str = "cpu"
    """Where to compute: cpu, cuda."""


def main(config: ExplainConfig) -> None:
    """Print one row per recommendation, one cell per code; or drafts, doubts and corrections."""
    model = load(config.run, beams=config.beams, device=config.device, correction=config.correction)
    if isinstance(model, GenerativeRecommender):
        check_used({config.run: model}, config.correction)
    config = fitted(config, model.catalogue.n_items, "k")
    history = one_history(model, config.run, config.history, config.data, config.user)
    request: tuple[list[int], int] = history.history(0).tolist(), config.k
    console, catalogue, filter_seen = plain_console(), model.catalogue, not config.keep_seen
    if isinstance(model, ReflectingRecommender):
        times = None if history.times is None else history.times.tolist()
        console.print(evidence_table(model.explain(*request, times=times, filter_seen=filter_seen), catalogue))
        return
    if not isinstance(model, GenerativeRecommender):
        raise InputError(
            f"{config.run}: a run of a baseline, which writes no semantic IDs; give a run of a generative recipe"
        )
    plan = model.plan(config.k)
    if isinstance(model, SelfCorrectingRecommender):
        for table in trajectory_tables(model.trajectory(*request, filter_seen=filter_seen), catalogue, plan):
            console.print(table)
    else:
        written = model.explain(*request, filter_seen=filter_seen)
        console.print(codes_table(written, catalogue, plan, model.ids.n_levels))


def evidence_table(verdict: Verdict, catalogue: Catalogue) -> Table:
    """The list in its final order: where each item stood among the drafts, what spoke for and against it, the doubts.

    Evidence is shown by how much the score, a log-probability, would change if that kind said nothing unusual.
    """
    columns = ["item", "was draft", "evidence", "doubts", "p(right)"]
    caption = f"evidence: what it adds to log p(right); none of the drafts is right: {verdict.none:.1%}"
    table = Table(*columns, title="the list, and what speaks for and against it", caption=caption, show_lines=True)
    for judged in verdict.items:
        level = int(judged.location[:-1].argmax())
        doubts = [f"code {level + 1} wrong {float(judged.location[level]):.0%}"]
        doubts += [f"{name} wrong {1 - right:.0%}" for name, right in judged.match.items()]
        added = [f"{kind} {each:+.2f}" for kind, each in judged.evidence.items()]
        right = f"{math.exp(judged.log_prob):.2%}"
        was = "correction" if judged.corrected else str(judged.draft + 1)
        table.add_row(_name(catalogue, judged.item), was, "\n".join(added), "\n".join(doubts), right)
    return table


def codes_table(explanations: Sequence[Explanation], catalogue: Catalogue, plan: Plan, n_levels: int) -> Table:
    """How each item was written: a code, its probability, and how many items still fit; and what its judge added."""
    levels = [f"code {level}" for level in range(1, n_levels + 1)]
    columns = ["item", *levels, "p(item)", *([plan.judge, "score"] if plan.trust else [])]
    caption = what_scores_are(plan) if plan.trust else None
    title = "code, its probability -> items that still fit"
    table = Table(*columns, title=title, caption=caption, show_lines=True)
    for written in explanations:
        cells = [f"{step.code}, {step.probability:.0%} -> {step.items_left:,}" for step in written.steps]
        cells.append(f"{math.exp(written.log_prob):.2%}")
        if plan.trust:
            cells += [f"{written.verifier:+.2f}", f"{written.log_prob + written.verifier:.2f}"]
        table.add_row(_name(catalogue, written.item), *cells)
    return table


def trajectory_tables(trajectory: Trajectory, catalogue: Catalogue, plan: Plan) -> list[Table]:
    """The first drafts, one for each item of the list, with what the model doubts and writes instead, and the list."""
    drafts = Table(
        "draft", "p", "doubts", "corrected to", title="drafts, and what the model thinks of them", show_lines=True
    )
    for row, item in enumerate(trajectory.drafts[: plan.k].tolist()):
        drafts.add_row(
            _name(catalogue, item),
            f"{math.exp(trajectory.draft_log_probs[row]):.2%}",
            _doubts(trajectory, row),
            "\n".join(_name(catalogue, new) for new in _corrected_to(trajectory, row)) or "-",
        )
    outcome = Table("rank", "item", "was draft", "score", title="the list", caption=what_scores_are(plan))
    numbers = {item: number for number, item in enumerate(trajectory.drafts.tolist(), start=1)}
    for rank, (item, score) in enumerate(zip(trajectory.items.tolist(), trajectory.scores), start=1):
        if item >= 0:
            outcome.add_row(str(rank), _name(catalogue, item), str(numbers.get(item, "new")), f"{score:.2f}")
    return [drafts, outcome]


def _doubts(trajectory: Trajectory, row: int) -> str:
    return "\n".join(trajectory.sayings(row)) if trajectory.slots else "(does not reflect)"


def _corrected_to(trajectory: Trajectory, row: int) -> list[int]:
    """The best corrections of one draft."""
    mine = trajectory.corrections[trajectory.origins == row]
    return [int(item) for item in mine[:SHOWN]] if trajectory.corrected[row] else []


def _name(catalogue: Catalogue, item: int) -> str:
    return f"{catalogue.ids[item]} {catalogue.describe(item)}"
