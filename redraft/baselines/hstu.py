"""HSTU: pointwise attention with gates and relative biases, no feed-forward (Zhai et al. 2024, arXiv 2402.17152).

Settled here: what a position may know of time is when its own item and those before it came. The public implementation
gives it the time of the next item too, the target's at the end, which `recommend` is not told. Where the data has no
timestamps the time bias is off, which `HSTU.uses_time` says; all else is the same. Negatives are drawn as often as
items were bought and corrected for that (logQ), where the public implementation draws each as often.
"""

from dataclasses import dataclass, field
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import nn

from redraft.baselines.neural import Facts, Network, NeuralRecommender, Training
from redraft.baselines.parts import ItemFeatures, embedded
from redraft.data.loader import Windows
from redraft.dropout import Dropout
from redraft.model.choices import choices
from redraft.model.hstu import HSTUBlock, may_attend, time_buckets
from redraft.records import Batch, InputError, IntArray, Interactions, check_above, check_least

__all__ = ["HSTU", "HSTUSettings"]


@dataclass(frozen=True)
class HSTUSettings:
    """The shape of the network and what it learns from."""

    history: int = 50
    """Items of the history that it reads, most recent last."""
    width: int = 128
    """Width D of items and residual stream."""
    heads: int = 4
    """Attention heads."""
    layers: int = 4
    """Blocks."""
    dropout: float = 0.3
    """Dropout on embeddings and residual branches."""
    negatives: int = 128
    """Items drawn for each step of the sampled softmax, as often as they were bought; 0 for all items."""
    temperature: float = 0.05
    """What cosines of user and item are divided by."""
    training: Training = field(default_factory=Training)
    """The training loop."""


class HSTUNetwork(Network):
    """Items and learnt positions counted from the end, HSTU's blocks; scores are cosines over the temperature."""

    counts: torch.Tensor
    uses_time: torch.Tensor
    kept: torch.Tensor
    kept_unit: torch.Tensor

    def __init__(self, settings: HSTUSettings, facts: Facts):
        check_least(0, negatives=settings.negatives)
        check_above(0, temperature=settings.temperature)
        super().__init__()
        self.history = settings.history
        self.n_negatives = settings.negatives
        self.temperature = settings.temperature
        self.times = torch.empty(0, dtype=torch.int64)
        self.register_buffer("counts", facts.counts, persistent=False)
        self.register_buffer("uses_time", torch.tensor(False))
        for name in ("kept", "kept_unit"):
            self.register_buffer(name, torch.zeros(len(facts.counts), settings.width), persistent=False)
        self.items = ItemFeatures(facts, settings.width)
        self.place = nn.Parameter(torch.randn(settings.history, settings.width) * settings.width**-0.5)
        shape = settings.width, settings.heads, settings.history, settings.dropout
        self.blocks = nn.ModuleList(HSTUBlock(*shape) for _ in range(settings.layers))
        self.dropout = Dropout(settings.dropout)

    def train(self, mode: bool = True) -> Self:
        """Switch to training or from it; the second keeps the items' vectors as they are now, for all scores."""
        super().train(mode)
        if not mode:
            with torch.no_grad():
                self.kept.copy_(self.items())
                self.kept_unit.copy_(F.normalize(self.kept, dim=-1))
        return self

    def rows(self, train: Interactions) -> Windows:
        """See `Network.rows`; keeps the times of the events, where they have any."""
        self.uses_time.fill_(train.times is not None)
        if train.times is not None:
            self.times = torch.tensor(train.times, device=self.place.device)
        return super().rows(train)

    def times_of(self, batch: Batch) -> torch.Tensor | None:
        """When each item of a batch's histories came, int64 [U, T], anything at padding; None without times."""
        if not self.uses_time:
            return None
        width = batch.history.shape[1]
        before = torch.arange(width, 0, -1, device=batch.event.device)
        return self.times[(batch.event[:, None] - before).clamp(min=0)]

    def states(self, history: torch.Tensor, items: torch.Tensor, times: torch.Tensor | None) -> torch.Tensor:
        """What has been understood at each position of histories [U, T] with times [U, T]: unit vectors [U, T, D]."""
        x, allowed = self.dropout(embedded(history, items, self.place)), may_attend(history)
        buckets = None if times is None else time_buckets(times)
        for block in self.blocks:
            x = block(x, allowed, buckets)
        return F.normalize(x, dim=-1)

    def loss(self, batch: Batch) -> torch.Tensor:
        """See `Network.loss`."""
        items = self.items()
        following, has_loss = batch.predictions()
        states, targets = self.states(batch.history, items, self.times_of(batch))[has_loss], following[has_loss]
        unit_items = F.normalize(items, dim=-1)
        logits, labels = choices(states / self.temperature, unit_items, targets, self.counts, self.n_negatives)
        return F.cross_entropy(logits, labels, reduction="sum")

    def score(self, history: torch.Tensor, times: torch.Tensor | None = None) -> torch.Tensor:
        """See `Network.score`; times: int64 [U, T'], for a network that uses them."""
        assert not self.training, "what is kept of the items is that of the last eval()"
        return self.states(history, self.kept, times)[:, -1] @ self.kept_unit.T / self.temperature


class HSTU(NeuralRecommender):
    """See HSTUSettings."""

    kind = "hstu"
    Settings = HSTUSettings
    Network = HSTUNetwork

    @property
    def uses_time(self) -> bool:
        """Whether the training events had times, so that the time bias is on."""
        return bool(cast(HSTUNetwork, self.network).uses_time)

    def _inputs(self, histories: Interactions) -> tuple[IntArray, ...]:
        (history,) = super()._inputs(histories)
        if not self.uses_time:
            return (history,)
        if histories.times is None:
            raise InputError(
                "the histories have no times and this HSTU was trained with them; give users of a data set, or a table "
                "of events with their times"
            )
        return history, Interactions(histories.times, histories.offsets).padded(history.shape[1])
