"""A second look at items as wholes: how well an item fits a history by what it is, not by how its codes are written.

This is not in the paper. Its reflection reads the codes of a draft with the network that wrote them, and so knows
nothing of the draft that its log-probability does not tell (docs/LOG.md); the verifier knows items by themselves.
"""

import torch
from torch import nn

from redraft.dropout import Dropout
from redraft.model.layers import EncoderBlock

__all__ = ["Verifier"]

MASKED = -1e9
DROPOUT = 0.3


class Verifier(nn.Module):
    """One block over the encoder's states, and a vector for each of N items.

    It learns beside a backbone that stays as it is.
    """

    def __init__(self, n_items: int, width: int, n_heads: int, hidden: int):
        super().__init__()
        self.block = EncoderBlock(width, n_heads, hidden, DROPOUT)
        self.norm = nn.LayerNorm(width, bias=False)
        self.seen = nn.Embedding(n_items, width)
        self.identity = nn.Embedding(n_items, width)
        self.content = nn.Linear(width, width, bias=False)
        self.popularity = nn.Embedding(n_items, 1)
        self.dropout = Dropout(DROPOUT)
        nn.init.zeros_(self.seen.weight)
        nn.init.normal_(self.identity.weight, std=0.02)
        nn.init.normal_(self.content.weight, std=0.01)
        nn.init.zeros_(self.popularity.weight)

    def read(self, states: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        """What is looked for after each item of histories [U, T], given all so far: [U, T, D] from states [U, T, D]."""
        places = torch.arange(history.shape[1], device=history.device)
        hidden = (places[:, None] < places)[None] | (history < 0)[:, None]
        bias = torch.zeros(hidden.shape, device=states.device).masked_fill(hidden, MASKED)[:, None]
        x = states + self.dropout(self.seen(history.clamp(min=0)))
        return self.dropout(self.norm(self.block(x, bias)))

    def items(self, items: torch.Tensor, contents: torch.Tensor) -> torch.Tensor:
        """Vectors [..., D] of items [...], from what their codes and attributes say [..., D]."""
        return self.content(contents) + self.dropout(self.identity(items))
