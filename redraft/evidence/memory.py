"""Transition memory: which items stood near which in the training log, a table of few neighbours an item."""

from typing import NamedTuple, Self

import numpy as np
import torch

from redraft.baselines.itemknn import ItemKNN
from redraft.records import Catalogue, InputError, Interactions

__all__ = ["Memory"]

NEIGHBOURS = 64
RECENT = 10


class Memory(NamedTuple):
    """The nearest neighbours of N items by item-kNN's similarity, as CSR arrays; see `redraft.baselines.itemknn`.

    neighbours: int32 [E], rising within an item's. similarity: float32 [E], above 0. offsets: int64 [N + 1].
    """

    neighbours: torch.Tensor
    similarity: torch.Tensor
    offsets: torch.Tensor

    @classmethod
    def of(cls, train: Interactions, catalogue: Catalogue, most: int = NEIGHBOURS) -> Self:
        """Count the training events, and keep the `most` nearest neighbours of each item."""
        similarity = ItemKNN.fit(train, catalogue).similarity
        rows = np.repeat(np.arange(catalogue.n_items), np.diff(similarity.indptr))
        order = np.lexsort((similarity.indices, -similarity.data, rows))
        kept = np.sort(order[np.arange(len(order)) - similarity.indptr[rows] < most])
        kept = kept[np.lexsort((similarity.indices[kept], rows[kept]))]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=catalogue.n_items))])
        arrays = similarity.indices[kept].astype(np.int32), similarity.data[kept].astype(np.float32)
        neighbours, kept_similarity = map(torch.from_numpy, arrays)
        return cls(neighbours, kept_similarity, torch.from_numpy(offsets.astype(np.int64)))

    def with_items(self, n_new: int) -> Self:
        """The same memory with items after the others, which stood near nothing."""
        return self._replace(offsets=torch.cat([self.offsets, self.offsets[-1:].expand(n_new)]))

    def check(self, n_items: int) -> None:
        """Raise InputError unless this is a memory of n_items items whose counts are finite and above 0."""
        sized = len(self.offsets) == n_items + 1 and len(self.neighbours) == len(self.similarity)
        if not sized or int(self.offsets[0]) or int(self.offsets[-1]) != len(self.neighbours):
            raise InputError(f"memory: is not of {n_items} items; count it on the data set of the run")
        if not bool(((self.similarity > 0) & torch.isfinite(self.similarity)).all()):
            raise InputError("memory: holds counts that are negative or not finite; count it again")
        if bool(((self.neighbours < 0) | (self.neighbours >= n_items)).any() or (self.offsets.diff() < 0).any()):
            raise InputError(f"memory: names items outside the {n_items} of the catalogue; count it again")

    def read(self, history: torch.Tensor, items: torch.Tensor, recent: int = RECENT) -> tuple[torch.Tensor, ...]:
        """What the k-th most recent item, weighted by 1 / k, says of items: sums float32 [U, R], their total [U, 1].

        history: int64 [U, T], most recent last, -1 pads. items: int64 [U, R]. recent: items of the history that are
        read.
        """
        keys, said_of = self._said(history, recent)
        keys, order = keys.sort(dim=1)
        below = torch.nn.functional.pad(said_of.double().gather(1, order).cumsum(dim=1), (1, 0))
        wanted = items.contiguous()
        ends = [torch.searchsorted(keys, wanted, right=right) for right in (True, False)]
        total = below[:, -1:].float()
        said = (below.gather(1, ends[0]) - below.gather(1, ends[1])).float()
        return torch.where(ends[0] > ends[1], said.clamp(min=0), 0.0), total

    def shares(self, history: torch.Tensor, n_items: int, recent: int = RECENT) -> torch.Tensor:
        """What `read` gives all items, as shares float32 [U, N] of its total; 0 where it knows nothing of a history."""
        keys, said = self._said(history, recent)
        sums = said.new_zeros(len(history), n_items).scatter_add(1, keys.clamp(min=0), said)
        return sums / sums.sum(dim=1, keepdim=True).clamp(min=1e-12)

    def _said(self, history: torch.Tensor, recent: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The neighbours [U, E] of a history's recent items, -1 pads, and what each says of them, 0 at padding."""
        last = history[:, -recent:].flip(1)
        weight = (1.0 / torch.arange(1, last.shape[1] + 1)) * (last >= 0)
        start = self.offsets[last.clamp(min=0)]
        length = (self.offsets[last.clamp(min=0) + 1] - start) * (last >= 0)
        step = torch.arange(int(length.max()) if len(self.neighbours) and length.numel() else 0)
        real = step < length[..., None]
        at = (start[..., None] + step).clamp(max=max(0, len(self.neighbours) - 1))
        keys = torch.where(real, self.neighbours[at].long(), -1)
        return keys.flatten(1), torch.where(real, self.similarity[at] * weight[..., None], 0.0).flatten(1)
