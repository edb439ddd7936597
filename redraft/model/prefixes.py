"""What stands below each prefix: a vector for every node of the trie, pooled from the vectors of its items."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from redraft.prefix_tree import PrefixTree

__all__ = ["Pairs", "masses", "masses_in_order", "pairs", "pooled", "products", "with_products"]

LEAST = 1e-12
"""Nodes with less than this, where the best item has 1, count alike: differences of running sums are no finer."""


def pooled(vectors: torch.Tensor, tree: PrefixTree) -> list[torch.Tensor]:
    """The vector of every node of depths 1 to L, [n_d, D] each: the mean of the unit vectors of the items below it.

    vectors: [N, D], of items. Depth by depth from below, so that the whole costs one pass over each depth.
    """
    sums = F.normalize(vectors.float(), dim=-1)[tree.items.long()]
    means = [sums]
    for depth in range(tree.n_levels - 1, 0, -1):
        starts = tree.child_start[depth]
        parents = torch.repeat_interleave(
            torch.arange(len(starts) - 1, device=sums.device), starts.diff().long(), output_size=len(sums)
        )
        sums = sums.new_zeros((len(starts) - 1, sums.shape[1])).index_add(0, parents, sums)
        means.insert(0, sums / tree.leaf_start[depth].diff()[:, None])
    return means


def masses(logits: torch.Tensor, tree: PrefixTree) -> tuple[torch.Tensor, ...]:
    """The log of the sum of exp(logit) over the items below every node of depths 1 to L, [U, n_d] each.

    logits: [U, N], of all items. One constant a row is left out, so that the largest item has 0.
    """
    return masses_in_order(logits.index_select(1, tree.items), tree)


def masses_in_order(logits: torch.Tensor, tree: PrefixTree) -> tuple[torch.Tensor, ...]:
    """As `masses`, of items in code order; what it says of depth L may be given again."""
    logits = logits - logits.amax(dim=1, keepdim=True)
    until = F.pad(logits.exp().cumsum(dim=1, dtype=torch.float64), (1, 0))
    inner = (until.index_select(1, starts).diff(dim=1).clamp(min=LEAST).log() for starts in tree.leaf_start[1:])
    return (*(below.to(logits.dtype) for below in inner), logits)


class Pairs(NamedTuple):
    """Each of n nodes of one depth with each of its real children, P pairs in all, row by row.

    rows, children, codes: int64 [P], which of the n nodes, which node of the next depth, and its code. offsets: int64
    [n + 1], where the pairs of each row begin.
    """

    rows: torch.Tensor
    children: torch.Tensor
    codes: torch.Tensor
    offsets: torch.Tensor

    def by_code(self, scores: torch.Tensor, codebook_size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores [P] as [n, C], 0 where there is no such child, and bool [n, C], where there is one."""
        index, shape = (self.rows, self.codes), (len(self.offsets) - 1, codebook_size)
        real = torch.zeros(shape, dtype=torch.bool, device=scores.device).index_put(index, self.rows >= 0)
        return scores.new_zeros(shape).index_put(index, scores), real


def pairs(nodes: torch.Tensor, depth: int, tree: PrefixTree) -> Pairs:
    """The real children of nodes [n] of one depth."""
    starts = tree.child_start[depth].long()
    first, counts = starts[nodes], starts[nodes + 1] - starts[nodes]
    ends = counts.cumsum(0)
    rows = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), counts)
    children = torch.arange(len(rows), device=nodes.device) + (first - ends + counts)[rows]
    return Pairs(rows, children, tree.tokens[depth][children].long(), F.pad(ends, (1, 0)))


def products(wanted: torch.Tensor, below: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """How well each child fits what is wanted, [P]: wanted [n, D] . below [n_{depth + 1}, D] for each pair.

    Nothing of n x F x D is made.
    """
    fits: torch.Tensor = _PairProducts.apply(wanted, below, pairs.offsets, pairs.children, pairs.rows)  # type: ignore[no-untyped-call]
    return fits


def with_products(
    logits: torch.Tensor,
    wanted: torch.Tensor,
    nodes: torch.Tensor,
    level: int,
    below: Sequence[torch.Tensor],
    tree: PrefixTree,
    shortlist: int,
) -> torch.Tensor:
    """Logits [U, R, F] of the children of nodes [U, R] with their vectors' products with what is wanted [U, R, D].

    below: [n_d, D] each, of the nodes of depths 1 to L. Where a node may have more children than the shortlist, the
    vectors of those that are best without them are read, and the others count as their parent's.
    """
    children, _, real = tree.expand(nodes, level)
    if level == 0:
        return logits + (wanted @ below[0].T).gather(-1, children)
    if children.shape[-1] <= shortlist:
        return logits + torch.einsum("urd,urfd->urf", wanted, below[level][children])
    expected = (wanted * below[level - 1][nodes]).sum(dim=-1, keepdim=True)
    logits = logits + expected
    best = logits.masked_fill(~real, -torch.inf).topk(shortlist, sorted=False).indices
    exact = torch.einsum("urd,urfd->urf", wanted, below[level][children.gather(-1, best)])
    return logits.scatter_add(-1, best, exact - expected)


class _PairProducts(torch.autograd.Function):
    """wanted[row] . below[child] for each pair of a sparse pattern (CSR), and the gradients as sparse products."""

    @staticmethod
    def forward(
        ctx: Any,
        wanted: torch.Tensor,
        below: torch.Tensor,
        offsets: torch.Tensor,
        children: torch.Tensor,
        rows: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(wanted, below, offsets, children, rows)
        if not _fast(wanted):
            return (wanted[rows] * below[children]).sum(dim=-1)
        pattern = _pattern(offsets, children, wanted.new_zeros(len(rows)), len(below))
        return torch.sparse.sampled_addmm(pattern, wanted, below.T, beta=0.0).values()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        wanted, below, offsets, children, rows = ctx.saved_tensors
        if not _fast(wanted):
            to_wanted = torch.zeros_like(wanted).index_add(0, rows, gradient[:, None] * below[children])
            to_below = torch.zeros_like(below).index_add(0, children, gradient[:, None] * wanted[rows])
            return to_wanted, to_below, None, None, None
        weights = _pattern(offsets, children, gradient.contiguous(), len(below))
        return weights @ below, weights.t().to_sparse_csr() @ wanted, None, None, None


def _pattern(offsets: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, width: int) -> torch.Tensor:
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
    return torch.sparse_csr_tensor(offsets, columns, values, size=(len(offsets) - 1, width), check_invariants=False)


def _fast(wanted: torch.Tensor) -> bool:
    """Whether this build of torch has products of sparse patterns on this device."""
    return wanted.device.type == "cuda" or torch.backends.mkl.is_available()
