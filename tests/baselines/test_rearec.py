from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
import torch.nn.functional as F
from contract import RecommenderContract, checkerboard, make_catalogue
from torch.distributions import Categorical, kl_divergence

from redraft.baselines.neural import Facts, Training
from redraft.baselines.rearec import (
    ReaRec,
    ReaRecNetwork,
    ReaRecSettings,
    contrast,
    disagreement,
    temperatures,
)
from redraft.data.loader import Windows, batches, every_prefix, shared_prefixes
from redraft.model.hstu import may_attend
from redraft.records import Batch, Catalogue, InputError, Interactions

SMALL = ReaRecSettings(
    width=16,
    feed_forward=32,
    heads=2,
    layers=2,
    history=8,
    training=Training(epochs=10, batch_size=128, learning_rate=1e-2),
)
PROGRESSIVE = replace(SMALL, learning="prl")


class TestEnsemble(RecommenderContract):
    least_on_colour: ClassVar[float] = 0.97

    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> ReaRec:
        return ReaRec.fit(train, catalogue, SMALL)

    @classmethod
    def load(cls, path: Path) -> ReaRec:
        return ReaRec.load(path)


class TestProgressive(TestEnsemble):
    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> ReaRec:
        return ReaRec.fit(train, catalogue, replace(PROGRESSIVE, negatives=16))


def network(settings: ReaRecSettings = SMALL) -> ReaRecNetwork:
    torch.manual_seed(0)
    return ReaRecNetwork(settings, Facts.of(checkerboard(), make_catalogue(), read=False)).eval()


def chains(net: ReaRecNetwork, history: torch.Tensor) -> torch.Tensor:
    """The states [U, T, n + 1, D] of the chain of each place."""
    return net.think(*net.read(history, net.items()), may_attend(history))


def slow_chain(net: ReaRecNetwork, items: list[int], place: torch.Tensor) -> torch.Tensor:
    """The states [n + 1, D] after some items at places [T, D]: the whole sequence read anew at each step."""
    x = (net.items()[items] * SMALL.width**0.5 + place)[None]
    states: list[torch.Tensor] = []
    for step in range(SMALL.steps + 1):
        y, causal = x, torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        for block in net.blocks:
            y = block(y, causal)
        states.append(net.norm(y)[0, -1])
        if step < SMALL.steps:
            x = torch.cat([x, (states[-1] + net.step[step])[None, None]], dim=1)
    return torch.stack(states)


