from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from contract import RecommenderContract, checkerboard, make_catalogue

from redraft.baselines.neural import Facts, Training
from redraft.baselines.sasrec import SASRec, SASRecNetwork, SASRecSettings
from redraft.model.choices import choices
from redraft.records import Batch, Catalogue, Interactions

SMALL = SASRecSettings(
    width=16,
    feed_forward=32,
    heads=2,
    layers=1,
    history=8,
    training=Training(epochs=12, batch_size=128, learning_rate=1e-2),
)


class TestSASRec(RecommenderContract):
    least_on_colour: ClassVar[float] = 0.97

    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> SASRec:
        return SASRec.fit(train, catalogue, SMALL)

    @classmethod
    def load(cls, path: Path) -> SASRec:
        return SASRec.load(path)


class TestSampled(TestSASRec):
    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> SASRec:
        return SASRec.fit(train, catalogue, replace(SMALL, loss="sampled", negatives=16))


class TestBinary(TestSASRec):
    least_on_colour: ClassVar[float] = 0.9

    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> SASRec:
        return SASRec.fit(train, catalogue, replace(SMALL, loss="bce"))


def test_the_sampled_loss_tends_to_the_whole_one() -> None:
    torch.manual_seed(0)
    states, items = torch.randn(5, 4), torch.randn(12, 4)
    targets, counts = torch.randint(12, (5,)), torch.randint(1, 50, (12,))
    whole = F.cross_entropy(states @ items.T, targets, reduction="sum")
    found = F.cross_entropy(*choices(states, items, targets, counts, 200_000), reduction="sum")
    torch.testing.assert_close(found, whole, rtol=0.01, atol=0.0)


@torch.no_grad()
@pytest.mark.parametrize("loss", ["softmax", "sampled", "bce"])
def test_a_place_sees_nothing_of_what_comes_after_it_and_no_padding(loss: str) -> None:
    network = SASRecNetwork(replace(SMALL, loss=loss), Facts.of(checkerboard(), make_catalogue(), read=False)).eval()
    history = torch.tensor([[3, 1, 4, 1, 5]])
    items = network.items()
    states = network.states(history, items)
    other = network.states(torch.tensor([[3, 1, 4, 9, 2]]), items)
    torch.testing.assert_close(states[:, :3], other[:, :3])
    assert not torch.allclose(states[:, 3:], other[:, 3:])
    padded = network.states(torch.nn.functional.pad(history, (2, 0), value=-1), items)
    torch.testing.assert_close(padded[:, 2:], states)


@torch.no_grad()
def test_only_asked_events_are_learnt() -> None:
    """A row that predicts its target alone costs what its last place costs, the rest what the others cost."""
    network = SASRecNetwork(SMALL, Facts.of(checkerboard(), make_catalogue(), read=False)).eval()
    history, target, event = torch.tensor([[3, 1, 4]]), torch.tensor([5]), torch.tensor([3])
    losses = [float(network.loss(Batch(history, target, torch.tensor([n]), event))) for n in (1, 2, 3)]
    items = network.items()
    each = F.cross_entropy(network.states(history, items)[0] @ items.T, torch.tensor([1, 4, 5]), reduction="none")
    assert losses == pytest.approx([float(each[-n:].sum()) for n in (1, 2, 3)], rel=1e-4)
