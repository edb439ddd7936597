"""What each method that corrects itself gains by correcting more drafts, on a sample of the test users."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from redraft.bench.tables.correct import observe
from redraft.bench.tables.runs import Seen, latency, ranks, test_users
from redraft.data.split import sample_users
from redraft.eval.metrics import KS
from redraft.files import read_json, write_json
from redraft.methods.registry import find_method
from redraft.methods.task import Task
from redraft.recommender import SelfCorrectingRecommender
from redraft.records import Holdout, IntArray

__all__ = ["BUDGETS", "Budget", "Sample", "draw_sample", "measure_budgets"]

BUDGETS = (0, 10, 25, 50, 100, 200)


@dataclass(frozen=True)
class Sample:
    """Test users drawn by seed. rows: int64 [S], their rows among all that were measured. questions: of these users."""

    rows: IntArray
    questions: Holdout


@dataclass(frozen=True)
class Budget:
    """Lists made with one correction budget, None for a method that does not correct itself.

    ranks: int64 [S] of the targets. latency: median milliseconds for one user.
    """

    budget: int | None
    ranks: IntArray
    latency: float


def draw_sample(task: Task, measured_users: int | None, n_users: int) -> Sample:
    """So many of the users that a run was measured on, drawn by seed 0."""
    measured = test_users(task, measured_users)
    numbered = Holdout(measured.histories, np.arange(len(measured.targets)))
    return Sample(sample_users(numbered, n_users, 0).targets, sample_users(measured, n_users, 0))


def measure_budgets(task: Task, about: dict[str, Any], sample: Sample, cache: Path) -> list[Budget]:
    """Every budget of BUDGETS and the method's own, as far as there are drafts; one of None if it corrects nothing.

    about: the protocol and the hash of the weights, by which `cache` (JSON) knows what was measured before.
    """
    known = read_json(cache) if cache.exists() else {}
    about = about | {"sample": len(sample.rows)}
    if known.get(task.folder.name, {}).get("about") != about:
        rows = _measure(task, sample, about["seen"])
        known[task.folder.name] = {"about": about, "budgets": rows}
        write_json(cache, known)
    rows = known[task.folder.name]["budgets"]
    return [Budget(row["budget"], np.array(row["ranks"]), row["latency"]) for row in rows]


def _measure(task: Task, sample: Sample, seen: Seen) -> list[dict[str, Any]]:
    model, questions = find_method(task.name).load(task), sample.questions
    if not isinstance(model, SelfCorrectingRecommender):
        each = ranks(task, seen)[sample.rows]
        k = task.beams(max(KS))
        return [{"budget": None, "ranks": each.tolist(), "latency": latency(model, questions, k)}]
    budgets = sorted({*(min(budget, model.beams) for budget in BUDGETS), model.budget})
    corrections = [replace(model.correction, budget=budget) for budget in budgets if budget]
    observed = observe(model, questions, corrections, filter_seen=seen == "filtered")
    lists = [observed[0].ranks["drafts"], *(each.ranks[model.correction.policy] for each in observed)]
    return [
        {"budget": budget, "ranks": each.tolist(), "latency": _latency(model, budget, questions)}
        for budget, each in zip(budgets, lists, strict=True)
    ]


def _latency(model: SelfCorrectingRecommender, budget: int, questions: Holdout) -> float:
    made = SelfCorrectingRecommender(
        model.model,
        model.ids,
        model.catalogue,
        beams=model.beams,
        half=model.half,
        trust=model.trust,
        correction=replace(model.correction, budget=budget),
    )
    return latency(made, questions, min(max(KS), model.ids.n_items))
