"""Trajectories sampled and judged, and what a step learns from them (paper sections 4.2.1 to 4.2.3)."""

from typing import NamedTuple

import torch

from redraft.decode.sample import Actions, Rollouts, sample_trajectories, trajectory_log_probs
from redraft.model.template import GRC
from redraft.records import Batch
from redraft.tokenizer.trie import Trie
from redraft.train.losses import clipped_objective, group_advantages, sft_loss
from redraft.train.rewards import RewardTerms, RewardWeights, reward_terms, total_reward
from redraft.train.sft import template_losses

__all__ = ["Experience", "roll_out", "trajectory_losses"]


class Experience(NamedTuple):
    """What one batch of rollouts teaches.

    reference: log-probabilities of the actions under the reference. advantages: [U, G]. stats: what to log, [U] each.
    """

    rollouts: Rollouts
    reference: Actions
    advantages: torch.Tensor
    stats: dict[str, torch.Tensor]


@torch.no_grad()
def roll_out(
    network: GRC,
    reference: GRC,
    batch: Batch,
    trie: Trie,
    reward: RewardWeights,
    *,
    group: int,
    temperature: float,
    distinct: bool,
    near_miss: int,
) -> Experience:
    """Sample G trajectories for each history of a batch and judge them against its target (paper section 4.2.3).

    The encoder runs once a user; its group shares what the decoder reads of it. There is no dropout: the policy that is
    sampled is the one that is trained.
    """
    network.eval()
    memory, n_users = network.remember(batch.history), len(batch.target)
    rollouts = sample_trajectories(network, memory, trie, n_users, group, temperature=temperature, distinct=distinct)
    target, history = network.codes[batch.target][:, None], batch.history[:, None]
    written = rollouts.drafts, rollouts.corrections
    draft, correction = (network.codes[items] for items in written)
    actual, after = (network.labels(items, batch.target[:, None], history) for items in written)
    terms = reward_terms(draft, rollouts.labels, correction, target, actual, after, network.right_labels())
    rewards = total_reward(terms, reward)
    advantages = group_advantages(rewards)
    right = [(codes == target).long().cumprod(-1).sum(-1) for codes in (draft, correction)]
    advantages = advantages * (torch.cat(right, dim=1).amax(dim=1, keepdim=True) >= near_miss)
    expected, entropy = _score(reference, batch.history, rollouts, trie, temperature)
    drafts = rollouts.drafts.sort(dim=1).values
    stats = {name: term.mean(dim=1) for name, term in zip(RewardTerms._fields, terms, strict=True)}
    stats |= {
        "reward": rewards.mean(dim=1),
        "no signal": (advantages == 0).all(dim=1),
        "unique drafts": 1 + (drafts[:, 1:] != drafts[:, :-1]).sum(dim=1),
        "reference entropy draft": entropy.draft.mean(dim=(1, 2)),
        "reference entropy correction": entropy.correction.mean(dim=(1, 2)),
    }
    return Experience(rollouts, expected, advantages, stats)


def _score(
    model: GRC, history: torch.Tensor, rollouts: Rollouts, trie: Trie, temperature: float
) -> tuple[Actions, Actions]:
    """Log-probabilities and entropies of the rollouts' actions under a model, in one teacher-forced pass."""
    logits = model.trajectory(model.encode(history), rollouts.drafts, rollouts.labels, rollouts.corrections)
    assert logits.reflection is not None, "the model reflects"
    return trajectory_log_probs(
        logits.target, logits.reflection, logits.correction, rollouts, trie, temperature=temperature
    )


def trajectory_losses(
    network: GRC,
    batch: Batch,
    experience: Experience,
    *,
    trie: Trie,
    temperature: float,
    clip_ratio: float,
    kl_weight: float,
    sft_weight: float,
    correction_weight: float,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of each user [U]: the mean over the actions of its group, and the supervised one beside it.

    With it comes what to log, [U] each, without gradients.

    Dropout is on for the supervised loss alone.
    """
    network.eval()
    log_probs, entropy = _score(network, batch.history, experience.rollouts, trie, temperature)
    objective, kl, clipped = clipped_objective(
        log_probs.joined(),
        experience.rollouts.log_probs.joined(),
        experience.reference.joined(),
        experience.advantages,
        clip_ratio=clip_ratio,
        kl_weight=kl_weight,
    )
    losses = objective.mean(dim=(1, 2))
    stats = experience.stats | {f"entropy {name}": part.mean(dim=(1, 2)) for name, part in entropy._asdict().items()}
    stats |= {"kl": kl.sum(dim=2).mean(dim=1), "clipped": clipped.float().mean(dim=(1, 2))}
    if sft_weight > 0:
        network.train()
        likelihood, reflected, corrected, _ = template_losses(network, batch, experience.rollouts.drafts[:, :1])
        stats["supervised"] = sft_loss(likelihood, reflected, corrected, correction_weight)[:, 0]
        losses = losses + sft_weight * stats["supervised"]
    return losses, {name: stat.detach().float() for name, stat in stats.items()}
