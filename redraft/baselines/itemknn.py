"""Item-based nearest neighbours: recommend what stands near the recent items in other people's histories."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from scipy.sparse import csr_array

from redraft.baselines.ranking import recommend_by_counts
from redraft.baselines.storage import (
    FIX,
    MATRIX,
    counts_from_arrays,
    load_arrays,
    matrix_from_arrays,
    matrix_to_arrays,
    save_arrays,
)
from redraft.records import BoolArray, Catalogue, FloatArray, InputError, IntArray, Interactions, Recommendations

__all__ = ["ItemKNN"]


@dataclass(frozen=True)
class ItemKNN:
    """Items by their co-occurrence with the recent items of the history.

    score(j) = sum over the k-th most recent item i, k = 1 ... recent, of 1 / k * similarity(i, j), where
    similarity(i, j) = (forward(i, j) + backward * forward(j, i)) * (popularity(j) + 1)^-damping, and
    forward(i, j) = sum of 1 / d over every time that j came d positions after i, d <= window.
    Items without a score come after all that have one, in popularity order; so does everything for an empty history.

    similarity: float64 [N, N] sparse. counts: int64 [N], the events of each item. recent: items of the history used.
    """

    similarity: csr_array
    counts: IntArray
    recent: int

    @classmethod
    def fit(
        cls,
        train: Interactions,
        catalogue: Catalogue,
        *,
        window: int = 5,
        backward: float = 0.5,
        damping: float = 0.25,
        recent: int = 10,
    ) -> Self:
        """Count co-occurrences, with the settings of the class's equation.

        Raises InputError for an item that is not in the catalogue.
        """
        n_items = catalogue.n_items
        train.check_items(n_items)
        counts = np.bincount(train.items, minlength=n_items)
        forward = _forward(train, n_items, window)
        similarity = (forward + backward * forward.T) * (counts + 1.0) ** -damping
        return cls(csr_array(similarity), counts, recent)

    def recommend(
        self, histories: Interactions, k: int, *, filter_seen: bool = True, allow: BoolArray | None = None
    ) -> Recommendations:
        """See `redraft.records.Recommender`."""
        return recommend_by_counts(self._scores, self.counts, histories, k, filter_seen=filter_seen, allow=allow)

    def save(self, path: Path | str, *, replace: bool = False) -> None:
        """Write the fitted model to a folder, whole or not at all; replace: in place of the baseline that is there."""
        arrays = {"counts": self.counts, "recent": np.array(self.recent), **matrix_to_arrays(self.similarity)}
        save_arrays(path, "itemknn", arrays, replace=replace)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote. Raises InputError if it is not there or is another model."""
        arrays = load_arrays(path, "itemknn", ["counts", "recent", *MATRIX])
        counts, recent = counts_from_arrays(path, arrays), arrays["recent"]
        if recent.shape or recent.dtype.kind != "i" or recent < 1:
            raise InputError(f"{path}: the number of recent items is {recent}; {FIX}")
        return cls(matrix_from_arrays(path, arrays, len(counts)), counts, int(recent))

    def _scores(self, histories: Interactions) -> FloatArray:
        """float64 [B, N]: similarity to the recent items, each weighted by one over its position from the end."""
        recent = histories.padded(self.recent)
        users, columns = np.nonzero(recent >= 0)
        weights = 1.0 / (self.recent - columns)
        shape = (histories.n_users, len(self.counts))
        weighted = csr_array((weights, (users, recent[users, columns])), shape=shape)
        return (weighted @ self.similarity).toarray()


def _forward(train: Interactions, n_items: int, window: int) -> csr_array:
    """float64 [N, N] sparse: entry (i, j) sums 1 / d over every time that j came d positions after i, d <= window."""
    users = np.repeat(np.arange(train.n_users), train.lengths)
    total = csr_array((n_items, n_items))
    for distance in range(1, window + 1):
        same_user = users[:-distance] == users[distance:]
        pairs = train.items[:-distance][same_user], train.items[distance:][same_user]
        total += csr_array((np.full(len(pairs[0]), 1.0 / distance), pairs), shape=(n_items, n_items))
    return total
