"""Sample whole generate-reflect-correct trajectories, and say how probable they were (paper section 4.2.1, Eq. 11-12).

The policy is the model under the trie: at each level its logits divided by the temperature, renormalised over the codes
that lead to an item. All log-probabilities here are of that policy.
"""

from collections.abc import Callable
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import torch

from redraft.decode.beam import Step
from redraft.decode.correct import Corrector, correction_step
from redraft.prefix_tree import PrefixTree
from redraft.records import Labels, Reflection

__all__ = ["Actions", "Rollouts", "sample_trajectories", "trajectory_log_probs"]

Memory = TypeVar("Memory", contravariant=True)
Cache = TypeVar("Cache")


class Actions(NamedTuple):
    """One number for each action of trajectories: draft and correction [U, G, L], reflection [U, G, S]."""

    draft: torch.Tensor
    reflection: torch.Tensor
    correction: torch.Tensor

    def joined(self) -> torch.Tensor:
        """All actions in order, [U, G, 2 L + S]."""
        return torch.cat(self, dim=-1)


class Rollouts(NamedTuple):
    """G sampled trajectories of each of U users.

    drafts, corrections: items, int64 [U, G]. labels: what the model said of each draft [U, G, S]. log_probs: of every
    action when it was taken.
    """

    drafts: torch.Tensor
    labels: Labels
    corrections: torch.Tensor
    log_probs: Actions


class _Written(NamedTuple, Generic[Cache]):
    """Items [U, G] with the log-probability of each code [U, G, L], and what it takes to go on; see beam.Found."""

    items: torch.Tensor
    log_probs: torch.Tensor
    tokens: torch.Tensor
    parents: torch.Tensor
    cache: Cache


def sample_trajectories(
    model: "Corrector[Memory, Cache]",
    memory: Memory,
    trie: PrefixTree,
    n_users: int,
    group: int,
    *,
    temperature: float = 1.0,
    distinct: bool = False,
) -> Rollouts:
    """Draw G trajectories per user by torch's random state; a user's group shares its memory and the first step.

    distinct: draw the drafts of a group without replacement (stochastic beam search), at most N of them. They are then
    no independent samples: unlikely drafts come up more often than the policy would write them.
    """
    draw = _without_replacement if distinct else _independently
    start = torch.zeros((n_users, 1), dtype=torch.int64, device=trie.items.device)
    drafts = _write(partial(model.decode_step, memory=memory), trie, start, group, draw, temperature)
    reflection, cache = model.reflect(drafts.tokens, drafts.parents, drafts.cache, memory)
    assert reflection is not None, "the model reflects"
    labels, reflected = _draw_labels(reflection, temperature)
    rows = torch.arange(drafts.items.shape[1], device=start.device).expand(n_users, -1)
    step = correction_step(model, memory, labels, rows, cache)
    corrections = _write(step, trie, torch.zeros_like(rows), rows.shape[1], _independently, temperature)
    log_probs = Actions(drafts.log_probs, reflected, corrections.log_probs)
    return Rollouts(drafts.items, labels, corrections.items, log_probs)


def trajectory_log_probs(
    draft: torch.Tensor,
    reflection: Reflection,
    correction: torch.Tensor,
    rollouts: Rollouts,
    trie: PrefixTree,
    *,
    temperature: float = 1.0,
) -> tuple[Actions, Actions]:
    """Log-probability of every action of trajectories under teacher-forced logits, and the entropy of its choice.

    draft, correction: logits [U, G, L, C]. Gradients flow through the log-probabilities, not through the entropies.
    """
    taken_draft, draft_entropy = _item_log_probs(draft, rollouts.drafts, trie, temperature)
    taken_labels, label_entropy = _label_log_probs(reflection, rollouts.labels, temperature)
    taken_correction, correction_entropy = _item_log_probs(correction, rollouts.corrections, trie, temperature)
    taken = Actions(taken_draft, taken_labels, taken_correction)
    return taken, Actions(draft_entropy, label_entropy, correction_entropy)


