"""Which drafts deserve to be corrected: entropy-guided reflection scheduling (paper section 4.3)."""

import torch

from redraft.records import Reflection

__all__ = ["reflection_entropy", "schedule"]


def reflection_entropy(reflection: Reflection) -> torch.Tensor:
    """Mean entropy [...] of the K + 1 reflection distributions of each draft, in nats (paper Eq. 24)."""
    entropies = torch.cat([_entropy(reflection.location)[..., None], _entropy(reflection.match)], dim=-1)
    return entropies.mean(dim=-1)


def schedule(
    log_probs: torch.Tensor, entropy: torch.Tensor, settled: torch.Tensor, *, alpha: float, budget: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The drafts that get the correction budget: the best by log p + alpha * entropy (paper Eq. 25).

    log_probs, entropy: [U, R]. settled: bool [U, R], drafts that need no correction.
    Returns rows int64 [U, budget] and bool [U, budget], False where fewer drafts than the budget are unsettled.
    """
    scores = (log_probs + alpha * entropy).masked_fill(settled, -torch.inf)
    best, rows = scores.topk(budget, dim=-1)
    return rows, best > -torch.inf


def _entropy(logits: torch.Tensor) -> torch.Tensor:
    log_probs = logits.float().log_softmax(dim=-1)
    return -(log_probs.exp() * log_probs).sum(dim=-1)
