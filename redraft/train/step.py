"""One step of a training loop over one process or many."""

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from redraft.rates import learning_rate
from redraft.records import InputError

__all__ = ["descend", "new_optimizer", "set_learning_rate"]


def new_optimizer(network: nn.Module, learning_rate: float, weight_decay: float) -> Optimizer:
    """AdamW over all weights."""
    return torch.optim.AdamW(
        network.parameters(), lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.98), fused=True
    )


def set_learning_rate(optimizer: Optimizer, peak: float, step: int, n_steps: int) -> None:
    """Set the rate of a step; see redraft.rates.learning_rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(peak, step, n_steps)


def descend(
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: Optimizer,
    loss: torch.Tensor,
    sums: torch.Tensor,
    *,
    clip: float,
    step: int,
) -> list[float]:
    """Step down the gradient of the mean loss a target of the whole batch, however many processes share it.

    loss: summed over the targets of this process. sums: what to add up over processes for the log, the number of
    targets last. Returns those sums.
    Raises InputError if anything is not finite; the weights are then as before.
    """
    sums = accelerator.reduce(sums, "sum")
    accelerator.backward(loss / sums[-1] * accelerator.num_processes)
    norm = accelerator.clip_grad_norm_(network.parameters(), clip)
    if not torch.isfinite(sums.sum() + norm):
        raise InputError(f"the loss is not finite at step {step}; train again with a lower learning rate")
    optimizer.step()
    optimizer.zero_grad()
    found: list[float] = sums.tolist()
    return found
