"""The choice of an item among items by a sampled or a whole softmax."""

import torch

__all__ = ["NEVER", "choices"]

NEVER = -1e9
"""A logit whose probability is 0, finite so that differences of log-probabilities stay numbers."""


def choices(
    states: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor, n_negatives: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits float32 [n, M] and labels int64 [n] of the choice of targets [n] by states [n, D].

    The choice is among all items [N, D], or where n_negatives is not 0 among the target, then label 0, and n_negatives
    items drawn once for all states. Items are drawn by counts [N] + 1, with replacement; each of their logits is
    lowered by the log of how often its item is expected (logQ), which makes the expectation that of the whole softmax.
    A draw that is the target of a state counts for nothing there.
    """
    if not n_negatives:
        return (states @ items.T).float(), targets
    shares = (counts + 1.0) / (counts + 1.0).sum()
    drawn = torch.multinomial(shares, n_negatives, replacement=True)
    right = (states * items[targets]).sum(dim=-1).float()
    wrong = (states @ items[drawn].T).float() - (n_negatives * shares).log()[drawn]
    wrong = wrong.masked_fill(drawn == targets[:, None], NEVER)
    return torch.cat([right[:, None], wrong], dim=1), torch.zeros_like(targets)
