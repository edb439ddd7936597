"""Is one recommender better than another? Paired tests over users, from the ranks that both gave the same targets.

Users are exchangeable and their paired differences take few distinct values (0, the gains, and gains less gains), so
both resamplings draw how often each value occurs instead of drawing users: the same distribution, far fewer draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from redraft.eval.metrics import ndcg
from redraft.records import FloatArray, InputError, IntArray

__all__ = ["PairedTest", "holm", "paired_test"]

_BLOCK_DRAWS = 2**22


@dataclass(frozen=True)
class PairedTest:
    """difference: mean of a less mean of b. low, high: its bootstrap confidence interval. p_value: two-sided."""

    difference: float
    low: float
    high: float
    p_value: float


def paired_test(
    a: IntArray,
    b: IntArray,
    k: int,
    *,
    gain: Callable[[IntArray, int], FloatArray] = ndcg,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> PairedTest:
    """Compare ranks a with ranks b of the same users at a cut-off k, [U] each or [S, U] of S seeds, which are averaged.

    gain: `metrics.ndcg` or `metrics.recall`. The interval is the percentile bootstrap over users; the p-value is the
    share of random sign flips of the users' differences whose mean is as far from 0 as the one observed (the observed
    one counts too, so that p is never 0).
    Raises InputError if a and b have different numbers of users, or none.
    """
    if a.shape[-1] != b.shape[-1] or not a.size or not b.size:
        raise InputError(
            f"a paired test needs the same users twice, not {a.shape[-1]} and {b.shape[-1]}; evaluate both alike"
        )
    rng = np.random.default_rng(seed)
    differences = np.atleast_2d(gain(a, k)).mean(axis=0) - np.atleast_2d(gain(b, k)).mean(axis=0)
    bootstrap = _bootstrap_means(differences, n_resamples, rng)
    flipped = _sign_flip_means(differences, n_resamples, rng)
    observed = float(differences.mean())
    low, high = np.quantile(bootstrap, [(1 - confidence) / 2, (1 + confidence) / 2])
    extreme = int((np.abs(flipped) >= abs(observed) - 1e-12).sum())
    return PairedTest(observed, float(low), float(high), (extreme + 1) / (n_resamples + 1))


def holm(p_values: Sequence[float]) -> FloatArray:
    """float64 [n]: p-values corrected for n comparisons (Holm 1979); reject where they stay below the level."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def _bootstrap_means(differences: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """float64 [n]: means of n samples of U users drawn with replacement."""
    values, counts = np.unique(differences, return_counts=True)
    users = len(differences)
    blocks = [rng.multinomial(users, counts / users, size=size) @ values for size in _blocks(n, len(values))]
    return np.concatenate(blocks) / users


def _sign_flip_means(differences: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """float64 [n]: means after each difference changed its sign with probability 1/2."""
    values, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    blocks = [
        (2 * rng.binomial(counts, 0.5, size=(size, len(values))) - counts) @ values for size in _blocks(n, len(values))
    ]
    return np.concatenate(blocks) / len(differences)


def _blocks(n: int, width: int) -> list[int]:
    """Sizes that add up to n, each small enough to keep a block of draws [size, width] in memory."""
    size = max(1, _BLOCK_DRAWS // max(width, 1))
    return [min(size, n - start) for start in range(0, n, size)]
