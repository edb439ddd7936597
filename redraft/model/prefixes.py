"""What stands below each prefix: a vector for every node of the trie, pooled from the vectors of its items."""

import warnings
from typing import Any

import torch
import torch.nn.functional as F

from redraft.prefix_tree import PrefixTree

__all__ = ["child_scores", "pooled"]


def pooled(vectors: torch.Tensor, tree: PrefixTree) -> list[torch.Tensor]:
    """The vector of every node of depths 1 to L, [n_d, D] each: the mean of the unit vectors of the items below it.

    vectors: [N, D], of items. Depth by depth from below, so that the whole costs one pass over each depth.
    """
    sums = F.normalize(vectors.float(), dim=-1)[tree.items.long()]
    found = [sums]
    for depth in range(tree.n_levels - 1, 0, -1):
        starts = tree.child_start[depth]
        parents = torch.repeat_interleave(
            torch.arange(len(starts) - 1, device=sums.device), starts.diff().long(), output_size=len(sums)
        )
        sums = sums.new_zeros((len(starts) - 1, sums.shape[1])).index_add(0, parents, sums)
        found.insert(0, sums / tree.leaf_start[depth].diff()[:, None])
    return found


def child_scores(
    wanted: torch.Tensor,
    nodes: torch.Tensor,
    depth: int,
    below: torch.Tensor,
    bias: torch.Tensor,
    tree: PrefixTree,
    codebook_size: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """How well all real children of nodes [n] of one depth fit what is wanted [n, D].

    below, bias: [n_{depth + 1}, D] and [n_{depth + 1}], the vectors of the children and what is added. Returns
    scores [n, C] by code, 0 where there is no such child, and bool [n, C], where there is one. Each pair of a row and
    one of its children is one product; nothing of n x F x D is made.
    """
    starts = tree.child_start[depth].long()
    first, counts = starts[nodes], starts[nodes + 1] - starts[nodes]
    ends = counts.cumsum(0)
    rows = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), counts)
    children = torch.arange(len(rows), device=nodes.device) + (first - ends + counts)[rows]
    codes = tree.tokens[depth][children].long()
    products: torch.Tensor = _PairProducts.apply(wanted, below, F.pad(ends, (1, 0)), children, rows)  # type: ignore[no-untyped-call]
    scores = products + bias[children]
    filled = wanted.new_zeros((len(nodes), codebook_size)).index_put((rows, codes), scores)
    real = torch.zeros(filled.shape, dtype=torch.bool, device=nodes.device).index_put((rows, codes), rows >= 0)
    return filled, real


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
