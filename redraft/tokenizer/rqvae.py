"""The residual-quantised autoencoder that turns item vectors into semantic IDs.

Rajput et al. 2023 (TIGER), section 3.1, after Lee et al. 2022; the paper's setting is 4 levels of 300 codes.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from redraft.tokenizer.kmeans import residual_kmeans

__all__ = ["RQVAE", "RqvaeLosses", "sinkhorn"]


class RqvaeLosses(NamedTuple):
    """The three terms of the loss, each a mean over rows and dimensions."""

    reconstruction: Tensor
    codebook: Tensor
    commitment: Tensor


class RQVAE(nn.Module):
    """MLP encoder, L codebooks of C codes on the residuals of the latent vector, MLP decoder.

    vectors: [n, width], from which the input's mean and scale are taken: inside, data have mean 0 and variance 1.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        vectors: Tensor,
        *,
        hidden: Sequence[int],
        latent: int,
        levels: int,
        codebook_size: int,
        sinkhorn_epsilon: float,
        seed: int,
    ) -> None:
        super().__init__()
        widths = [vectors.shape[1], *hidden, latent]
        generator = torch.Generator().manual_seed(seed)
        self.encoder = _mlp(widths, generator)
        self.decoder = _mlp(widths[::-1], generator)
        self.codebooks = nn.Parameter(torch.zeros(levels, codebook_size, latent))
        self.sinkhorn_epsilon = sinkhorn_epsilon
        mean = vectors.mean(dim=0)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", (vectors - mean).square().mean().sqrt().clamp(min=1e-12))

    def encode(self, vectors: Tensor) -> Tensor:
        """Latents [n, D] from vectors [n, width]."""
        latents: Tensor = self.encoder((vectors - self.mean) / self.scale)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Vectors [n, width] from (quantised) latents [n, D]."""
        vectors: Tensor = self.decoder(latents) * self.scale + self.mean
        return vectors

    def forward(self, vectors: Tensor) -> RqvaeLosses:
        """The losses of one batch [n, width]; gradients pass the quantiser straight through.

        Every level sees a residual from which the codes so far are taken as constants, so each level's commitment
        reaches the encoder. The last level's codes are assigned evenly (`sinkhorn`), the others to the nearest.
        """
        latents = self.encode(vectors)
        residual, chosen = latents, torch.zeros_like(latents)
        codebook_loss = commitment_loss = latents.new_zeros(())
        for level, codebook in enumerate(self.codebooks):
            last = level == len(self.codebooks) - 1
            distances = _squared_distances(residual.detach(), codebook.detach())
            assignment = sinkhorn(distances, self.sinkhorn_epsilon) if last else -distances
            code = codebook[assignment.argmax(dim=1)]
            codebook_loss = codebook_loss + functional.mse_loss(code, residual.detach())
            commitment_loss = commitment_loss + functional.mse_loss(residual, code.detach())
            residual = residual - code.detach()
            chosen = chosen + code.detach()
        straight_through = latents + (chosen - latents).detach()
        difference = (self.decode(straight_through) - vectors) / self.scale
        return RqvaeLosses(difference.square().mean(), codebook_loss, commitment_loss)

    @torch.no_grad()
    def initialize_codebooks(self, vectors: Tensor, *, seed: int) -> None:
        """Start the codes at the k-means centres of the residuals of vectors [n, width], level by level.

        Raises InputError if n is below the codebook's size.
        """
        levels, codebook_size, _ = self.codebooks.shape
        latents = self.encode(vectors).cpu().numpy()
        centres = residual_kmeans(latents, levels=levels, codebook_size=codebook_size, seed=seed)
        self.codebooks.copy_(torch.from_numpy(centres))

    @torch.no_grad()
    def revive_dead_codes(self, vectors: Tensor, *, generator: torch.Generator) -> list[int]:
        """Move each code that no row of vectors [n, width] uses onto the residual of a random row.

        Returns how many were moved at each level.
        """
        residual, revived = self.encode(vectors), []
        for codebook in self.codebooks:
            codes = _squared_distances(residual, codebook).argmin(dim=1)
            dead = torch.bincount(codes, minlength=len(codebook)) == 0
            n_dead = int(dead.sum())
            left = residual - codebook[codes]
            codebook[dead] = residual[torch.randperm(len(vectors), generator=generator)[:n_dead].to(vectors.device)]
            residual = left
            revived.append(n_dead)
        return revived


@torch.no_grad()
def sinkhorn(distances: Tensor, epsilon: float, iterations: int = 30) -> Tensor:
    """A soft assignment [n, C] of rows to codes in which each code gets an equal share of the rows.

    Entropy-regularised optimal transport (Cuturi 2013) from squared distances [n, C]; epsilon is relative to their
    mean, and the smaller it is the closer the assignment stays to the nearest code.
    """
    nearest = distances.min(dim=1, keepdim=True).values
    kernel = torch.exp(-(distances - nearest).double() / (epsilon * distances.mean().clamp(min=1e-12)))
    columns = torch.ones(kernel.shape[1], dtype=kernel.dtype, device=kernel.device)
    for _ in range(iterations):
        rows = 1 / (kernel @ columns).clamp(min=1e-200)
        columns = len(kernel) / kernel.shape[1] / (kernel.T @ rows).clamp(min=1e-200)
    return kernel * columns / (kernel @ columns).clamp(min=1e-200)[:, None]


def _squared_distances(vectors: Tensor, codebook: Tensor) -> Tensor:
    squares = vectors.square().sum(dim=1, keepdim=True) + codebook.square().sum(dim=1)
    return torch.addmm(squares, vectors, codebook.T, alpha=-2).clamp(min=0)


def _mlp(widths: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        linear = nn.Linear(inputs, outputs)
        nn.init.xavier_normal_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
