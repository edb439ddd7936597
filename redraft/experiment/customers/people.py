"""Customers of the generated shop: they come, look at a list, click and buy by their own tastes.

A customer comes at most once a day, with a probability of their own. A visit is a session of the shop's process: the
taste may drift, the interest is drawn from it. The appeal of an item is log(N p), with p the process's probability of
the item in this session; its cost to a customer is their thrift x log(price / median price).

- An item at position j (from 1) is looked at with probability j^-`attention`.
- One that is looked at is clicked with logistic probability `click` + `taste` x appeal - cost - `boredom` x how often
  it was shown to the customer before.
- One that is clicked is bought with logistic probability `buy` + `taste` x appeal / 2 - cost.

Further shape letters: S tastes, G interests, F leaf categories, n visits of a day.
"""

from dataclasses import dataclass

import numpy as np

from redraft.data.shop_process import Oracle, ShopProcess
from redraft.records import FloatArray, IntArray, Interactions

__all__ = ["Answers", "Behaviour", "Customers", "Visits", "draw_prices"]

TINY = 1e-9


@dataclass(frozen=True)
class Behaviour:
    """How customers answer; see above. visits: mean probability of a visit on a day."""

    visits: float = 0.25
    attention: float = 0.6
    click: float = -1.6
    buy: float = -1.4
    taste: float = 0.5
    boredom: float = 0.7


@dataclass(frozen=True)
class Visits:
    """users: int64 [n], ascending in time. seconds: float64 [n], since the start of the day."""

    users: IntArray
    seconds: FloatArray


@dataclass(frozen=True)
class Answers:
    """bool [n, k] each, what was clicked and what was bought; and float64 [n, k], how probable that was."""

    clicked: FloatArray
    bought: FloatArray
    p_click: FloatArray
    p_buy: FloatArray


def draw_prices(n_items: int, seed: int) -> FloatArray:
    """float64 [N], prices in whole cents, log-normal around 20."""
    draws = np.random.default_rng([seed, 2]).lognormal(np.log(20), 0.6, n_items)
    return np.round(draws, 2)


class Customers:
    """U customers and what they are in the mood for.

    Two crowds of equal seeds draw equal numbers on equal days, whatever lists they see: so arms can be compared on
    the same customers.
    """

    def __init__(
        self, process: ShopProcess, histories: Interactions, prices: FloatArray, seed: int, behaviour: Behaviour
    ):
        self.process, self.prices, self.behaviour, self._seed = process, prices, behaviour, seed
        rng = np.random.default_rng([seed, 0])
        U, N, S = histories.n_users, len(process.leaf), len(process.tastes)
        beliefs = Oracle(process).posterior(histories).sum(axis=2)
        self.taste = _draw(beliefs, rng.random(U))
        self.interest = np.zeros(U, dtype=np.int64)
        self.last = np.where(histories.lengths > 0, histories.items[histories.offsets[1:] - 1], -1).astype(np.int64)
        self.rate = rng.beta(2.0, 2.0 / behaviour.visits - 2.0, U)
        self.thrift = rng.lognormal(-0.5, 0.5, U)
        self.shown = np.zeros((U, N), dtype=np.uint8)
        self.dear = np.log(prices / np.median(prices))
        assert len(process.interests) == S

    def come(self, day: int) -> Visits:
        """Who comes on a day, after their moods have changed."""
        p, U = self.process, len(self.taste)
        rng = np.random.default_rng([self._seed, 1, day + 1_000])
        draws = rng.random((5, U))
        users = np.flatnonzero(draws[0] < self.rate)
        drifts = users[draws[1, users] < p.drift]
        self.taste[drifts] = _draw(np.tile(p.tastes, (len(drifts), 1)), draws[2, drifts])
        self.interest[users] = _draw(p.interests[self.taste[users]], draws[3, users])
        seconds = draws[4, users] * 24 * 3600
        order = np.argsort(seconds, kind="stable")
        return Visits(users[order], seconds[order])

    def appeal(self, users: IntArray, items: IntArray) -> FloatArray:
        """float64 [n, k], log(N p) of items [n, k] to customers [n] in the mood they are in."""
        p = self.process
        leaf = p.leaf[items]
        of_interest = p.leaves[self.interest[users][:, None], leaf]
        follows = self.last[users] >= 0
        after = p.leaves_after[p.leaf[self.last[users]][:, None], leaf]
        mixed = np.where(follows[:, None], (1 - p.goes_with) * of_interest + p.goes_with * after, of_interest)
        return np.asarray(np.log(np.maximum(mixed * p.items[self.taste[users][:, None], items], TINY) * len(p.leaf)))

    def chances(self, users: IntArray, lists: IntArray) -> tuple[FloatArray, FloatArray]:
        """float64 [n, k] each: how probably items of lists are clicked, and bought if they are."""
        b, items = self.behaviour, np.maximum(lists, 0)
        appeal = self.appeal(users, items)
        cost = self.thrift[users][:, None] * self.dear[items]
        bored = b.boredom * self.shown[users[:, None], items]
        looks = np.arange(1, lists.shape[1] + 1) ** -b.attention
        p_click = (lists >= 0) * looks * _logistic(b.click + b.taste * appeal - cost - bored)
        return p_click, _logistic(b.buy + b.taste * appeal / 2 - cost)

    def answer(self, day: int, visits: Visits, lists: IntArray) -> Answers:
        """What the visitors of a day do with lists int64 [n, k], -1 where a list is short; they remember them."""
        k = lists.shape[1]
        rng = np.random.default_rng([self._seed, 2, day + 1_000])
        draws = rng.random((2, len(self.taste), k))[:, visits.users]
        real, items = lists >= 0, np.maximum(lists, 0)
        p_click, p_buy = self.chances(visits.users, lists)
        clicked = draws[0] < p_click
        bought = clicked & (draws[1] < p_buy)
        np.add.at(self.shown, (np.repeat(visits.users, k)[real.ravel()], items[real]), 1)
        some = bought.any(axis=1)
        self.last[visits.users[some]] = items[some, bought[some].argmax(axis=1)]
        return Answers(clicked, bought, p_click, p_buy)


def _draw(weights: FloatArray, draws: FloatArray) -> IntArray:
    """A column of each row of weights [n, m], by draws [n] from 0 to 1."""
    sums = np.cumsum(weights, axis=1)
    return np.minimum((sums < (draws * sums[:, -1])[:, None]).sum(axis=1), weights.shape[1] - 1)


def _logistic(x: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-x)))
