"""How drafts and corrections become one ranked list: named policies."""

from collections.abc import Callable
from typing import Literal, get_args

import torch

__all__ = ["POLICIES", "MergePolicy", "merge"]

MergePolicy = Literal["replace", "union-best", "union-logsumexp"]
POLICIES: tuple[MergePolicy, ...] = get_args(MergePolicy)


def merge(
    drafts: tuple[torch.Tensor, torch.Tensor],
    kept: torch.Tensor,
    corrections: tuple[torch.Tensor, torch.Tensor],
    policy: MergePolicy,
    k: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best items [U, k] and their scores, each item once; -1 and -inf where there are fewer.

    drafts: items [U, R] and log-probabilities of the draft paths. kept: [U, R], log-probability that a draft is left as
    it is. corrections: items [U, R'] and log-probabilities of the paths draft -> correction; -1 and -inf pad both.

    - replace: a draft gives way to its corrections as far as it is not kept; an item scores the log of the sum over its
      paths. With all drafts and labels in the budget this is the probability that the model ends up with the item.
    - union-best: all drafts and corrections; an item scores its best path.
    - union-logsumexp: all drafts and corrections; an item scores the log of the sum over its paths.
    """
    draft_scores = drafts[1] + kept if policy == "replace" else drafts[1]
    items = torch.cat([drafts[0], corrections[0]], dim=1)
    scores = torch.cat([draft_scores, corrections[1]], dim=1)
    combine: Callable[..., torch.Tensor] = _best if policy == "union-best" else _total
    items, order = items.sort(dim=1, stable=True)
    scores = scores.gather(1, order)
    group = torch.nn.functional.pad((items[:, 1:] != items[:, :-1]).long().cumsum(dim=1), (1, 0))
    combined = combine(scores, group)
    first = torch.nn.functional.pad(group[:, 1:] != group[:, :-1], (1, 0), value=True)
    combined = combined.gather(1, group).masked_fill(~first | (items < 0), -torch.inf)
    scores, best = combined.topk(min(k, combined.shape[1]), dim=1)
    return torch.where(scores > -torch.inf, items.gather(1, best), -1), scores


def _best(scores: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    return torch.full_like(scores, -torch.inf).scatter_reduce(1, group, scores, "amax")


def _total(scores: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    best = _best(scores, group)
    reference = best.clamp(min=torch.finfo(best.dtype).min)
    shares = (scores - reference.gather(1, group)).exp()
    return reference + torch.zeros_like(scores).scatter_add(1, group, shares).log()
