"""SASRec: causal self-attention over the history (Kang and McAuley 2018, arXiv 1808.09781), with three losses."""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from redraft.baselines.neural import (
    CausalBlock,
    Facts,
    ItemFeatures,
    Network,
    NeuralRecommender,
    Training,
    asked_events,
    may_attend,
)
from redraft.records import Batch

__all__ = ["SASRec", "SASRecSettings"]


@dataclass(frozen=True)
class SASRecSettings:
    """The shape of the network and what it learns from."""

    loss: Literal["softmax", "sampled", "bce"] = "softmax"
    """Cross-entropy over all items; over sampled items with the logQ correction; or the original binary loss."""
    history: int = 50
    """Items of the history that it reads, most recent last."""
    width: int = 128
    """Width D of items and residual stream."""
    feed_forward: int = 640
    """Hidden width of the feed-forward layers."""
    heads: int = 4
    """Attention heads."""
    layers: int = 2
    """Blocks."""
    dropout: float = 0.3
    """Dropout on embeddings and residual branches."""
    negatives: int = 512
    """Items drawn for each step of the sampled loss, as often as they were bought."""
    training: Training = field(default_factory=Training)
    """The training loop."""


class SASRecNetwork(Network):
    """Items and learnt positions counted from the end, causal blocks; scores are products with the items."""

    counts: torch.Tensor

    def __init__(self, settings: SASRecSettings, facts: Facts):
        super().__init__()
        self.history = settings.history
        self.kind = settings.loss
        self.n_negatives = settings.negatives
        self.register_buffer("counts", facts.counts, persistent=False)
        self.items = ItemFeatures(facts, settings.width)
        self.place = nn.Parameter(torch.randn(settings.history, settings.width) * settings.width**-0.5)
        shape = settings.width, settings.heads, settings.feed_forward, settings.dropout
        self.blocks = nn.ModuleList(CausalBlock(*shape) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.width)
        self.dropout = nn.Dropout(settings.dropout)

    def states(self, history: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """What has been understood at each place of histories [U, T]: [U, T, D]."""
        x = F.embedding(history.clamp(min=0), items) * (history >= 0)[..., None]
        x = self.dropout(x * items.shape[1] ** 0.5 + self.place[-history.shape[1] :])
        allowed = may_attend(history)
        for block in self.blocks:
            x = block(x, allowed)
        return self.norm(x)

    def loss(self, batch: Batch) -> torch.Tensor:
        """See `Network.loss`; the three losses of SASRecSettings."""
        items = self.items()
        following, asked = asked_events(batch)
        states, targets = self.states(batch.history, items)[asked], following[asked]
        if self.kind == "softmax":
            return F.cross_entropy((states @ items.T).float(), targets, reduction="sum")
        if self.kind == "sampled":
            return sampled_softmax(states, items, targets, self.counts, self.n_negatives)
        wrong = torch.randint(len(items), targets.shape, device=targets.device)
        right, wrong = ((states * items[x]).sum(dim=-1).float() for x in (targets, wrong))
        return -(F.logsigmoid(right) + F.logsigmoid(-wrong)).sum()

    def score(self, history: torch.Tensor) -> torch.Tensor:
        """See `Network.score`."""
        items = self.items()
        return self.states(history, items)[:, -1] @ items.T


class SASRec(NeuralRecommender):
    """See SASRecSettings."""

    kind = "sasrec"
    Settings = SASRecSettings
    Network = SASRecNetwork


def sampled_softmax(
    states: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor, n_negatives: int
) -> torch.Tensor:
    """Cross-entropy, summed, of targets [n] among n_negatives items drawn once for all states [n, D].

    items: [N, D]. Items are drawn by counts [N] + 1, with replacement; each logit is lowered by the log of how often
    its item is expected (logQ), which makes the expectation that of the whole softmax. A draw that is the target of a
    state counts for nothing there.
    """
    shares = (counts + 1.0) / (counts + 1.0).sum()
    drawn = torch.multinomial(shares, n_negatives, replacement=True)
    expected = (n_negatives * shares).log()
    right = (states * items[targets]).sum(dim=-1).float()
    wrong = (states @ items[drawn].T).float() - expected[drawn]
    wrong = wrong.masked_fill(drawn == targets[:, None], -torch.inf)
    return (torch.logaddexp(wrong.logsumexp(dim=1), right) - right).sum()
