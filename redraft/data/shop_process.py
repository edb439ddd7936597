"""The generated shop's customers: a hidden Markov process over tastes and interests, and the oracle that knows it.

A user has a taste (which interests, which brands) and visits the shop in sessions; each session has one interest.

- At the first event, and with probability `new_session` at every later one, a session starts: with probability
  `drift` the taste is drawn anew, then the interest is drawn from the taste.
- The leaf category of the item is drawn from the interest; or, within a session and with probability `goes_with`, it
  goes with the leaf of the last item. The item is drawn from the items of its leaf, by popularity and taste in brands.
- Nobody gets the same item twice: leaf and item are drawn together, on condition that the user has not seen the item.

Given taste, interest, session start and history, an item's probability is a known mixture over the mass of the unseen
items, so forward filtering over (taste, interest) is exact, and so is the distribution of the next item.
Further shape letters here: S tastes, G interests, F leaf categories.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from redraft.folders import ORACLE, new_folder
from redraft.records import BoolArray, FloatArray, InputError, IntArray, Interactions, Recommendations

__all__ = ["SESSION_GAP", "Oracle", "ShopProcess", "draw_process", "simulate"]

SESSION_GAP = 6 * 3600
"""Seconds; events at least this far apart belong to different sessions."""

FIRST_DAY = 1_704_067_200  # 2024-01-01
DAY = 24 * 3600
CELLS = 1 << 23  # of a [U, N] or [U, S, F] array
TINY = 1e-12  # keeps histories that hold the whole catalogue finite


@dataclass(frozen=True)
class ShopProcess:
    """The true parameters; every row of a table is a distribution, a row of `items` one for each leaf.

    leaf: int64 [N], ascending. tastes: float64 [S], P(taste). interests: [S, G], P(interest | taste).
    leaves: [G, F], P(leaf | interest). leaves_after: [F, F], P(leaf | leaf of the last item it goes with).
    items: [S, N], P(item | its leaf, taste).
    """

    leaf: IntArray
    tastes: FloatArray
    interests: FloatArray
    leaves: FloatArray
    leaves_after: FloatArray
    items: FloatArray
    new_session: float = 0.25
    drift: float = 0.1
    goes_with: float = 0.6


def draw_process(
    leaf: IntArray, brand: IntArray, interest_of_leaf: IntArray, rng: np.random.Generator, *, n_tastes: int = 10
) -> ShopProcess:
    """Draw the tables for a catalogue; every item has a positive probability under every taste and interest.

    leaf: int64 [N] ascending, each leaf present. brand: int64 [N]. interest_of_leaf: int64 [F] ascending.
    """
    G, M = int(interest_of_leaf.max()) + 1, int(brand.max()) + 1
    popularity = rng.lognormal(sigma=0.6, size=len(leaf))
    leaf_weight = rng.lognormal(sigma=0.4, size=len(interest_of_leaf))
    interests = 0.95 * rng.dirichlet(np.full(G, 0.3), size=n_tastes) + 0.05 / G
    of_interest = interest_of_leaf == np.arange(G)[:, None]
    leaves = 0.92 * _normalised(leaf_weight * of_interest) + 0.08 * _normalised(leaf_weight)
    affinity = rng.lognormal(sigma=1.5, size=(n_tastes, M))
    first = np.flatnonzero(np.diff(leaf, prepend=-1))
    weights = popularity * affinity[:, brand]
    return ShopProcess(
        leaf=leaf,
        tastes=rng.dirichlet(np.full(n_tastes, 4.0)),
        interests=interests,
        leaves=leaves,
        leaves_after=_leaves_after(interest_of_leaf, rng),
        items=weights / np.add.reduceat(weights, first, axis=1)[:, leaf],
    )


def _leaves_after(interest_of_leaf: IntArray, rng: np.random.Generator) -> FloatArray:
    """A leaf is followed by the next of its interest (a ring), by a partner elsewhere, by its siblings or itself."""
    F = len(interest_of_leaf)
    siblings = interest_of_leaf[:, None] == interest_of_leaf
    after = 0.1 * np.eye(F) + 0.1 * _normalised(siblings)
    for f in range(F):
        ring = np.flatnonzero(siblings[f])
        after[f, ring[(np.searchsorted(ring, f) + 1) % len(ring)]] += 0.5
        after[f, rng.choice(np.flatnonzero(~siblings[f]))] += 0.3
    return after


def _normalised(weights: FloatArray | BoolArray) -> FloatArray:
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def simulate(process: ShopProcess, lengths: IntArray, rng: np.random.Generator) -> Interactions:
    """Events of U users with the given int64 [U] numbers of events, with times; one step for all users at once."""
    p, U, T, F = process, len(lengths), int(lengths.max()), len(process.leaves_after)
    tastes, interests, leaves, leaves_after, items_of = (
        np.cumsum(table) for table in (p.tastes, p.interests, p.leaves, p.leaves_after, p.items)
    )
    items, gaps = np.full((U, T), -1), np.zeros((U, T))
    taste, interest = np.zeros(U, dtype=np.int64), np.zeros(U, dtype=np.int64)
    for t in range(T):
        start = (rng.random(U) < p.new_session) | (t == 0)
        redrawn = start & ((rng.random(U) < p.drift) | (t == 0))
        taste[redrawn] = _draw(tastes, np.zeros(redrawn.sum(), dtype=np.int64), rng)
        interest[start] = _draw(interests, taste[start], rng) % p.interests.shape[1]
        gaps[:, t] = np.where(start, SESSION_GAP + rng.exponential(10 * DAY, U), rng.uniform(60, 1800, U))
        users = np.flatnonzero(lengths > t)
        while len(users):
            leaf = _draw(leaves, interest[users], rng) % F
            goes = ~start[users] & (rng.random(len(users)) < p.goes_with)
            leaf[goes] = _draw(leaves_after, p.leaf[items[users[goes], t - 1]], rng) % F
            item = _draw(items_of, taste[users] * F + leaf, rng) % len(p.leaf)
            seen = (items[users, :t] == item[:, None]).any(axis=1)
            items[users[~seen], t] = item[~seen]
            users = users[seen]
    times = (FIRST_DAY + rng.uniform(0, 365 * DAY, (U, 1)) + np.cumsum(gaps, axis=1)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Interactions(items[items >= 0].astype(np.int32), offsets, times[items >= 0])


def _draw(cumulated: FloatArray, row: IntArray, rng: np.random.Generator) -> IntArray:
    """A place in a table for each row: its distributions, laid end to end, have mass 1 each, row r from r to r + 1."""
    places = np.searchsorted(cumulated, row + rng.random(len(row)), side="right")
    return np.minimum(places, len(cumulated) - 1)


class Oracle:
    """The recommender that knows the process: it ranks by the true P(next item | history); no other can expect more.

    Where the histories have times, it sees the session boundaries in them, else it sums over where they may be.
    """

    def __init__(self, process: ShopProcess) -> None:
        self.process = process

    def recommend(
        self, histories: Interactions, k: int, *, filter_seen: bool = True, allow: BoolArray | None = None
    ) -> Recommendations:
        """The k most probable next items of each history; scores are probabilities, 0 for items seen before.

        Raises InputError if k exceeds the catalogue, or if a history names an item that is not in it.
        """
        N = len(self.process.leaf)
        if k > N:
            raise InputError(f"k is {k} and the catalogue has {N} items; ask for at most {N}")
        items = np.empty((histories.n_users, k), dtype=np.int64)
        scores = np.empty((histories.n_users, k), dtype=np.float32)
        chunk = max(1, CELLS // max(N, len(self.process.tastes) * len(self.process.leaves_after)))
        for first in range(0, histories.n_users, chunk):
            users = slice(first, first + chunk)
            part = histories.take(users)
            p = self.predict(part)
            if allow is not None:
                p[~np.broadcast_to(allow if allow.ndim == 1 else allow[users], p.shape)] = -np.inf
            if filter_seen:
                p[np.repeat(np.arange(part.n_users), part.lengths), part.items] = -np.inf
            best = np.argpartition(-p, k - 1, axis=1)[:, :k]
            best = np.take_along_axis(best, np.argsort(-np.take_along_axis(p, best, axis=1), kind="stable"), axis=1)
            scores[users] = np.take_along_axis(p, best, axis=1)
            items[users] = np.where(np.isneginf(scores[users]), -1, best)
        return Recommendations(items, scores)

    def expected_recall(self, histories: Interactions, ks: Sequence[int]) -> dict[int, float]:
        """Recall@k that the oracle expects for the next items of U histories: the most that any recommender can expect.

        Raises InputError as `recommend` does.
        """
        scores = self.recommend(histories, max(ks), filter_seen=False).scores
        return {k: float(scores[:, :k].sum(axis=1, dtype=np.float64).mean()) for k in ks}

    def predict(self, histories: Interactions) -> FloatArray:
        """float64 [U, N], P(next item | history); each row sums to 1.

        Raises InputError if a history names an item that is not in the catalogue.
        """
        p, U, N = self.process, histories.n_users, len(self.process.leaf)
        histories.check_items(N)
        new, same, last = self._next_event(histories)
        leaves = (new + (1 - p.goes_with) * same) @ p.leaves
        leaves += p.goes_with * same.sum(axis=2, keepdims=True) * p.leaves_after[p.leaf[last], None]
        result = np.zeros((U, N))
        for s in range(len(p.tastes)):
            result += leaves[:, s, p.leaf] * p.items[s]
        result[np.repeat(np.arange(U), histories.lengths), histories.items] = 0
        return result

    def save(self, path: Path, *, replace: bool = False) -> None:
        """Write the process to a folder, whole or not at all; replace: in place of the oracle that is there."""
        with new_folder(path, ORACLE, replace=replace) as folder:
            np.savez(folder / "process.npz", **vars(self.process))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path / "process.npz") as arrays:
            fields: dict[str, Any] = {name: array if array.ndim else float(array) for name, array in arrays.items()}
        return cls(ShopProcess(**fields))

    def posterior(self, histories: Interactions) -> FloatArray:
        """float64 [U, S, G], P(taste, interest) at the last event, or before the first one."""
        return self._filtered(histories)[0]

    def _next_event(self, histories: Interactions) -> tuple[FloatArray, FloatArray, IntArray]:
        """What `_weights` says of the event after the history, and the last item [U]."""
        state, seen, last = self._filtered(histories)
        start_next = np.where(histories.lengths > 0, self.process.new_session, 1.0)
        return *self._weights(state, start_next, seen, last), last

    def _filtered(self, histories: Interactions) -> tuple[FloatArray, FloatArray, IntArray]:
        """Forward filtering: state [U, S, G], seen [U, S, F] and last item [U], as `_weights` takes them."""
        p, U = self.process, histories.n_users
        items, start = _aligned(histories, p.new_session)
        state = np.tile(p.tastes[:, None] * p.interests, (U, 1, 1))
        seen = np.zeros((U, len(p.tastes), len(p.leaves_after)))
        last = np.zeros(U, dtype=np.int64)
        for t in range(items.shape[1]):
            u = np.flatnonzero(histories.lengths > t)
            item = items[u, t]
            new, same = self._weights(state[u], start[u, t], seen[u], last[u])
            after = p.leaves_after[p.leaf[last[u]], p.leaf[item], None, None]
            from_interest = p.leaves.T[p.leaf[item], None, :]
            fit = p.items.T[item]
            joint = new * from_interest + same * ((1 - p.goes_with) * from_interest + p.goes_with * after)
            joint *= fit[:, :, None]
            state[u] = joint / joint.sum(axis=(1, 2), keepdims=True)
            unseen = (items[u, :t] != item[:, None]).all(axis=1)
            seen[u, :, p.leaf[item]] += fit * unseen[:, None]
            last[u] = item
        return state, seen, last

    def _weights(
        self, state: FloatArray, start: FloatArray, seen: FloatArray, last: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """[U, S, G] each: P(taste, interest, a session starts) and the same for one that goes on, over unseen mass.

        state: [U, S, G], P(taste, interest) at the last event. start: [U], P(a session starts).
        seen: [U, S, F], the part of each leaf that the user has seen, given the taste. last: [U] items.
        """
        p = self.process
        tastes = (1 - p.drift) * state.sum(axis=2) + p.drift * p.tastes
        new = start[:, None, None] * tastes[:, :, None] * p.interests
        same = (1 - start)[:, None, None] * state
        seen_new = seen @ p.leaves.T
        seen_after = seen @ p.leaves_after[p.leaf[last], :, None]
        seen_same = (1 - p.goes_with) * seen_new + p.goes_with * seen_after
        return new / np.maximum(1 - seen_new, TINY), same / np.maximum(1 - seen_same, TINY)


def _aligned(histories: Interactions, new_session: float) -> tuple[IntArray, FloatArray]:
    """[U, T] each, the first event leftmost: items, and P(the event starts a session) as far as times tell."""
    real = np.arange(histories.lengths.max(initial=0)) < histories.lengths[:, None]
    items, start = np.zeros(real.shape, dtype=np.int64), np.full(real.shape, new_session)
    items[real] = histories.items
    if histories.times is not None:
        start[real] = np.diff(histories.times, prepend=0) >= SESSION_GAP
    start[:, :1] = 1.0
    return items, start