def _write(
    step: "Step[Cache]",
    trie: PrefixTree,
    start: torch.Tensor,
    group: int,
    draw: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]],
    temperature: float,
) -> _Written[Cache]:
    """Grow the roots start [U, R] into G items per user; `draw` chooses among the children of all rows."""
    nodes, keys = start, torch.zeros_like(start, dtype=torch.float32)
    written = keys.new_zeros((*start.shape, 0))
    tokens = parents = cache = None
    for depth in range(trie.n_levels):
        logits, cache = step(tokens, parents, cache)
        log_probs = _constrained(logits, nodes, depth, trie, temperature)
        chosen, keys = draw(log_probs, written.sum(dim=-1), keys, group)
        parents, choices = chosen // log_probs.shape[-1], chosen % log_probs.shape[-1]
        nodes, tokens = trie.take(nodes.gather(1, parents), choices, depth)
        taken = log_probs.flatten(1).gather(1, chosen)
        written = written.gather(1, parents[..., None].expand(-1, -1, depth))
        written = torch.cat([written, taken[..., None]], dim=-1)
    assert tokens is not None, "a trie has a level"
    assert parents is not None, "a trie has a level"
    assert cache is not None, "a trie has a level"
    return _Written(trie.items[nodes].long(), written, tokens, parents, cache)


def _constrained(
    logits: torch.Tensor, nodes: torch.Tensor, depth: int, trie: PrefixTree, temperature: float
) -> torch.Tensor:
    """Log-probabilities [..., F] of the choices that nodes [...] of the trie leave under logits [..., C]."""
    codes, real = trie.choices(nodes, depth)
    scores = logits.float() / temperature
    if codes is not None:
        scores = scores.gather(-1, codes)
    return scores.masked_fill(~real, -torch.inf).log_softmax(dim=-1)


def _gumbel(like: torch.Tensor) -> torch.Tensor:
    return -torch.empty_like(like).exponential_().log()


def _independently(
    log_probs: torch.Tensor, before: torch.Tensor, keys: torch.Tensor, group: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One child of each of G rows, as places [U, G] among the R * F children; a single row serves the whole group."""
    n_rows, fan_out = log_probs.shape[1:]
    rows = log_probs.expand(-1, group, -1)
    row = torch.arange(group, device=rows.device) % n_rows
    return row * fan_out + (rows + _gumbel(rows)).argmax(dim=-1), keys


def _without_replacement(
    log_probs: torch.Tensor, before: torch.Tensor, keys: torch.Tensor, group: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The G children with the largest keys (Kool et al. 2019, arXiv 1903.06059, Algorithm 1).

    before: log-probability [U, R] of each prefix. keys: [U, R], that of each prefix under Gumbel noise; the children's
    noise is drawn so that their largest key is their prefix's.
    """
    drawn = before[..., None] + log_probs
    drawn = drawn + _gumbel(drawn)
    largest = drawn.amax(dim=-1, keepdim=True)
    v = keys[..., None] - drawn + torch.log1p(-(drawn - largest).exp())
    conditioned = keys[..., None] - v.clamp(min=0) - torch.log1p((-v.abs()).exp())
    keys, chosen = conditioned.flatten(1).topk(min(group, int((conditioned > -torch.inf)[0].sum())))
    return chosen, keys


def _draw_labels(reflection: Reflection, temperature: float) -> tuple[Labels, torch.Tensor]:
    kinds = ((logits.float() / temperature).log_softmax(dim=-1) for logits in reflection.kinds)
    labels = torch.cat([(kind + _gumbel(kind)).argmax(-1) for kind in kinds], dim=-1)
    return labels, _label_log_probs(reflection, labels, temperature)[0]


def _label_log_probs(reflection: Reflection, labels: Labels, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies [U, G, S] of the slots, location first."""
    kinds = [(logits.float() / temperature).log_softmax(dim=-1) for logits in reflection.kinds]
    chosen = labels.split([kind.shape[-2] for kind in kinds], dim=-1)
    taken = [kind.gather(-1, label[..., None])[..., 0] for kind, label in zip(kinds, chosen, strict=True)]
    return torch.cat(taken, dim=-1), torch.cat([_entropy(kind) for kind in kinds], dim=-1)


def _item_log_probs(
    logits: torch.Tensor, items: torch.Tensor, trie: PrefixTree, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies [U, G, L] of the codes of items [U, G] under logits [U, G, L, C]."""
    leaves = trie.leaves[items]
    taken, entropies = [], []
    for depth in range(trie.n_levels):
        node, child = trie.ancestors(leaves, depth), trie.ancestors(leaves, depth + 1)
        log_probs = _constrained(logits[:, :, depth], node, depth, trie, temperature)
        taken.append(log_probs.gather(-1, trie.slot(child, node, depth)[..., None])[..., 0])
        entropies.append(_entropy(log_probs))
    return torch.stack(taken, dim=-1), torch.stack(entropies, dim=-1)


def _entropy(log_probs: torch.Tensor) -> torch.Tensor:
    """Entropy [...] in nats of log-probabilities [..., F], some of which may be -inf."""
    return torch.special.entr(log_probs.detach().exp()).sum(dim=-1)