@torch.no_grad()
def test_each_place_thinks_as_if_its_history_ended_there() -> None:
    net, history = network(), [[-1, -1, 7, 2, 9], [3, 1, 4, 1, 5]]
    found = chains(net, torch.tensor(history))
    for u, row in enumerate(history):
        real = [item for item in row if item >= 0]
        for n in range(1, len(real) + 1):
            at = len(row) - len(real) + n - 1
            place = net.place[len(net.place) - len(real) :][:n]
            torch.testing.assert_close(found[u, at], slow_chain(net, real[:n], place), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_place_sees_nothing_of_what_comes_after_it_and_no_padding() -> None:
    net, history = network(), torch.tensor([[3, 1, 4, 1, 5]])
    states, other = chains(net, history), chains(net, torch.tensor([[3, 1, 4, 9, 2]]))
    torch.testing.assert_close(states[:, :3], other[:, :3])
    assert not torch.allclose(states[:, 3:], other[:, 3:])
    torch.testing.assert_close(chains(net, F.pad(history, (2, 0), value=-1))[:, 2:], states)


@torch.no_grad()
@pytest.mark.parametrize("learning", ["erl", "prl"])
def test_shared_prefixes_cost_what_one_row_an_event_costs(learning: Literal["erl", "prl"]) -> None:
    """Without positions, which count from the end of a row, and without the contrast, which is with the batch."""
    net = network(replace(SMALL, learning=learning, contrast=0.0))
    net.place.zero_()
    events = Interactions.from_lists([[3, 1, 4, 1, 5], [9, 2], [6, 5, 3, 5, 8, 9, 7]])

    def cost(rows: Windows) -> float:
        return sum(float(net.loss(batch)) for batch in batches(events, rows, 4, seed=0, epoch=0))

    assert cost(shared_prefixes(events, 8)) == pytest.approx(cost(every_prefix(events, 8)), rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("negatives", [0, 100_000])
def test_the_ensemble_learns_every_state_and_their_differences(negatives: int) -> None:
    """The sampled loss tends to the whole one."""
    net = network(replace(SMALL, temperature=2.0, diversity=0.3, negatives=negatives))
    batch = Batch(torch.tensor([[3, 1, 4]]), torch.tensor([5]), torch.tensor([2]), torch.tensor([3]))
    logits = chains(net, batch.history)[0, 1:] @ net.items().T / 2.0
    wanted = 0.0
    for place, target in enumerate([4, 5]):
        p = Categorical(logits=logits[place])
        wanted -= float(p.log_prob(torch.tensor(target)).mean()) + 0.3 * float(mean_divergence(logits[place]))
    assert float(net.loss(batch)) == pytest.approx(wanted, rel=0.02 if negatives else 1e-5)


@torch.no_grad()
def test_progressive_learning_anneals_and_contrasts() -> None:
    net = network(replace(PROGRESSIVE, annealing=3.0, contrast=0.5, noise=0.0))
    batch = Batch(torch.tensor([[3, 1, 4]]), torch.tensor([5]), torch.tensor([3]), torch.tensor([3]))
    states, targets = chains(net, batch.history)[0], torch.tensor([1, 4, 5])
    assert torch.equal(targets, batch.predictions()[0][0])
    logits = states @ net.items().T
    entropies = [float(F.cross_entropy(logits[:, k] / (9, 3, 1)[k], targets, reduction="sum")) for k in range(3)]
    among = 0.5 * float(contrast(states[:, 1:], states[:, 1:], SMALL.contrast_temperature))
    assert float(net.loss(batch)) == pytest.approx(sum(entropies) / 3 + among, rel=1e-5)


def mean_divergence(logits: torch.Tensor) -> torch.Tensor:
    """Of the distributions of logits [S, M], by torch."""
    parts = [Categorical(logits=one) for one in logits]
    divergences = [kl_divergence(p, q) for p in parts for q in parts if p is not q]
    return torch.stack(divergences).mean()


def test_disagreement_is_the_mean_divergence_of_two_states() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 4, 7, dtype=torch.float64) * 3
    torch.testing.assert_close(disagreement(logits), torch.stack([mean_divergence(one) for one in logits]))
    torch.testing.assert_close(disagreement(logits[:, :1].expand(-1, 3, -1)), torch.zeros(5, dtype=torch.float64))


def test_temperatures_fall_to_the_last() -> None:
    assert temperatures(3, 0.5, 2.0).tolist() == [4.0, 2.0, 1.0, 0.5]
    assert temperatures(2, 0.7, 1.0).tolist() == pytest.approx([0.7] * 3)


def test_contrast_finds_each_chain_among_all() -> None:
    torch.manual_seed(0)
    noisy, clean = torch.randn(2, 6, 3, 4).unbind()
    wanted = 0.0
    for chain in range(6):
        for step in range(3):
            cosines = F.cosine_similarity(noisy[chain, step], clean[:, step])
            wanted -= float((cosines / 0.2).log_softmax(dim=0)[chain]) / 3
    assert float(contrast(noisy, clean, 0.2)) == pytest.approx(wanted, rel=1e-5)


@torch.no_grad()
def test_each_way_of_learning_recommends_by_its_own_rule() -> None:
    history = torch.tensor([[-1, 3, 1], [2, 0, 4]])
    for settings in (SMALL, PROGRESSIVE):
        net = network(settings)
        last = chains(net, history)[:, -1]
        state = last.mean(dim=1) if settings.learning == "erl" else last[:, -1]
        torch.testing.assert_close(net.score(history), state @ net.items().T)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("negatives", -1),
        ("diversity", -0.1),
        ("noise", -0.1),
        ("contrast", -0.1),
        ("temperature", 0.0),
        ("annealing", 0.0),
    ],
)
def test_a_setting_that_cannot_work_is_named(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        ReaRec.fit(checkerboard(), make_catalogue(), replace(SMALL, **{name: value}))
