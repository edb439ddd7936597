"""Training losses: pure functions of tensors."""

import torch
import torch.nn.functional as F

from redraft.records import Labels, Reflection

__all__ = ["item_nll", "next_item_nll", "reflection_nll"]


def next_item_nll(logits: torch.Tensor, codes: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Negative log-likelihood [U, R] of items under logits [U, R, L, C], given their codes [U, R, L] (paper Eq. 1).

    label_smoothing spreads that share of each code's target evenly over its level.
    """
    loss = F.cross_entropy(
        logits.flatten(0, 2).float(), codes.flatten(), reduction="none", label_smoothing=label_smoothing
    )
    return loss.view_as(codes).sum(dim=-1)


def item_nll(logits: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood [n] of items [n] as wholes, among all items, under logits [n, N]."""
    return F.cross_entropy(logits, items, reduction="none")


def reflection_nll(reflection: Reflection, labels: Labels) -> torch.Tensor:
    """Negative log-likelihood [...] of the labels of drafts, summed over the K + 1 slots (paper Eq. 10, first sum)."""
    location = _nll(reflection.location, labels.location)
    return location + _nll(reflection.match, labels.match).sum(dim=-1)


def _nll(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return -logits.float().log_softmax(dim=-1).gather(-1, classes[..., None])[..., 0]
