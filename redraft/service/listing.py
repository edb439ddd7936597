"""From a request to its list: what it wants of a model, and how a batch of such is answered."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redraft.decode.explain import Explanation
from redraft.evidence.recommender import ReflectingRecommender, Verdict
from redraft.recommender import SelfCorrectingRecommender
from redraft.records import BoolArray, InputError, Interactions, Trajectory
from redraft.service.errors import invalid
from redraft.service.explaining import explanation_json
from redraft.service.keys import Caller
from redraft.service.metrics import Metrics
from redraft.service.people import Person
from redraft.service.schemas import Asked, Bounds
from redraft.service.served import Range, Served

__all__ = ["WARM", "Answer", "Listing", "Question", "Wanted", "histories", "make_lists", "question_of", "wanted_of"]

Answer = tuple[list[int], list[float], dict[str, Any] | None]
"""Items and scores, best first, and how they came about if that was asked."""


@dataclass(frozen=True)
class Question:
    """What requests of one batch have in common."""

    served: Served
    k: int
    filter_seen: bool
    explain: bool


@dataclass(frozen=True, eq=False)
class Wanted:
    """history: item numbers, oldest first. times: when each came, seconds, for a model that reads that."""

    history: list[int]
    times: list[int] | None
    allow: BoolArray | None


WARM = Wanted([0], [0], None)


@dataclass(frozen=True, eq=False)
class Listing:
    """One answered request. items, scores: best first. user: None if asked by history."""

    request_id: str
    served: Served
    question: Question
    wanted: Wanted
    user: str | None
    caller: Caller
    items: list[int]
    scores: list[float]
    explanation: dict[str, Any] | None


def question_of(asked: Asked, served: Served) -> Question:
    """Raises ApiError 422 for more items than there are."""
    if asked.k > served.n_items:
        message = f"k = {asked.k} exceeds the catalogue of {served.n_items} items; ask for fewer"
        raise invalid("k_too_large", message)
    return Question(served, asked.k, asked.filter_seen, asked.explain)


def wanted_of(asked: Asked, served: Served, person: Person | None) -> Wanted:
    """person: who is asked for; None if asked by history.

    Raises ApiError 422 for items and filters that nobody knows, and if the model reads times and nobody has them.
    """
    if person is None:
        history, times = [served.number(item, "history") for item in asked.history or ()], asked.times
    else:
        known = [(served.numbers.get(item), at) for at, item in enumerate(person.items)]
        history, times = [number for number, _ in known if number is not None], person.times
        times = None if times is None else [times[at] for number, at in known if number is not None]
    if served.uses_time and times is None and history:
        raise invalid("times_needed", "this model reads when things happened; give times, one per item of history")
    filters = {name: _range(given) for name, given in asked.filters.items()}
    allow = served.allowed(asked.allow, asked.exclude, filters, history if asked.filter_seen else ())
    return Wanted(history, (times or []) if served.uses_time else None, allow)


def make_lists(question: Question, wanted: Sequence[Wanted], metrics: Metrics) -> list[Answer]:
    """The answers of one batch, by the model that its question names."""
    recommender = question.served.recommender
    started = time.thread_time()
    lists = recommender.recommend(
        histories(wanted),
        question.k,
        filter_seen=question.filter_seen,
        allow=_together([one.allow for one in wanted], recommender.ids.n_items),
    )
    metrics.processor.inc(time.thread_time() - started)
    answers: list[Answer] = []
    for row, one in enumerate(wanted):
        real = lists.items[row] >= 0
        explanation = _explained(question, one) if question.explain else None
        answers.append((lists.items[row][real].tolist(), lists.scores[row][real].tolist(), explanation))
    return answers


def histories(wanted: Sequence[Wanted]) -> Interactions:
    """Histories of one batch, with times if all have them."""
    times = [one.times for one in wanted if one.times is not None]
    return Interactions.from_lists([one.history for one in wanted], times if len(times) == len(wanted) else None)


def _explained(question: Question, wanted: Wanted) -> dict[str, Any]:
    model, request = question.served.recommender, (wanted.history, question.k)
    allow = None if wanted.allow is None else wanted.allow[None]
    how: dict[str, Any] = {"filter_seen": question.filter_seen, "allow": allow}
    explained: Trajectory | Sequence[Explanation] | Verdict
    try:
        if isinstance(model, ReflectingRecommender):
            explained = model.explain(*request, times=wanted.times, **how)
        elif isinstance(model, SelfCorrectingRecommender):
            explained = model.trajectory(*request, **how)
        else:
            explained = model.explain(*request, **how)
    except InputError as error:
        raise invalid("not_explainable", str(error)) from None
    return explanation_json(question.served, explained)


def _together(masks: Sequence[BoolArray | None], n_items: int) -> BoolArray | None:
    """bool [U, N] of masks [N], None among which allow everything; None if all are."""
    if all(mask is None for mask in masks):
        return None
    everything = np.ones(n_items, dtype=bool)
    return np.stack([everything if mask is None else mask for mask in masks])


def _range(given: list[str] | Bounds) -> list[str] | Range:
    return Range(given.min, given.max) if isinstance(given, Bounds) else given
