"""ReaRec: SASRec that thinks in latent steps before it recommends (Tang et al. 2025, arXiv 2503.22675).

After the last hidden state r_0 of a history come n reasoning steps. Step k is fed r_(k-1) plus the embedding of
reasoning position k, attends to the whole history and to the steps before it, and its last hidden state is r_k. It
learns in one of two ways:

- ERL: the states are an ensemble. Each predicts the target, their distributions are pushed apart by their divergence
  (weight `diversity`), and the mean of the states recommends.
- PRL: the states go from coarse to sharp. State k predicts at temperature tau * alpha^(n-k); a chain whose inputs carry
  noise must find its own clean state among those of the batch (weight `contrast`); the last state recommends.

Settled here: each position of a training row thinks for itself, as one row per event would (but for the positions,
which count from the end of the row, as SASRec's do); the losses of the n + 1 states are averaged; a step is
pushed away from the others' distributions as they stand, which carry no gradient there; the contrast is between
directions (cosines), because the states are normalised to length sqrt(D); with `negatives` all distributions are over
the sampled items.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import nn

from redraft.baselines.neural import Facts, NeuralRecommender
from redraft.baselines.parts import CausalBlock, embedded
from redraft.baselines.sasrec import CausalNetwork, CausalSettings
from redraft.model.choices import choices
from redraft.model.hstu import may_attend
from redraft.records import Batch, check_above, check_least

__all__ = ["ReaRec", "ReaRecSettings", "contrast", "disagreement", "temperatures"]

Memory = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each block, [U, heads, S, D / heads]."""


@dataclass(frozen=True)
class ReaRecSettings(CausalSettings):
    """The causal network, its reasoning and what it learns from."""

    learning: Literal["erl", "prl"] = "erl"
    """Ensemble or progressive reasoning learning."""
    steps: int = 2
    """Reasoning steps n after a history."""
    negatives: int = 0
    """Items drawn for each step of a sampled softmax, as often as they were bought; 0 for all items."""
    temperature: float = 1.0
    """Temperature tau of the predictions; of the last one in PRL."""
    diversity: float = 0.05
    """ERL: weight of the divergence between the states' predictions."""
    annealing: float = 2.0
    """PRL: alpha, by how much each earlier state's temperature is higher."""
    noise: float = 0.1
    """PRL: standard deviation of the noise on reasoning inputs, whose own is 1."""
    contrast: float = 0.1
    """PRL: weight of the contrast between noisy and clean chains."""
    contrast_temperature: float = 0.1
    """PRL: temperature of the contrast's cosines."""


