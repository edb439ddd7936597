"""From scores to lists: the checks, filters and ordering that the baselines share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from redraft.records import (
    BoolArray,
    FloatArray,
    InputError,
    IntArray,
    Interactions,
    Recommendations,
    check_allow,
    check_whole,
)

__all__ = ["PopularityOrder", "recommend_by_counts", "recommend_in_batches", "tie_keys", "top_k"]

_BATCH_SCORES = 2**20
TIE_SEED = 0


@dataclass(frozen=True)
class PopularityOrder:
    """What to recommend where a model knows nothing: items by descending count.

    n_above: int64 [N], how many items have a higher count.
    """

    n_above: IntArray

    @classmethod
    def of(cls, counts: IntArray) -> "PopularityOrder":
        """From events per item [N]."""
        return cls(len(counts) - np.searchsorted(np.sort(counts), counts, side="right"))

    def fill(self, scores: FloatArray) -> FloatArray:
        """Scores [U, N] where each 0 gives way to -1 - n_above: below every positive score, in popularity order."""
        return np.where(scores > 0, scores, -1.0 - self.n_above)


def recommend_in_batches(
    score: Callable[[Interactions], FloatArray],
    n_items: int,
    histories: Interactions,
    k: int,
    *,
    filter_seen: bool,
    allow: BoolArray | None,
) -> Recommendations:
    """Recommend by a function from B histories to scores [B, N], as many users at a time as fit in memory.

    Users of like history lengths come together, so that a function that pads histories pads little.
    Raises InputError if k is not within 1 and N, if a history names an unknown item, or if `allow` is neither [N]
    nor [U, N].
    """
    n_users = histories.n_users
    histories.check_items(n_items)
    check_whole(k=k)
    if not 1 <= k <= n_items:
        raise InputError(f"k = {k} items were asked for from a catalogue of {n_items}; ask for 1 to {n_items}")
    allow = check_allow(allow, n_users, n_items)
    items = np.empty((n_users, k), dtype=np.int64)
    scores = np.empty((n_users, k), dtype=np.float32)
    step = max(1, _BATCH_SCORES // n_items)
    order = np.argsort(histories.lengths, kind="stable")
    for start in range(0, n_users, step):
        users = order[start : start + step]
        batch = histories.take(users)
        batch_allow = allow if allow is None or allow.ndim == 1 else allow[users]
        best = top_k(score(batch), batch, k, filter_seen=filter_seen, allow=batch_allow)
        items[users], scores[users] = best.items, best.scores
    return Recommendations(items, scores)


def recommend_by_counts(
    score: Callable[[Interactions], FloatArray],
    counts: IntArray,
    histories: Interactions,
    k: int,
    *,
    filter_seen: bool,
    allow: BoolArray | None,
) -> Recommendations:
    """As `recommend_in_batches`; items without a positive score come after the others, in order of their counts [N]."""
    order = PopularityOrder.of(counts)

    def filled(batch: Interactions) -> FloatArray:
        return order.fill(score(batch))

    return recommend_in_batches(filled, len(counts), histories, k, filter_seen=filter_seen, allow=allow)


def top_k(
    scores: FloatArray, histories: Interactions, k: int, *, filter_seen: bool, allow: BoolArray | None
) -> Recommendations:
    """The k best of finite scores [U, N] after filtering, best first; equal scores in the order of `tie_keys`."""
    if allow is not None:
        scores = np.where(allow, scores, -np.inf)
    if filter_seen:
        scores = scores.copy() if allow is None else scores
        scores[np.repeat(np.arange(len(scores)), histories.lengths), histories.items] = -np.inf
    users, items = tie_keys(histories, scores.shape[1])
    candidates = _top_k_columns(scores, k, users, items)
    kept = np.take_along_axis(scores, candidates, axis=1)
    order = np.argsort(-kept, axis=1, kind="stable")
    best = np.take_along_axis(kept, order, axis=1)
    tied = np.flatnonzero((best[:, 1:] == best[:, :-1]).any(axis=1))
    if len(tied):
        order[tied] = np.lexsort((users[tied, None] * items[candidates[tied]], -kept[tied]))
    ordered = np.take_along_axis(candidates, order, axis=1)
    return Recommendations(np.where(np.isneginf(best), -1, ordered), best.astype(np.float32))


def tie_keys(histories: Interactions, n_items: int) -> tuple[IntArray, IntArray]:
    """Odd factors uint64 [U] and random numbers uint64 [N]: of equal scores the least product modulo 2^64 goes first.

    So each history has an order of its own among equals, the same on every call, that says nothing about item numbers:
    a model that knows nothing is right as often as chance.
    """
    items = _random_numbers(n_items)
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(items[histories.items], dtype=np.uint64)])
    return np.diff(sums[histories.offsets]) | np.uint64(1), items


@lru_cache(maxsize=2)
def _random_numbers(n: int) -> IntArray:
    return np.random.default_rng(TIE_SEED).integers(2**64, size=n, dtype=np.uint64)


def _top_k_columns(scores: FloatArray, k: int, users: IntArray, items: IntArray) -> IntArray:
    """int64 [U, k]: columns of each row's k largest scores in ascending order; of equal scores those by `tie_keys`."""
    n = scores.shape[1]
    smallest_kept = np.partition(scores, n - k, axis=1)[:, n - k, None]
    chosen = scores > smallest_kept
    room = k - chosen.sum(axis=1)
    rows, columns = np.nonzero(scores == smallest_kept)
    counts = np.bincount(rows, minlength=len(scores))
    tied = (counts > room) & np.isfinite(smallest_kept[:, 0])
    if tied.any():
        keys = np.where(tied[rows], users[rows] * items[columns], 0)
        columns = columns[np.lexsort((keys, rows))]
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    fits = rank < room[rows]
    chosen[rows[fits], columns[fits]] = True
    return np.nonzero(chosen)[1].reshape(-1, k)
