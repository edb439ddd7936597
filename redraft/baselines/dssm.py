"""DSSM: two towers that meet in one product (Huang et al. 2013, CIKM), here as a retriever of the next item."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from redraft.baselines.neural import Facts, Network, NeuralRecommender, Training
from redraft.baselines.parts import ItemFeatures
from redraft.dropout import Dropout
from redraft.model.hstu import may_attend
from redraft.records import Batch, InputError, check_least

__all__ = ["DSSM", "DSSMSettings", "in_batch_softmax"]


@dataclass(frozen=True)
class DSSMSettings:
    """The shape of the towers and how sharply they are compared."""

    history: int = 50
    """Items of the history that it reads, most recent last."""
    width: int = 128
    """Width D of items and of what the towers say."""
    hidden: int = 640
    """Hidden width of each tower."""
    dropout: float = 0.3
    """Dropout on the history's items and inside the towers."""
    temperature: float = 0.05
    """What the cosines of the two towers are divided by."""
    training: Training = field(default_factory=Training)
    """The training loop."""


class DSSMNetwork(Network):
    """One tower reads the last item and a mean of the history, weighted by learnt recency; one reads an item."""

    counts: torch.Tensor

    def __init__(self, settings: DSSMSettings, facts: Facts):
        super().__init__()
        check_least(1, history=settings.history, width=settings.width, hidden=settings.hidden)
        if not settings.temperature > 0:
            raise InputError(f"temperature is {settings.temperature}; it must be > 0")
        self.history = settings.history
        self.temperature = settings.temperature
        self.register_buffer("counts", facts.counts, persistent=False)
        self.items = ItemFeatures(facts, settings.width)
        self.recency = nn.Parameter(torch.zeros(settings.history))
        shape = settings.hidden, settings.width, settings.dropout
        self.history_tower = Tower(2 * settings.width, *shape)
        self.item_tower = Tower(settings.width, *shape)
        self.dropout = Dropout(settings.dropout)

    def states(self, history: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """What the history tower says at each position of histories [U, T] of item features [N, D]: [U, T, D].

        The mean at a position is over the items up to there.
        """
        x = self.dropout(F.embedding(history.clamp(min=0), items) * (history >= 0)[..., None])
        position = torch.arange(history.shape[1], device=history.device)
        recency = self.recency[(position[:, None] - position).clamp(min=0)]
        weights = recency.masked_fill(~may_attend(history)[:, 0], -torch.inf).softmax(dim=-1)
        return self.history_tower(torch.cat([x, weights @ x], dim=-1))

    def loss(self, batch: Batch) -> torch.Tensor:
        """See `Network.loss`; the in-batch softmax."""
        items = self.items()
        following, has_loss = batch.predictions()
        states, targets = self.states(batch.history, items)[has_loss], following[has_loss]
        return in_batch_softmax(states / self.temperature, self.item_tower(items[targets]), targets, self.counts)

    def score(self, history: torch.Tensor) -> torch.Tensor:
        """See `Network.score`."""
        items = self.items()
        return self.states(history, items)[:, -1] @ self.item_tower(items).T


class DSSM(NeuralRecommender):
    """See DSSMSettings."""

    kind = "dssm"
    Settings = DSSMSettings
    Network = DSSMNetwork
    read = True


class Tower(nn.Module):
    """One hidden layer beside a linear map, [..., n_inputs] to unit rows [..., D]."""

    def __init__(self, n_inputs: int, hidden: int, width: int, dropout: float):
        super().__init__()
        self.straight = nn.Linear(n_inputs, width, bias=False)
        self.bent = nn.Sequential(
            nn.LayerNorm(n_inputs),
            nn.Linear(n_inputs, hidden),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(hidden, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rows of length one."""
        return F.normalize((self.straight(x) + self.bent(x)).float(), dim=-1)


def in_batch_softmax(
    states: torch.Tensor, vectors: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy, summed, of each target [n] among all targets of the batch, vectors [n, D], by states [n, D].

    Items stand in a batch as often as they were bought, counts [N]; each wrong logit is lowered by the log of how often
    its item is expected (logQ), which makes the expectation that of the softmax over all items. Where another event of
    the batch has the same target, it counts for nothing.
    """
    shares = (counts + 1.0) / (counts + 1.0).sum()
    expected = (len(targets) * shares[targets]).log()
    right = (states * vectors).sum(dim=-1).float()
    wrong = (states @ vectors.T).float() - expected
    wrong = wrong.masked_fill(targets == targets[:, None], -torch.inf)
    return (torch.logaddexp(wrong.logsumexp(dim=1), right) - right).sum()
