"""What the generator knows of an item as a whole."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ItemVectors"]


class ItemVectors(nn.Module):
    """A vector per item: the sum of embeddings of its number, codes and attributes."""

    def __init__(self, codes: torch.Tensor, codebook_size: int, n_values: list[int], width: int, number_dropout: float):
        super().__init__()
        self.number = nn.Embedding(len(codes), width)
        self.codes = nn.Embedding(codes.shape[1] * codebook_size, width)
        self.attributes = nn.ModuleList(nn.Embedding(n + 1, width) for n in n_values)
        self.number_dropout = number_dropout

    def initialise(self) -> None:
        """Start small: what AdamW moves by its learning rate would otherwise take epochs to change direction."""
        for embedding in (self.number, self.codes, *self.attributes):
            nn.init.normal_(embedding.weight, std=embedding.embedding_dim**-0.5)

    def forward(self, codes: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        """The vectors [N, D] of all items by their codes [N, L], counted on over the levels, and attributes [N, K]."""
        x = self.number.weight
        if self.training and self.number_dropout:
            x = x * (torch.rand(len(x), 1, device=x.device) >= self.number_dropout)
        x = x + F.embedding_bag(codes, self.codes.weight, mode="sum")
        for k, embedding in enumerate(self.attributes):
            x = x + embedding(attributes[:, k] + 1)
        return x
