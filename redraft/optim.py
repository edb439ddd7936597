"""How everything neural is optimised: AdamW, and how its learning rate moves."""

import math

import torch
from torch import nn
from torch.optim import Optimizer

__all__ = ["adamw", "learning_rate", "set_learning_rate"]


def adamw(network: nn.Module, learning_rate: float, weight_decay: float) -> Optimizer:
    """AdamW over all weights of a network."""
    return torch.optim.AdamW(
        network.parameters(), lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.98), fused=True
    )


def learning_rate(peak: float, step: int, n_steps: int) -> float:
    """The rate of a step: a linear warm-up over 1/40 of the steps, then a cosine down to 2 % of the peak."""
    warm_up = min(1.0, (step + 1) / max(1, n_steps // 40))
    return peak * warm_up * (0.02 + 0.49 * (1 + math.cos(math.pi * step / n_steps)))


def set_learning_rate(optimizer: Optimizer, peak: float, step: int, n_steps: int) -> None:
    """Set the rate of a step; see `learning_rate`."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(peak, step, n_steps)
