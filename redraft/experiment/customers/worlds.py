"""Whole days of customers before a server: a fast one in the process, or the real one; and what an arm truly does."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from redraft.experiment.customers.people import Answers, Customers, Visits
from redraft.experiment.traffic.design import Metric
from redraft.records import FloatArray, IntArray, Interactions, Recommender

__all__ = ["ModelServer", "Serve", "Tell", "World", "by_taste", "live", "true_lifts"]

Serve = Callable[[int, Visits], IntArray]
"""From a day and its visits to lists int64 [n, k], -1 where a list is short."""
Tell = Callable[[int, Visits, IntArray, Answers], None]
"""What a day's visitors did with their lists."""


@dataclass(frozen=True)
class World:
    """What came of U customers on D days.

    daily: float64 [D, 5, U], lists, items shown, clicks, value of purchases, and that value again as revenue, as
    redraft.experiment.analysis.outcomes.TOTALS names them. expected: [3], clicks per item shown, value per list and
    per customer, by probabilities instead of draws.
    """

    daily: FloatArray
    expected: FloatArray


def live(customers: Customers, days: range, serve: Serve, tell: Tell | None = None) -> World:
    """Let customers come on some days, and see what happens."""
    daily = np.zeros((len(days), 5, len(customers.taste)))
    sums = np.zeros(4)
    for row, day in enumerate(days):
        visits = customers.come(day)
        lists = serve(day, visits)
        answers = customers.answer(day, visits, lists)
        shown, prices = lists >= 0, customers.prices[np.maximum(lists, 0)]
        value = (answers.bought * prices).sum(axis=1)
        parts = (shown.any(axis=1), shown.sum(axis=1), answers.clicked.sum(axis=1), value, value)
        daily[row, :, visits.users] = np.stack(parts, axis=1)
        foreseen = answers.p_click.sum(), (answers.p_click * answers.p_buy * prices).sum()
        sums += (parts[0].sum(), parts[1].sum(), *foreseen)
        if tell is not None:
            tell(day, visits, lists, answers)
    n_lists, n_items, clicks, value = sums
    return World(daily, np.array([clicks / n_items, value / n_lists, value / len(customers.taste)]))


def true_lifts(control: World, treatment: World) -> dict[Metric, float]:
    """What a treatment truly does to the customers of both worlds."""
    ctr, gmv, revenue = (treatment.expected / control.expected - 1).tolist()
    return {"ctr": ctr, "gmv": gmv, "revenue": revenue}


def by_taste(customers: Customers, k: int, noise: float, seed: int) -> Serve:
    """A server that knows the customers' moods, apart from noise; it is fast, for tests and for the time before."""
    everything = np.arange(len(customers.process.leaf))

    def serve(day: int, visits: Visits) -> IntArray:
        rng = np.random.default_rng([seed, day + 1_000])
        n, N = len(visits.users), len(everything)
        scores = customers.appeal(visits.users, np.broadcast_to(everything, (n, N)))
        scores = scores + noise * rng.normal(size=(n, N)) - customers.shown[visits.users]
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        return np.take_along_axis(best, order, axis=1)

    return serve


class ModelServer:
    """A server that asks a recommender for items after the histories, which grow by what is clicked and bought."""

    def __init__(self, model: Recommender, histories: Interactions, k: int):
        self._model, self._k = model, k
        self._histories = [histories.history(u).tolist() for u in range(histories.n_users)]

    def __call__(self, day: int, visits: Visits) -> IntArray:
        """Lists for the visits of a day."""
        asked = Interactions.from_lists([self._histories[user] for user in visits.users])
        return np.asarray(self._model.recommend(asked, self._k).items)

    def tell(self, day: int, visits: Visits, lists: IntArray, answers: Answers) -> None:
        """Remember what was clicked, then what was bought."""
        for user, shown, clicked, bought in zip(visits.users, lists, answers.clicked, answers.bought):
            self._histories[user] += [*shown[clicked].tolist(), *shown[bought].tolist()]
