"""HSTU's block: gated pointwise attention with biases, no feed-forward (Zhai et al. 2024, arXiv 2402.17152)."""

import torch
import torch.nn.functional as F
from torch import nn

from redraft.dropout import Dropout

__all__ = ["HSTUBlock", "may_attend", "time_buckets"]

BUCKETS = 128
BUCKET_SIZE = 0.301


class HSTUBlock(nn.Module):
    """Attention by SiLU instead of softmax, normalised and gated, on a normalised residual stream (Eq. 1 to 3)."""

    def __init__(self, width: int, n_heads: int, history: int, dropout: float, *, with_time: bool = True):
        super().__init__()
        self.n_heads = n_heads
        self.history = history
        self.project = nn.Linear(width, 4 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout)
        self.distance = nn.Parameter(torch.randn(history) * 0.02)
        self.time = nn.Parameter(torch.randn(BUCKETS + 1) * 0.02) if with_time else None

    def forward(self, x: torch.Tensor, allowed: torch.Tensor, buckets: torch.Tensor | None = None) -> torch.Tensor:
        """x [U, T, D], of which each item may attend to those allowed: bool [U, 1, T, T].

        buckets: int64 [U, T, T], see `time_buckets`; None for no time bias.
        """
        gate, value, query, key = F.silu(self.project(F.layer_norm(x, x.shape[-1:]))).chunk(4, dim=-1)
        query, key, value = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in (query, key, value))
        number = torch.arange(x.shape[1], device=x.device)
        bias = self.distance[(number[:, None] - number).clamp(min=0)]
        if buckets is not None:
            assert self.time is not None, "a block with a bias by time"
            bias = bias + self.time[buckets][:, None]
        weights = F.silu(query @ key.mT + bias) * allowed / self.history
        mixed = F.layer_norm((weights @ value).transpose(1, 2).flatten(2), x.shape[-1:])
        return x + self.out(self.dropout(gate * mixed))


def may_attend(history: torch.Tensor) -> torch.Tensor:
    """bool [U, 1, T, T]: each item of histories [U, T] may attend to itself and to the items before it."""
    n_items = history.shape[1]
    earlier = torch.ones(n_items, n_items, dtype=torch.bool, device=history.device).tril()
    own = torch.eye(n_items, dtype=torch.bool, device=history.device)
    return (earlier & (history >= 0)[:, None, :] | own)[:, None]


def time_buckets(times: torch.Tensor) -> torch.Tensor:
    """Buckets int64 [U, T, T], 0 to BUCKETS, of the seconds between each two of times [U, T], by their logarithm."""
    seconds = (times[:, :, None] - times[:, None]).abs().clamp(min=1)
    return (seconds.double().log() / BUCKET_SIZE).long().clamp(max=BUCKETS)
