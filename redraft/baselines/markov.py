"""A first-order Markov chain: recommend what most often came right after the last item."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from scipy.sparse import csr_array

from redraft.baselines.ranking import recommend_by_counts
from redraft.baselines.storage import (
    MATRIX,
    counts_from_arrays,
    load_arrays,
    matrix_from_arrays,
    matrix_to_arrays,
    save_arrays,
)
from redraft.records import BoolArray, Catalogue, FloatArray, IntArray, Interactions, Recommendations

__all__ = ["Markov"]


@dataclass(frozen=True)
class Markov:
    """Items by how often they followed the last item in training.

    Equal counts: the transition that training met first goes first. Items that never followed come after all that
    did, in popularity order; so does everything for an empty history.

    transitions: float64 [N, N] sparse; the whole part is the count, the fraction falls with the first occurrence.
    counts: int64 [N], the events of each item.
    """

    transitions: csr_array
    counts: IntArray

    @classmethod
    def fit(cls, train: Interactions, catalogue: Catalogue) -> Self:
        """Count the transitions. Raises InputError for an item that is not in the catalogue."""
        n_items = catalogue.n_items
        train.check_items(n_items)
        users = np.repeat(np.arange(train.n_users), train.lengths)
        same_user = users[:-1] == users[1:]
        before, after = (events[same_user].astype(np.int64) for events in (train.items[:-1], train.items[1:]))
        pairs, first, count = np.unique(before * n_items + after, return_index=True, return_counts=True)
        scores = count + 1 - (first + 1) / (len(before) + 1)
        transitions = csr_array((scores, np.divmod(pairs, n_items)), shape=(n_items, n_items))
        return cls(transitions, np.bincount(train.items, minlength=n_items))

    def recommend(
        self, histories: Interactions, k: int, *, filter_seen: bool = True, allow: BoolArray | None = None
    ) -> Recommendations:
        """See `redraft.records.Recommender`."""
        return recommend_by_counts(self._scores, self.counts, histories, k, filter_seen=filter_seen, allow=allow)

    def save(self, path: Path | str, *, replace: bool = False) -> None:
        """Write the fitted model to a folder, whole or not at all; replace: in place of the baseline that is there."""
        save_arrays(path, "markov", {"counts": self.counts, **matrix_to_arrays(self.transitions)}, replace=replace)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote. Raises InputError if it is not there or is another model."""
        arrays = load_arrays(path, "markov", ["counts", *MATRIX])
        counts = counts_from_arrays(path, arrays)
        return cls(matrix_from_arrays(path, arrays, len(counts)), counts)

    def _scores(self, histories: Interactions) -> FloatArray:
        """float64 [B, N]: the row of each history's last item, 0 where it never led there."""
        last = histories.padded(1)[:, 0]
        scores = self.transitions[np.maximum(last, 0)].toarray()
        scores[last < 0] = 0.0
        return scores