class ReaRecNetwork(CausalNetwork):
    """SASRec's states, each followed by a chain of reasoning steps."""

    def __init__(self, settings: ReaRecSettings, facts: Facts):
        check_least(1, steps=settings.steps)
        check_least(0, negatives=settings.negatives, diversity=settings.diversity)
        check_least(0, noise=settings.noise, contrast=settings.contrast)
        check_above(
            0,
            temperature=settings.temperature,
            annealing=settings.annealing,
            contrast_temperature=settings.contrast_temperature,
        )
        super().__init__(settings, facts)
        self.settings = settings
        self.step = nn.Parameter(torch.randn(settings.steps, settings.width) * settings.width**-0.5)

    def loss(self, batch: Batch) -> torch.Tensor:
        """See `Network.loss`; the two losses of ReaRecSettings."""
        settings, items = self.settings, self.items()
        following, has_loss = batch.predictions()
        state, memory = self.read(batch.history, items)
        allowed = may_attend(batch.history)
        states, targets = self.think(state, memory, allowed)[has_loss], following[has_loss]
        alpha = settings.annealing if settings.learning == "prl" else 1.0
        scale = 1 / temperatures(settings.steps, settings.temperature, alpha).to(states.device)
        scaled = (states * scale[:, None]).flatten(0, 1)
        repeated = targets.repeat_interleave(len(scale))
        logits, labels = choices(scaled, items, repeated, self.counts, settings.negatives)
        loss = F.cross_entropy(logits, labels, reduction="sum") / len(scale)
        if settings.learning == "erl":
            return loss - settings.diversity * disagreement(logits.unflatten(0, (-1, len(scale)))).sum()
        noisy = self.think(state, memory, allowed, settings.noise)[has_loss]
        return loss + settings.contrast * contrast(noisy[:, 1:], states[:, 1:], settings.contrast_temperature)

    def score(self, history: torch.Tensor) -> torch.Tensor:
        """See `Network.score`."""
        items = self.items()
        state, memory = self.read(history, items)
        states = self.think(state[:, -1:], memory, may_attend(history))[:, 0]
        return (states.mean(dim=1) if self.settings.learning == "erl" else states[:, -1]) @ items.T

    def read(self, history: torch.Tensor, items: torch.Tensor) -> tuple[torch.Tensor, Memory]:
        """The states of histories [U, T], [U, T, D], and what their blocks remember."""
        x, allowed = self.dropout(embedded(history, items, self.place)), may_attend(history)
        memory = []
        for block in cast(Iterable[CausalBlock], self.blocks):
            query, key, value = block.heads(x)
            memory.append((key, value))
            x = block.mix(x, query, key, value, allowed)
        return self.norm(x), memory

    def think(self, state: torch.Tensor, memory: Memory, allowed: torch.Tensor, noise: float = 0.0) -> torch.Tensor:
        """The states r_0 to r_n, [U, P, n + 1, D], of the chains that start at the last P positions' states [U, P, D].

        A chain attends to what its position is allowed of the memory, bool [U, 1, T, T], and to itself. noise: standard
        deviation of what is added to its inputs.
        """
        own = torch.eye(state.shape[1], dtype=torch.bool, device=state.device).expand(len(state), 1, -1, -1)
        allowed = allowed[:, :, -state.shape[1] :]
        states = [state]
        for step in self.step:
            x = self.dropout(states[-1] + step + noise * torch.randn_like(state))
            allowed = torch.cat([allowed, own], dim=-1)
            longer = []
            for block, past in zip(cast(Iterable[CausalBlock], self.blocks), memory):
                query, *present = block.heads(x)
                key, value = (torch.cat(parts, dim=2) for parts in zip(past, present))
                longer.append((key, value))
                x = block.mix(x, query, key, value, allowed)
            memory = longer
            states.append(self.norm(x))
        return torch.stack(states, dim=2)


class ReaRec(NeuralRecommender):
    """See ReaRecSettings."""

    kind = "rearec"
    Settings = ReaRecSettings
    Network = ReaRecNetwork


def temperatures(steps: int, tau: float, alpha: float) -> torch.Tensor:
    """Temperatures float32 [n + 1] of the states r_0 to r_n: tau * alpha^(n - k)."""
    return tau * alpha ** torch.arange(steps, -1, -1.0)


def disagreement(logits: torch.Tensor) -> torch.Tensor:
    """Mean KL(p_i || p_j) over the ordered pairs i != j of the S distributions of logits [n, S, M]: [n], S >= 2.

    p_j is taken as it stands, without gradient.
    """
    log_p = logits.log_softmax(dim=-1)
    p, n_states = log_p.exp(), logits.shape[1]
    divergence = (p * log_p).sum(dim=-1)[:, :, None] - p @ log_p.detach().mT
    return divergence.sum(dim=(1, 2)) / (n_states * (n_states - 1))


def contrast(noisy: torch.Tensor, clean: torch.Tensor, temperature: float) -> torch.Tensor:
    """Cross-entropy, summed over chains, of finding each noisy state's own clean one among those of the same step.

    noisy, clean: [chains, steps, D]; by cosine over temperature, averaged over steps.
    """
    noisy, clean = (F.normalize(x.float(), dim=-1).transpose(0, 1) for x in (noisy, clean))
    logits = (noisy @ clean.mT).flatten(0, 1) / temperature
    own = torch.arange(noisy.shape[1], device=noisy.device).repeat(len(noisy))
    return F.cross_entropy(logits, own, reduction="sum") / len(noisy)
