"""Training losses: pure functions of tensors."""

import torch
import torch.nn.functional as F

from redraft.records import Labels, Reflection

__all__ = ["clipped_objective", "group_advantages", "item_nll", "k3", "next_item_nll", "reflection_nll", "sft_loss"]


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
    """Negative log-likelihood [...] of the labels of drafts, summed over the S slots (paper Eq. 10, first sum)."""
    chosen = labels.split([kind.shape[-2] for kind in reflection.kinds], dim=-1)
    parts = [_nll(kind, label).sum(dim=-1) for kind, label in zip(reflection.kinds, chosen, strict=True)]
    return torch.stack(parts).sum(dim=0)


def sft_loss(
    likelihood: torch.Tensor, reflection: torch.Tensor, correction: torch.Tensor, correction_weight: float
) -> torch.Tensor:
    """The supervised loss [...] of templates from its three parts [...]: MLE + lambda_rc rc (paper Eq. 10)."""
    return likelihood + correction_weight * (reflection + correction)


def group_advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Rank-normalised advantages [U, G] of rewards [U, G] within each user's group (paper Eq. 22).

    A reward's rank is the number of smaller ones plus half of its ties, itself included; ranks get mean 0 and
    variance 1 in their group.
    A group of equal rewards gets 0.
    """
    difference = rewards[..., :, None] - rewards[..., None, :]
    ranks = (difference > 0).float().sum(dim=-1) + 0.5 * (difference == 0).float().sum(dim=-1)
    centred = ranks - rewards.shape[-1] / 2
    spread = centred.square().mean(dim=-1, keepdim=True).sqrt()
    return torch.where(spread > 0, centred / spread.clamp(min=0.5 / rewards.shape[-1]), 0.0)


def clipped_objective(
    log_probs: torch.Tensor,
    old: torch.Tensor,
    reference: torch.Tensor,
    advantages: torch.Tensor,
    *,
    clip_ratio: float,
    kl_weight: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The negated GRPO objective of every action (paper Eq. 23), its KL term, and whether clipping took its gradient.

    log_probs, old, reference: [U, G, A], log-probabilities of the actions under the policy, the policy that took them
    and the reference. advantages: [U, G], one for all actions of a trajectory. The KL estimator is k3.
    """
    ratio = (log_probs - old).exp()
    gain = advantages[..., None]
    clipped = ratio.clamp(1 - clip_ratio, 1 + clip_ratio) * gain
    kl = k3(log_probs, reference)
    return kl_weight * kl - torch.minimum(ratio * gain, clipped), kl, clipped < ratio * gain


def k3(log_probs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """KL(policy || reference) [...] of one sampled action each: r - 1 - log r with r = reference / policy.

    Never negative, and unbiased for samples of the policy (Schulman 2020, "Approximating KL divergence", k3).
    """
    gap = reference - log_probs
    return gap.expm1() - gap


def _nll(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return -logits.float().log_softmax(dim=-1).gather(-1, classes[..., None])[..., 0]
