"""SASRec: causal self-attention over the history (Kang and McAuley 2018, arXiv 1808.09781), with three losses."""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from redraft.baselines.neural import Facts, Network, NeuralRecommender, Training
from redraft.baselines.parts import CausalBlock, ItemFeatures, embedded
from redraft.dropout import Dropout
from redraft.model.choices import choices
from redraft.model.hstu import may_attend
from redraft.records import Batch

__all__ = ["CausalNetwork", "CausalSettings", "SASRec", "SASRecSettings"]


@dataclass(frozen=True)
class CausalSettings:
    """The shape of a causal network and how it is trained."""

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
    training: Training = field(default_factory=Training)
    """The training loop."""


@dataclass(frozen=True)
class SASRecSettings(CausalSettings):
    """The network and what it learns from."""

    loss: Literal["softmax", "sampled", "bce"] = "softmax"
    """Cross-entropy over all items; over sampled items with the logQ correction; or the original binary loss."""
    negatives: int = 512
    """Items drawn for each step of the sampled loss, as often as they were bought."""


class CausalNetwork(Network):
    """Items and learnt positions counted from the end, causal blocks; scores are products with the items."""

    counts: torch.Tensor

    def __init__(self, settings: CausalSettings, facts: Facts):
        super().__init__()
        self.history = settings.history
        self.register_buffer("counts", facts.counts, persistent=False)
        self.items = ItemFeatures(facts, settings.width)
        self.place = nn.Parameter(torch.randn(settings.history, settings.width) * settings.width**-0.5)
        shape = settings.width, settings.heads, settings.feed_forward, settings.dropout
        self.blocks = nn.ModuleList(CausalBlock(*shape) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.width)
        self.dropout = Dropout(settings.dropout)

    def states(self, history: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """What has been understood at each position of histories [U, T]: [U, T, D]."""
        x, allowed = self.dropout(embedded(history, items, self.place)), may_attend(history)
        for block in self.blocks:
            x = block(x, allowed)
        return self.norm(x)

    def score(self, history: torch.Tensor) -> torch.Tensor:
        """See `Network.score`."""
        items = self.items()
        return self.states(history, items)[:, -1] @ items.T


class SASRecNetwork(CausalNetwork):
    """The causal network with the three losses of SASRecSettings."""

    def __init__(self, settings: SASRecSettings, facts: Facts):
        super().__init__(settings, facts)
        self.kind = settings.loss
        self.n_negatives = settings.negatives if settings.loss == "sampled" else 0

    def loss(self, batch: Batch) -> torch.Tensor:
        """See `Network.loss`."""
        items = self.items()
        following, has_loss = batch.predictions()
        states, targets = self.states(batch.history, items)[has_loss], following[has_loss]
        if self.kind != "bce":
            logits, labels = choices(states, items, targets, self.counts, self.n_negatives)
            return F.cross_entropy(logits, labels, reduction="sum")
        wrong = torch.randint(len(items), targets.shape, device=targets.device)
        right, wrong = ((states * items[x]).sum(dim=-1).float() for x in (targets, wrong))
        return -(F.logsigmoid(right) + F.logsigmoid(-wrong)).sum()


class SASRec(NeuralRecommender):
    """See SASRecSettings."""

    kind = "sasrec"
    Settings = SASRecSettings
    Network = SASRecNetwork
