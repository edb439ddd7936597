"""The prefix tree of all semantic IDs: which code may follow which prefix, for many beams at once.

Nodes of one depth are numbered in the order of their prefixes, so the children of a node are one run of numbers of the
next depth (CSR). A search looks at F choices a node: as many as the node with the most children has, or, at leading
depths where that is most of the codebook, the codes themselves, by a dense table.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from redraft.records import IntArray, SemanticIds

__all__ = ["Trie"]

DENSE_CELLS = 1 << 24
DENSE_WIDTH = 0.5


@dataclass(frozen=True)
class Trie:
    """Tables of a prefix tree over N items with L levels; depth 0 is the root, depth L the items.

    tokens: L tensors int16 or int32; tokens[d] [n_{d+1}] is the last code of each node of depth d + 1.
    child_start: L tensors int32 [n_d + 1]; the children of node n of depth d run from child_start[d][n] up to
    child_start[d][n + 1].
    leaf_start: L tensors int32 [n_d + 1]; the same for its items in code order.
    dense: for leading depths, int32 [n_d, C]: the child by code, -1 where there is none.
    items: int32 [N], item numbers in code order. leaves: int32 [N], its inverse.
    fan_out: the most children a node of each depth has; C where it is dense.
    """

    tokens: tuple[torch.Tensor, ...]
    child_start: tuple[torch.Tensor, ...]
    leaf_start: tuple[torch.Tensor, ...]
    dense: tuple[torch.Tensor, ...]
    items: torch.Tensor
    leaves: torch.Tensor
    fan_out: tuple[int, ...]
    codebook_size: int

    @classmethod
    def build(cls, ids: SemanticIds) -> Self:
        """Build from semantic IDs, vectorised: one sort, then one pass a level."""
        n_levels, codebook_size = ids.n_levels, ids.codebook_size
        keys = ids.keys(ids.codes)
        order = np.argsort(keys, kind="stable")
        prefixes = keys[order]
        token_type = np.int16 if codebook_size <= np.iinfo(np.int16).max else np.int32
        tokens: list[IntArray] = []
        child_start: list[IntArray] = []
        for _ in range(n_levels):
            tokens.insert(0, (prefixes % codebook_size).astype(token_type))
            parents = prefixes // codebook_size
            first = np.flatnonzero(np.diff(parents, prepend=-1))
            child_start.insert(0, np.append(first, len(prefixes)).astype(np.int32))
            prefixes = parents[first]
        leaf_start = [child_start[-1]]
        for starts in reversed(child_start[:-1]):
            leaf_start.insert(0, leaf_start[0][starts])
        leaves = np.empty(len(order), dtype=np.int32)
        leaves[order] = np.arange(len(order), dtype=np.int32)
        dense = _dense_tables(tokens, child_start, codebook_size)
        fan_out = [codebook_size if d < len(dense) else int(np.diff(child_start[d]).max()) for d in range(n_levels)]
        return cls(
            tokens=tuple(map(torch.from_numpy, tokens)),
            child_start=tuple(map(torch.from_numpy, child_start)),
            leaf_start=tuple(map(torch.from_numpy, leaf_start)),
            dense=tuple(map(torch.from_numpy, dense)),
            items=torch.from_numpy(order.astype(np.int32)),
            leaves=torch.from_numpy(leaves),
            fan_out=tuple(fan_out),
            codebook_size=codebook_size,
        )

    @property
    def n_levels(self) -> int:
        """L."""
        return len(self.tokens)

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.items)

    @property
    def n_bytes(self) -> int:
        """Memory of all tables, in bytes; a table that two names share counts once."""
        tables = (*self.tokens, *self.child_start, *self.leaf_start, *self.dense, self.items, self.leaves)
        return sum({table.data_ptr(): table.nbytes for table in tables}.values())

    def to(self, device: torch.device) -> "Trie":
        """The same trie on a device."""

        def move(tables: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return tuple(table.to(device) for table in tables)

        return replace(
            self,
            tokens=move(self.tokens),
            child_start=move(self.child_start),
            leaf_start=move(self.leaf_start),
            dense=move(self.dense),
            items=self.items.to(device),
            leaves=self.leaves.to(device),
        )

    def choices(self, nodes: torch.Tensor, depth: int) -> tuple[torch.Tensor | None, torch.Tensor]:
        """What may follow nodes [...] of one depth: codes int64 [..., F], and bool [..., F], which are real.

        F is fan_out[depth]. codes is None where choice c is code c.
        """
        if depth < len(self.dense):
            return None, self.dense[depth][nodes] >= 0
        children, real = self._children(nodes, depth)
        return self.tokens[depth][children].long(), real

    def take(self, nodes: torch.Tensor, choices: torch.Tensor, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The children of nodes [...] that real choices [...] lead to, and their codes: int64 [...].

        Some node and code for a choice that is not real.
        """
        if depth < len(self.dense):
            return self.dense[depth][nodes, choices].long().clamp(min=0), choices
        children = (self.child_start[depth][nodes] + choices).clamp(max=len(self.tokens[depth]) - 1)
        return children, self.tokens[depth][children].long()

    def descend(self, nodes: torch.Tensor, codes: torch.Tensor, depth: int) -> torch.Tensor:
        """The children int64 [...] of nodes [...] of one depth by their codes [...]; some node where there is none."""
        if depth < len(self.dense):
            return self.dense[depth][nodes, codes].long().clamp(min=0)
        listed, real = self.choices(nodes, depth)
        assert listed is not None, "not a dense depth"
        place = ((listed == codes[..., None]) & real).byte().argmax(dim=-1)
        return self.take(nodes, place, depth)[0]

    def expand(self, nodes: torch.Tensor, depth: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All choices of nodes [...] of one depth: child nodes, their codes, and which are real, each [..., F]."""
        if depth < len(self.dense):
            children = self.dense[depth][nodes]
            codes = torch.arange(self.codebook_size, device=nodes.device).expand_as(children)
            return children.long().clamp(min=0), codes, children >= 0
        children, real = self._children(nodes, depth)
        return children, self.tokens[depth][children].long(), real

    def _children(self, nodes: torch.Tensor, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The children int64 [..., F] of nodes [...] of a depth that is not dense, and which are real."""
        start, end = (self.child_start[depth][bound][..., None] for bound in (nodes, nodes + 1))
        children = start + torch.arange(self.fan_out[depth], dtype=torch.int32, device=nodes.device)
        real = children < end
        return children.clamp(max=len(self.tokens[depth]) - 1).long(), real

    def mask(self, nodes: torch.Tensor, depth: int) -> torch.Tensor:
        """bool [..., C]: which codes may follow nodes [...] of one depth."""
        if depth < len(self.dense):
            return self.dense[depth][nodes] >= 0
        codes, real = self.choices(nodes, depth)
        assert codes is not None, "not a dense depth"
        allowed = torch.zeros((*nodes.shape, self.codebook_size), dtype=torch.bool, device=nodes.device)
        return allowed.scatter_(-1, torch.where(real, codes, codes[..., :1]), True)

    def slot(self, children: torch.Tensor, parents: torch.Tensor, depth: int) -> torch.Tensor:
        """Which choice of the parents [...] at a depth leads to these children [...]: int64 [...] below F."""
        if depth < len(self.dense):
            return self.tokens[depth][children].long()
        return children - self.child_start[depth][parents]

    def n_below(self, nodes: torch.Tensor, depth: int) -> torch.Tensor:
        """How many items lie below nodes [...] of one depth, 0 to L: int64 [...]."""
        if depth == self.n_levels:
            return torch.ones_like(nodes)
        return (self.leaf_start[depth][nodes + 1] - self.leaf_start[depth][nodes]).long()

    def ancestors(self, leaves: torch.Tensor, depth: int) -> torch.Tensor:
        """The nodes of one depth, 0 to L, above places in code order: int64 [...]."""
        if depth == self.n_levels:
            return leaves.long()
        return torch.searchsorted(self.leaf_start[depth], leaves.to(torch.int32), right=True) - 1


def _dense_tables(tokens: list[IntArray], child_start: list[IntArray], codebook_size: int) -> list[IntArray]:
    tables: list[IntArray] = []
    for codes, starts in zip(tokens, child_start):
        cells, widest = (len(starts) - 1) * codebook_size, int(np.diff(starts).max())
        if tables and (cells > DENSE_CELLS or widest < DENSE_WIDTH * codebook_size):
            break
        table = np.full((len(starts) - 1, codebook_size), -1, dtype=np.int32)
        table[np.repeat(np.arange(len(starts) - 1), np.diff(starts)), codes] = np.arange(len(codes))
        tables.append(table)
    return tables
