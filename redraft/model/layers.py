"""The few layers of the backbone: attention with a relative bias, feed-forward, encoder and decoder blocks.

Training sees all positions at once (`forward`); a search adds positions to sequences that it has (`step`). Both give
the same numbers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from redraft.dropout import Dropout

__all__ = ["Attention", "DecoderBlock", "EncoderBlock", "FeedForward", "KeysValues", "Recall"]


class KeysValues(NamedTuple):
    """What attention reads: keys and values, each [..., H, S, D / H]; [..., S, H, D / H] as `Attention.write` gives."""

    keys: torch.Tensor
    values: torch.Tensor


class Recall(NamedTuple):
    """What many sequences read of one user: keys [U, D, H * S] and values [U, H * S, D].

    The query and output projections are multiplied into them once, so a reader does without both.
    """

    keys: torch.Tensor
    values: torch.Tensor


class Attention(nn.Module):
    """Multi-head attention over keys and values that the caller projects once and keeps."""

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def project(self, source: torch.Tensor) -> KeysValues:
        """Keys and values [..., H, S, D / H] of source [..., S, D]."""
        keys, values = self.key_value(source).chunk(2, dim=-1)
        return KeysValues(self._split(keys), self._split(values))

    def forward(self, x: torch.Tensor, kv: KeysValues, bias: torch.Tensor | None) -> torch.Tensor:
        """Read kv from x [..., Q, D] under an additive bias that broadcasts to [..., H, Q, S]; gives [..., Q, D]."""
        queries = self._split(self.query(x))
        mixed = F.scaled_dot_product_attention(queries, kv.keys, kv.values, attn_mask=bias)
        return self.out(mixed.transpose(-3, -2).flatten(-2))

    def write(self, x: torch.Tensor) -> KeysValues:
        """Keys and values of new positions x [U, R, Q, D] for later steps: float32 [U, R, Q, H, D / H]."""
        return KeysValues(*(self._heads(part) for part in self.key_value(x).chunk(2, dim=-1)))

    def step(self, x: torch.Tensor, past: Sequence[KeysValues]) -> tuple[torch.Tensor, KeysValues]:
        """New positions x [U or 1, R or 1, Q, D] read the past and themselves, but not one another.

        past: one position each, float32 [U, R or 1, 1, H, D / H]. Returns [U, R, Q, D] and the keys and values of the
        new positions. There are few positions and many sequences: so this goes by position, over all sequences.
        """
        queries, own = self._heads(self.query(x)), self.write(x)
        scores = torch.stack(torch.broadcast_tensors(*((queries * kv.keys).sum(dim=-1) for kv in (*past, own))))
        *shares, last = (scores * queries.shape[-1] ** -0.5).softmax(dim=0)[..., None].unbind(0)
        mixed = last * own.values
        for share, kv in zip(shares, past):
            mixed = mixed.addcmul_(share, kv.values)
        return self.out(mixed.flatten(-2)), own

    def recall(self, source: torch.Tensor) -> Recall:
        """Keys and values of source [U, S, D] for `read`."""
        keys, values = (x.unflatten(-1, (self.n_heads, -1)) for x in self.key_value(source).chunk(2, dim=-1))
        query, out = (
            self.query.weight.unflatten(0, (self.n_heads, -1)),
            self.out.weight.unflatten(1, (self.n_heads, -1)),
        )
        keys = torch.einsum("ushe,hed->udhs", keys * keys.shape[-1] ** -0.5, query)
        return Recall(keys.flatten(2), torch.einsum("ushe,dhe->uhsd", values, out).flatten(1, 2))

    def read(self, x: torch.Tensor, recall: Recall, bias: torch.Tensor) -> torch.Tensor:
        """As `forward` over what `recall` kept: x [U, Q, D] under a bias [U, 1, H * S]."""
        scores = torch.baddbmm(bias, x, recall.keys).float()
        shares = scores.unflatten(-1, (self.n_heads, -1)).softmax(dim=-1).flatten(-2)
        return torch.bmm(shares, recall.values)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(-3, -2)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().unflatten(-1, (self.n_heads, -1))


class FeedForward(nn.Module):
    """Two linear maps around a GELU."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., D] to [..., D]."""
        return self.down(F.gelu(self.up(x)))


class EncoderBlock(nn.Module):
    """Self-attention and feed-forward, each on a normalised residual stream."""

    def __init__(self, width: int, n_heads: int, hidden: int, dropout: float):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.attention = Attention(width, n_heads)
        self.feed_forward_norm = nn.LayerNorm(width, bias=False)
        self.feed_forward = FeedForward(width, hidden)
        self.dropout = Dropout(dropout)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """x [U, S, D] under bias [U, H, S, S]."""
        normed = self.attention_norm(x)
        x = x + self.dropout(self.attention(normed, self.attention.project(normed), bias))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class DecoderBlock(nn.Module):
    """Self-attention within a sequence, cross-attention to its user, feed-forward."""

    def __init__(self, width: int, n_heads: int, hidden: int, dropout: float):
        super().__init__()
        self.self_norm = nn.LayerNorm(width, bias=False)
        self.self_attention = Attention(width, n_heads)
        self.cross_norm = nn.LayerNorm(width, bias=False)
        self.cross_attention = Attention(width, n_heads)
        self.feed_forward_norm = nn.LayerNorm(width, bias=False)
        self.feed_forward = FeedForward(width, hidden)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: torch.Tensor, memory: torch.Tensor, self_bias: torch.Tensor, cross_bias: torch.Tensor
    ) -> torch.Tensor:
        """All Q positions of R sequences a user at once: x [U, R, Q, D] to [U, R, Q, D].

        The sequences of one user share its memory [U, S, D]: their queries are one long row of queries.
        self_bias: broadcasts to [U, R, H, Q, Q]. cross_bias: broadcasts to [U, H, R * Q, S].
        """
        normed = self.self_norm(x)
        x = x + self.dropout(self.self_attention(normed, self.self_attention.project(normed), self_bias))
        queries, kept = self.cross_norm(x).flatten(1, 2), self.cross_attention.project(memory)
        x = x + self.dropout(self.cross_attention(queries, kept, cross_bias)).unflatten(1, x.shape[1:3])
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def step(
        self, x: torch.Tensor, past: Sequence[KeysValues], memory: Recall, cross_bias: torch.Tensor
    ) -> tuple[torch.Tensor, KeysValues]:
        """New positions x [U, R, Q, D] after the past; as `forward` would give them. See `Attention.step`, `read`."""
        mixed, own = self.self_attention.step(self.self_norm(x), past)
        x = x + mixed
        read = self.cross_attention.read(self.cross_norm(x).flatten(1, 2), memory, cross_bias)
        x = x + read.unflatten(1, x.shape[1:3])
        return x + self.feed_forward(self.feed_forward_norm(x)), own
