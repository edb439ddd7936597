"""From scores to lists: the checks, filters and ordering that the baselines share."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from redraft.records import BoolArray, FloatArray, InputError, IntArray, Interactions, Recommendations

__all__ = ["PopularityOrder", "recommend_in_batches", "top_k"]

_BATCH_SCORES = 2**20


@dataclass(frozen=True)
class PopularityOrder:
    """What to recommend where a model knows nothing: items by descending count, ties by lower item number.

    place: int64 [N], 0 for the most popular item.
    """

    place: IntArray

    @classmethod
    def of(cls, counts: IntArray) -> "PopularityOrder":
        """From events an item [N]."""
        place = np.empty(len(counts), dtype=np.int64)
        place[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
        return cls(place)

    def fill(self, scores: FloatArray) -> FloatArray:
        """Scores [U, N] where each 0 gives way to -1 - place: below every positive score, in popularity order."""
        return np.where(scores > 0, scores, -1.0 - self.place)


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
    if not 1 <= k <= n_items:
        raise InputError(f"k = {k} items were asked for from a catalogue of {n_items}; ask for 1 to {n_items}")
    if allow is not None and allow.shape not in ((n_items,), (n_users, n_items)):
        raise InputError(f"allow has shape {allow.shape}; it must be ({n_items},) or ({n_users}, {n_items})")
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


def top_k(
    scores: FloatArray, histories: Interactions, k: int, *, filter_seen: bool, allow: BoolArray | None
) -> Recommendations:
    """The k best of finite scores [U, N] after filtering, best first; equal scores in order of item number."""
    if allow is not None:
        scores = np.where(allow, scores, -np.inf)
    if filter_seen:
        scores = scores.copy() if allow is None else scores
        scores[np.repeat(np.arange(len(scores)), histories.lengths), histories.items] = -np.inf
    candidates = _top_k_columns(scores, k)
    kept = np.take_along_axis(scores, candidates, axis=1)
    order = np.argsort(-kept, axis=1, kind="stable")
    kept = np.take_along_axis(kept, order, axis=1)
    items = np.take_along_axis(candidates, order, axis=1)
    return Recommendations(np.where(np.isneginf(kept), -1, items), kept.astype(np.float32))


def _top_k_columns(scores: FloatArray, k: int) -> IntArray:
    """int64 [U, k]: columns of each row's k largest scores in ascending order; of equal scores the first columns."""
    n = scores.shape[1]
    smallest_kept = np.partition(scores, n - k, axis=1)[:, n - k, None]
    above, equal = scores > smallest_kept, scores == smallest_kept
    room = k - above.sum(axis=1, keepdims=True)
    chosen = above | (equal & (equal.cumsum(axis=1, dtype=np.int32) <= room))
    return np.nonzero(chosen)[1].reshape(-1, k)
