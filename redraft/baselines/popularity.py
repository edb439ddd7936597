"""Recommend to everybody what was bought most."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from redraft.baselines.ranking import recommend_in_batches
from redraft.baselines.storage import counts_from_arrays, load_arrays, save_arrays
from redraft.records import BoolArray, Catalogue, IntArray, Interactions, Recommendations

__all__ = ["Popularity"]


@dataclass(frozen=True)
class Popularity:
    """Items by how many training events they have; equal counts in an order of each history's own, see
    `redraft.baselines.ranking.tie_keys`.

    counts: int64 [N], the events of each item, which are also its scores.
    """

    counts: IntArray

    @classmethod
    def fit(cls, train: Interactions, catalogue: Catalogue) -> Self:
        """Count the events of each item. Raises InputError for an item that is not in the catalogue."""
        train.check_items(catalogue.n_items)
        return cls(np.bincount(train.items, minlength=catalogue.n_items))

    def recommend(
        self, histories: Interactions, k: int, *, filter_seen: bool = True, allow: BoolArray | None = None
    ) -> Recommendations:
        """See `redraft.records.Recommender`."""
        counts = self.counts.astype(np.float64)
        return recommend_in_batches(
            lambda batch: np.tile(counts, (batch.n_users, 1)),
            len(counts),
            histories,
            k,
            filter_seen=filter_seen,
            allow=allow,
        )

    def save(self, path: Path | str, *, replace: bool = False) -> None:
        """Write the fitted model to a folder, whole or not at all; replace: in place of the baseline that is there."""
        save_arrays(path, "popularity", {"counts": self.counts}, replace=replace)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote. Raises InputError if it is not there or is another model."""
        return cls(counts_from_arrays(path, load_arrays(path, "popularity", ["counts"])))
