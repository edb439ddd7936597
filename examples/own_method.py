"""A method of your own beside all others: two classmethods, two methods, one file.

redraft bench tables --data data/mine --methods popularity itemknn examples/own_method.py:LastSeen
"""

from pathlib import Path
from typing import Self

import numpy as np

from redraft.baselines.ranking import PopularityOrder, recommend_in_batches
from redraft.baselines.storage import load_arrays, save_arrays
from redraft.records import BoolArray, Catalogue, FloatArray, IntArray, Interactions, Recommendations


class LastSeen:
    """People who buy again: the items of the history, latest first, then all others by popularity."""

    def __init__(self, counts: IntArray):
        self.counts = counts

    @classmethod
    def fit(cls, train: Interactions, catalogue: Catalogue) -> Self:
        """Learn from the training events of all users; the catalogue has texts and attributes."""
        train.check_items(catalogue.n_items)
        return cls(np.bincount(train.items, minlength=catalogue.n_items))

    def recommend(
        self, histories: Interactions, k: int, *, filter_seen: bool = True, allow: BoolArray | None = None
    ) -> Recommendations:
        """The k best items for each history; this helper filters, sorts and checks, given scores of all items."""
        order = PopularityOrder.of(self.counts)
        n_items = len(self.counts)
        return recommend_in_batches(
            lambda batch: order.fill(self._scores(batch)), n_items, histories, k, filter_seen=filter_seen, allow=allow
        )

    def save(self, path: Path) -> None:
        """Write what was learnt to a folder."""
        save_arrays(path, "last-seen", {"counts": self.counts})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        return cls(load_arrays(path, "last-seen")["counts"])

    def _scores(self, histories: Interactions) -> FloatArray:
        scores = np.zeros((histories.n_users, len(self.counts)))
        for user in range(histories.n_users):
            items = histories.history(user)
            scores[user, items] = np.arange(1, len(items) + 1)
        return scores
