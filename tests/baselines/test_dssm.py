import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from contract import RecommenderContract, checkerboard, make_catalogue

from redraft.baselines.dssm import DSSM, DSSMNetwork, DSSMSettings, in_batch_softmax
from redraft.baselines.neural import Facts, Training
from redraft.records import Catalogue, InputError, Interactions

SMALL = DSSMSettings(
    width=16, hidden=32, history=8, dropout=0.1, training=Training(epochs=12, batch_size=128, learning_rate=1e-2)
)


class TestDSSM(RecommenderContract):
    least_on_colour: ClassVar[float] = 0.97

    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> DSSM:
        return DSSM.fit(train, catalogue, SMALL)

    @classmethod
    def load(cls, path: Path) -> DSSM:
        return DSSM.load(path)


def small_network() -> DSSMNetwork:
    torch.manual_seed(0)
    return DSSMNetwork(SMALL, Facts.of(checkerboard(), make_catalogue(), read=True)).eval()


@torch.no_grad()
def test_a_place_sees_nothing_of_what_comes_after_it_and_no_padding() -> None:
    network = small_network()
    torch.nn.init.normal_(network.recency)
    history = torch.tensor([[3, 1, 4, 1, 5]])
    items = network.items()
    states = network.states(history, items)
    other = network.states(torch.tensor([[3, 1, 4, 9, 2]]), items)
    torch.testing.assert_close(states[:, :3], other[:, :3])
    assert not torch.allclose(states[:, 3:], other[:, 3:])
    padded = network.states(F.pad(history, (2, 0), value=-1), items)
    torch.testing.assert_close(padded[:, 2:], states)


@torch.no_grad()
def test_the_history_tower_reads_the_last_item_and_the_mean_weighted_by_recency() -> None:
    network = small_network()
    torch.nn.init.normal_(network.recency)
    items = network.items()
    weights = torch.stack([network.recency[2], network.recency[1], network.recency[0]]).exp()
    mean = sum(weight * items[item] for weight, item in zip(weights, (3, 1, 4))) / weights.sum()
    expected = network.history_tower(torch.cat([items[4], mean]))
    torch.testing.assert_close(network.states(torch.tensor([[-1, 3, 1, 4]]), items)[0, -1], expected)


@torch.no_grad()
def test_scores_are_cosines_and_know_the_texts() -> None:
    network = small_network()
    scores = network.score(torch.tensor([[3, 1, 4], [-1, -1, -1]]))
    assert (scores.abs() <= 1 + 1e-6).all()
    network.items.vectors.neg_()
    assert not torch.allclose(network.score(torch.tensor([[3, 1, 4]])), scores[:1])


def test_the_in_batch_softmax_is_what_a_loop_over_the_batch_gives() -> None:
    torch.manual_seed(0)
    targets = torch.tensor([2, 0, 2, 5, 1])
    states, items, counts = torch.randn(5, 4), torch.randn(6, 4), torch.tensor([3, 0, 7, 1, 9, 4])
    total = 0.0
    for row, target in enumerate(targets.tolist()):
        right = math.exp(float(states[row] @ items[target]))
        wrong = 0.0
        for item in targets.tolist():
            if item != target:
                expected = 5 * float(counts[item] + 1) / float((counts + 1).sum())
                wrong += math.exp(float(states[row] @ items[item])) / expected
        total -= math.log(right / (right + wrong))
    assert float(in_batch_softmax(states, items[targets], targets, counts)) == pytest.approx(total, rel=1e-5)


def test_over_many_batches_it_is_the_softmax_over_all_items() -> None:
    """The batch holds each item as often as it is expected, so that the correction is exact."""
    torch.manual_seed(0)
    states, items, counts = torch.randn(9, 4), torch.randn(6, 4), torch.tensor([1, 0, 4, 2, 9, 2])
    batch = torch.arange(6).repeat_interleave(100 * (counts + 1))
    queries = states[torch.arange(len(batch)) % 9]
    found = in_batch_softmax(queries, items[batch], batch, counts)
    torch.testing.assert_close(found, F.cross_entropy(queries @ items.T, batch, reduction="sum"))


def test_a_batch_of_one_target_teaches_nothing() -> None:
    states = torch.randn(3, 4, requires_grad=True)
    loss = in_batch_softmax(states, torch.ones(3, 4), torch.tensor([1, 1, 1]), torch.tensor([1, 5]))
    loss.backward()
    assert loss.item() == 0
    assert states.grad is not None
    assert (states.grad == 0).all()


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"temperature": -1.0}, {"history": 0}, {"width": 0}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=name):
        DSSM.fit(checkerboard(), make_catalogue(), replace(SMALL, **wrong))
