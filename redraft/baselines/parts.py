"""What the networks of the baselines are made of."""

import torch
import torch.nn.functional as F
from torch import nn

from redraft.baselines.neural import Facts
from redraft.dropout import Dropout

__all__ = ["CausalBlock", "ItemFeatures", "embedded"]


class ItemFeatures(nn.Module):
    """Items as the sum of embeddings of their number, attributes and, if they are read, texts."""

    attributes: torch.Tensor
    vectors: torch.Tensor

    def __init__(self, facts: Facts, width: int):
        super().__init__()
        self.register_buffer("attributes", facts.attributes, persistent=False)
        self.register_buffer("vectors", facts.vectors, persistent=False)
        self.number = nn.Embedding(len(facts.counts), width)
        n_values = (facts.attributes.amax(dim=0) + 2).tolist()
        self.values = nn.ModuleList(nn.Embedding(n, width) for n in n_values)
        self.text = nn.Linear(facts.vectors.shape[1], width, bias=False) if facts.vectors.shape[1] else None
        for embedding in (self.number, *self.values):
            nn.init.normal_(embedding.weight, std=width**-0.5)

    def forward(self) -> torch.Tensor:
        """All items, [N, D]."""
        x = self.number.weight
        for k, embedding in enumerate(self.values):
            x = x + embedding(self.attributes[:, k] + 1)
        return x if self.text is None else x + self.text(self.vectors)


class CausalBlock(nn.Module):
    """Self-attention and feed-forward, each on a normalised residual stream."""

    def __init__(self, width: int, n_heads: int, hidden: int, dropout: float):
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), Dropout(dropout), nn.Linear(hidden, width)
        )
        self.dropout = Dropout(dropout)

    def forward(self, x: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """x [U, T, D], of which each position may attend to those allowed: bool [U, 1, T, T]."""
        query, key, value = self.heads(x)
        return self.mix(x, query, key, value, allowed)

    def heads(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value of x [U, T, D], each [U, heads, T, D / heads]."""
        parts = self.project(self.attention_norm(x)).unflatten(-1, (3, self.n_heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        return query, key, value

    def mix(
        self, x: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor
    ) -> torch.Tensor:
        """The block's output for x [U, T, D] and its query, where keys and values are of any S positions.

        allowed: bool [U, 1, T, S].
        """
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.feed_forward(x))


def embedded(history: torch.Tensor, items: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Histories [U, T] as vectors [U, T, D]: items [N, D] scaled up, plus vectors of positions [.., D], last last."""
    x = F.embedding(history.clamp(min=0), items) * (history >= 0)[..., None]
    return x * items.shape[1] ** 0.5 + position[-history.shape[1] :]
