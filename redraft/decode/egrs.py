"""What reflection says of drafts, and which of them deserve to be corrected (paper section 4.3)."""

import torch

from redraft.records import Labels, Reflection

__all__ = ["label_hypotheses", "reflection_entropy", "schedule"]


def reflection_entropy(reflection: Reflection) -> torch.Tensor:
    """Mean entropy [...] of the S reflection distributions of each draft, in nats (paper Eq. 24)."""
    return torch.cat([_entropy(kind) for kind in reflection.kinds], dim=-1).mean(dim=-1)


def label_hypotheses(reflection: Reflection, n: int) -> tuple[Labels, torch.Tensor]:
    """The n most probable label vectors that call a draft wrong, [..., n, S], and their log-probabilities [..., n].

    Labels are independent given the draft (Eq. 8), so a vector's log-probability is the sum of theirs, and the n best
    begin with n best of fewer labels. Over all vectors the probabilities add up to 1 - P(r_loc = L + 1). There are
    fewer than n where there are fewer such vectors.
    """
    location, *others = (logits.float().log_softmax(dim=-1) for logits in reflection.slots())
    log_probs, best = _most(location[..., :-1], n)
    chosen = best[..., None]
    for slot in others:
        both = (log_probs[..., None] + slot[..., None, :]).flatten(-2)
        log_probs, flat = _most(both, n)
        row, label = flat // slot.shape[-1], flat % slot.shape[-1]
        before = chosen.gather(-2, row[..., None].expand(*row.shape, chosen.shape[-1]))
        chosen = torch.cat([before, label[..., None]], dim=-1)
    return chosen, log_probs


def _most(log_probs: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return log_probs.topk(min(n, log_probs.shape[-1]))


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
