"""A list put into a new order by a second look at its items."""

import torch

__all__ = ["verified"]


def verified(
    items: torch.Tensor, scores: torch.Tensor, logits: torch.Tensor, trust: float, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best of items [U, R] by log-probability plus trust times the verifier's logit: items and scores [U, k].

    scores, logits: [U, R]; a score of -inf stays, so that a list is never filled up with what may not be shown.
    """
    scores, best = (scores + trust * logits).topk(min(k, items.shape[1]), dim=1)
    return items.gather(1, best), scores
