"""What reflection says of drafts, and which of them deserve to be corrected (paper section 4.3)."""

import torch

from redraft.records import Labels, Reflection

__all__ = ["label_hypotheses", "reflection_entropy", "schedule"]


def reflection_entropy(reflection: Reflection) -> torch.Tensor:
    """Mean entropy [...] of the K + 1 reflection distributions of each draft, in nats (paper Eq. 24)."""
    entropies = torch.cat([_entropy(reflection.location)[..., None], _entropy(reflection.match)], dim=-1)
    return entropies.mean(dim=-1)


def label_hypotheses(reflection: Reflection, n: int) -> tuple[Labels, torch.Tensor]:
    """The n most probable label vectors that call a draft wrong, [..., n], and their log-probabilities [..., n].

    Labels are independent given the draft (Eq. 8), so a vector's log-probability is the sum of theirs, and the n best
    begin with n best of fewer labels. Over all vectors the probabilities add up to 1 - P(r_loc = L + 1). There are
    fewer than n where L * 2^K is smaller.
    """
    log_probs, location = _most(reflection.location.float().log_softmax(dim=-1)[..., :-1], n)
    match = reflection.match.float().log_softmax(dim=-1)
    chosen = location.new_zeros((*location.shape, 0))
    for k in range(match.shape[-2]):
        both = (log_probs[..., None] + match[..., k, None, :]).flatten(-2)
        log_probs, place = _most(both, n)
        row = place // 2
        location = location.gather(-1, row)
        chosen = torch.cat([chosen.gather(-2, row[..., None].expand(*row.shape, k)), (place % 2)[..., None]], dim=-1)
    return Labels(location, chosen), log_probs


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
