"""Dropout that is cheap on a processor."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Dropout"]


class Dropout(nn.Module):
    """Dropout whose rate is a multiple of 1/256, so that one random number of 64 bits decides over eight elements.

    On a processor torch draws the elements of a mask one by one on one thread, which took a seventh of a training step
    on one thread and more on two. Elsewhere this is torch's own dropout.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.dropped = round(256 * rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x with about `rate` of its elements 0 and the others scaled up in training; x itself otherwise."""
        if not self.training or self.dropped == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.dropped / 256)
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
        kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - self.dropped))
