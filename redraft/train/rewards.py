"""What a generate-reflect-correct trajectory is worth (paper section 4.2.2, Eq. 13-21): pure functions of tensors."""

import math
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch

from redraft.records import InputError, Labels

__all__ = [
    "RewardTerms",
    "RewardWeights",
    "check_weights",
    "hits",
    "improvement",
    "location_fixed",
    "location_right",
    "match_fixed",
    "match_right",
    "reward_terms",
    "total_reward",
]


@dataclass(frozen=True)
class RewardWeights:
    """The weights of the reward; 0 switches a term off (the ablations of the paper's Table 3)."""

    task: float = 1.0
    """Weight of R_task; the paper has 1 (Eq. 13)."""
    last: float = 2.0
    """beta_last: what a right code of the correction is worth beside one of the draft (Eq. 15)."""
    correction: float = 2.2
    """beta_cor, weight of R_cor (Eq. 13)."""
    location: float = 1.0
    """beta_loc, weight of R_loc (Eq. 16)."""
    semantic: float = 0.8
    """beta_sem, weight of R_sem (Eq. 16)."""
    improvement: float = 1.0
    """Weight of R_delta; the paper has 1 (Eq. 16)."""


class RewardTerms(NamedTuple):
    """The parts of the reward of trajectories, float32 [U, G] each, before any weight."""

    draft_hits: torch.Tensor
    correction_hits: torch.Tensor
    location_right: torch.Tensor
    location_fixed: torch.Tensor
    match_right: torch.Tensor
    match_fixed: torch.Tensor
    improvement: torch.Tensor


def check_weights(weights: RewardWeights) -> None:
    """Raise InputError for a weight that is negative or not a number, and if none is left."""
    for name, weight in asdict(weights).items():
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"reward weight {name} = {weight}: it must be >= 0; 0 switches the term off")
    if not any(asdict(weights).values()):
        raise InputError("all reward weights are 0, so there is nothing to learn; give one of them a value")


def reward_terms(
    drafts: torch.Tensor,
    labels: Labels,
    corrections: torch.Tensor,
    targets: torch.Tensor,
    actual: Labels,
    after: Labels,
    right: torch.Tensor,
) -> RewardTerms:
    """All terms for trajectories with the model's labels [U, G, S].

    drafts, corrections, targets: codes [U, G, L], those of the targets [U, 1, L]. actual, after: the true labels
    [U, G, S] of drafts and corrections. right: int64 [S], the class of each slot that a right draft has, -1 for slots
    that do not judge; the location is the first slot.
    """
    before_hits, after_hits = hits(drafts, targets), hits(corrections, targets)
    judges = right[1:] >= 0
    said, were, become = (x[..., 1:][..., judges] for x in (labels, actual, after))
    return RewardTerms(
        before_hits,
        after_hits,
        location_right(labels[..., 0], actual[..., 0]),
        location_fixed(labels[..., 0], drafts, corrections, targets),
        match_right(labels[..., 1:], actual[..., 1:]),
        match_fixed(said, were, become, right[1:][judges]),
        improvement(before_hits, after_hits),
    )


def total_reward(terms: RewardTerms, weights: RewardWeights) -> torch.Tensor:
    """R [U, G] (Eq. 13, 15, 16)."""
    task = terms.draft_hits + weights.last * terms.correction_hits
    location = terms.location_right + terms.location_fixed
    semantic = terms.match_right + terms.match_fixed
    corrected = weights.location * location + weights.semantic * semantic + weights.improvement * terms.improvement
    return weights.task * task + weights.correction * corrected


def hits(written: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How many codes [..., L] are the target's at the same level, right prefix or not (Eq. 14)."""
    return (written == target).sum(dim=-1).float()


def location_right(predicted: torch.Tensor, actual: torch.Tensor) -> torch.Tensor:
    """1 where the first wrong code was found (Eq. 17); both count the right codes before it, as Labels do."""
    return (predicted == actual).float()


def location_fixed(
    predicted: torch.Tensor, draft: torch.Tensor, correction: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """The share of the predicted error region that was wrong and is now right (Eq. 18); 0 for an empty region.

    predicted: [...], right codes before the region. The codes: [..., L]. The paper's epsilon only keeps an empty region
    from dividing by zero; here it is left out elsewhere.
    """
    region = torch.arange(draft.shape[-1], device=draft.device) >= predicted[..., None]
    fixed = (draft != target) & (correction == target)
    return (region & fixed).sum(dim=-1) / region.sum(dim=-1).clamp(min=1)


def match_right(predicted: torch.Tensor, actual: torch.Tensor) -> torch.Tensor:
    """The share of slots [..., K] beside the location that were judged rightly (Eq. 19); 0 without any."""
    return _share(predicted == actual)


def match_fixed(
    predicted: torch.Tensor, before: torch.Tensor, after: torch.Tensor, right: torch.Tensor | int = 1
) -> torch.Tensor:
    """The share of slots [..., K] that were rightly called wrong and are right after correction (Eq. 20).

    right: the class of each slot that a right draft has.
    """
    return _share((predicted != right) & (before != right) & (after == right))


def improvement(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """How many hits the correction gained; a loss counts 0 (Eq. 21)."""
    return (after - before).clamp(min=0)


def _share(which: torch.Tensor) -> torch.Tensor:
    return which.sum(dim=-1) / max(which.shape[-1], 1)
