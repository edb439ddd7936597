"""How good a ranked list is when one item of it is right. Pure functions of ranks.

A rank counts from 1; -1 stands for a target that is not in the list.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from redraft.records import FloatArray, InputError, IntArray

__all__ = ["GAINS", "KS", "check_identity", "ndcg", "ranking_metrics", "ranks_of", "recall"]

KS = (5, 10, 50, 100, 200)


def ranks_of(items: IntArray, targets: IntArray) -> IntArray:
    """int64 [U]: where each target [U] stands in its list [U, k], counted from 1; -1 if it is not there."""
    hits = items == targets[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, -1)


def recall(ranks: IntArray, k: int) -> FloatArray:
    """float64 [U]: 1 where the target is among the first k. With one relevant item this is also the hit rate."""
    return ((ranks > 0) & (ranks <= k)).astype(np.float64)


def ndcg(ranks: IntArray, k: int) -> FloatArray:
    """float64 [U]: 1 / log2(rank + 1) where the target is among the first k, else 0. The ideal list scores 1."""
    return recall(ranks, k) / np.log2(np.maximum(ranks, 1) + 1)


GAINS: dict[str, Callable[[IntArray, int], FloatArray]] = {"R": recall, "N": ndcg}
"""Every metric by its letter."""


def ranking_metrics(ranks: IntArray, ks: Sequence[int] = KS) -> dict[str, float]:
    """Means of all metrics over the users of ranks [U], as {"R@5": ..., "N@5": ..., "R@10": ...}."""
    return {f"{name}@{k}": float(gain(ranks, k).mean()) for k in ks for name, gain in GAINS.items()}


def check_identity(metrics: Mapping[str, float], *, rounding: float = 0.0) -> None:
    """Raise InputError if no ranking with one relevant item a user can have these Recalls and NDCGs.

    A target that enters the list between K1 and K2 has a rank from K1 + 1 to K2, so that
    1 / log2(K2 + 1) * (R@K2 - R@K1) <= N@K2 - N@K1 <= 1 / log2(K1 + 2) * (R@K2 - R@K1).
    It is checked for every two neighbouring K, and from K = 0, where both metrics are 0.
    metrics: {"R@5": ..., "N@5": ..., ...}; other keys are left alone.
    rounding: the largest error of a printed number, 5e-5 for a table with four decimals.
    """
    ks = sorted(int(name[2:]) for name in metrics if name.startswith("R@") and f"N@{name[2:]}" in metrics)
    for k1, k2 in pairwise([0, *ks]):
        recall_gain = metrics[f"R@{k2}"] - metrics.get(f"R@{k1}", 0.0)
        ndcg_gain = metrics[f"N@{k2}"] - metrics.get(f"N@{k1}", 0.0)
        low, high = 1 / np.log2(k2 + 1), 1 / np.log2(k1 + 2)
        slack = 1e-9 + 2 * rounding * (1 + high)
        if not low * recall_gain - slack <= ndcg_gain <= high * recall_gain + slack:
            raise InputError(
                f"N@{k2} - N@{k1} = {ndcg_gain:.4f} must lie between {low:.3f} and {high:.3f} times "
                f"R@{k2} - R@{k1} = {recall_gain:.4f}; no ranking gives these numbers: compute them again from ranks"
            )
