"""How everything neural is optimised: AdamW, how its learning rate moves, one step, and the best weights so far."""

import copy
import math

import torch
from torch import nn
from torch.optim import Optimizer

from redraft.records import InputError

__all__ = ["Best", "adamw", "cosine", "descend", "learning_rate", "set_learning_rate"]


def adamw(network: nn.Module, learning_rate: float, weight_decay: float) -> Optimizer:
    """AdamW over all weights of a network."""
    return torch.optim.AdamW(
        network.parameters(), lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.98), fused=True
    )


def cosine(step: int, n_steps: int, least: float = 0.02) -> float:
    """The share of the peak rate that a step has: 1 at first, down a cosine to `least`."""
    return least + (1 - least) / 2 * (1 + math.cos(math.pi * step / n_steps))


def learning_rate(peak: float, step: int, n_steps: int) -> float:
    """The rate of a step: a linear warm-up over 1/40 of the steps, then a cosine down to 2 % of the peak."""
    warm_up = min(1.0, (step + 1) / max(1, n_steps // 40))
    return peak * warm_up * cosine(step, n_steps)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the rate of all weights."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def descend(loss: torch.Tensor, network: nn.Module, optimizer: Optimizer, clip: float, epoch: int) -> None:
    """One step down the gradient of a loss, clipped to a norm.

    epoch: from 1. Raises InputError if loss or gradient is not finite; the weights are then as before.
    """
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), clip)
    if not torch.isfinite(loss + norm):
        raise InputError(f"the loss is not finite in epoch {epoch}; train with a lower learning rate")
    optimizer.step()


class Best:
    """The weights of a network that scored highest so far.

    score: of the weights that it has now; without one they are no candidate. since: how many were offered after the
    best.
    """

    def __init__(self, network: nn.Module, score: float | None = None):
        self.network, self.since = network, 0
        self.score = -math.inf if score is None else score
        self._weights = None if score is None else copy.deepcopy(network.state_dict())

    def offer(self, score: float) -> None:
        """The weights as they are now are the best if they score higher than any so far."""
        self.since += 1
        if score > self.score:
            self.score, self.since, self._weights = score, 0, copy.deepcopy(self.network.state_dict())

    def restore(self) -> None:
        """Put the best weights back; without any the last ones stay."""
        if self._weights is not None:
            self.network.load_state_dict(self._weights)
