"""What a model keeps of histories that it has read, and of sequences that it has written."""

from collections.abc import Iterable
from typing import NamedTuple

import torch

from redraft.model.layers import KeysValues, Recall

__all__ = ["Cache", "Encoded", "Known", "Memory"]


class Known(NamedTuple):
    """What a model knows of items as wholes when it has read histories.

    query: unit vectors [U, T, D], what it looks for after each item. vectors: [N, D], of the items, unit ones where
    all are scored. below: [n_d, D] each, of the nodes of depths 1 to L of the trie. mass: [U, n_d] each, in a search:
    the log of what the item head gives all items below a node after the whole history, up to a constant per user; empty
    if the model does not ask.
    """

    query: torch.Tensor
    vectors: torch.Tensor
    below: tuple[torch.Tensor, ...]
    mass: tuple[torch.Tensor, ...] = ()


class Encoded(NamedTuple):
    """Histories as the encoder has read them: states [U, S, D].

    history: int64 [U, T], what was read. item_of: int64 [S], which of its items a position belongs to.
    real: bool [U, S], False at padding. known: of a model that knows items as wholes.
    """

    history: torch.Tensor
    states: torch.Tensor
    item_of: torch.Tensor
    real: torch.Tensor
    known: Known | None = None


class Memory(NamedTuple):
    """What a search reads of U users at every step: for every decoder block, and a bias [U, 1, H * S].

    encoded: the histories, for the verifier.
    """

    encoded: Encoded
    blocks: tuple[Recall, ...]
    bias: torch.Tensor


class Cache(NamedTuple):
    """What R sequences a user have written, by position; nothing is copied when sequences fork or end.

    pages: for every position, for every decoder block, keys and values [U, R', 1, H, D / H] as they were written.
    rows: for every position int64 [U, R], the row among all U * R' that each sequence continues; None where the rows
    are the sequences' own, or where all share one. nodes: int64 [U, R], the node of the trie that each sequence has
    reached; None for a model that does not ask.
    """

    pages: tuple[tuple[KeysValues, ...], ...]
    rows: tuple[torch.Tensor | None, ...]
    nodes: torch.Tensor | None = None

    @property
    def length(self) -> int:
        """Positions so far."""
        return len(self.pages)

    def follow(self, parents: torch.Tensor) -> "Cache":
        """The cache of sequences that each continue the one of parents [U, R]."""
        users = torch.arange(len(parents), device=parents.device)[:, None]
        rows: list[torch.Tensor | None] = []
        for page, before in zip(self.pages, self.rows):
            n_rows = page[0].keys.shape[1]
            own = parents + users * n_rows if before is None else before.gather(1, parents)
            rows.append(None if n_rows == 1 else own)
        return Cache(self.pages, tuple(rows), None if self.nodes is None else self.nodes.gather(1, parents))

    def added(self, page: Iterable[KeysValues]) -> "Cache":
        """The cache with one more position: keys and values of every block."""
        return Cache((*self.pages, tuple(page)), (*self.rows, None), self.nodes)

    def read(self, block: int) -> list[KeysValues]:
        """Keys and values of one block for each position, [U, R or 1, 1, H, D / H]."""
        return [
            page[block] if rows is None else KeysValues(*(_take(part, rows) for part in page[block]))
            for page, rows in zip(self.pages, self.rows)
        ]


def _take(written: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return written.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, rows.shape)
