from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract import RecommenderContract, checkerboard, make_catalogue, queries

from redraft.baselines.hstu import HSTU, HSTUNetwork, HSTUSettings
from redraft.baselines.neural import Facts, Training
from redraft.data.loader import batches
from redraft.model.hstu import BUCKETS, HSTUBlock, may_attend, time_buckets
from redraft.records import Catalogue, InputError, Interactions

SMALL = HSTUSettings(
    width=16,
    heads=2,
    layers=2,
    history=8,
    negatives=16,
    temperature=0.1,
    training=Training(epochs=12, batch_size=128, learning_rate=1e-2),
)


def timed(events: Interactions, seed: int = 0) -> Interactions:
    """The same events, each a moment to a year after the one before it."""
    gaps = np.exp(np.random.default_rng(seed).uniform(0, np.log(3e7), len(events.items)))
    return replace(events, times=gaps.cumsum().astype(np.int64))


class TestHSTU(RecommenderContract):
    least_on_colour: ClassVar[float] = 0.97

    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> HSTU:
        return HSTU.fit(train, catalogue, SMALL)

    @classmethod
    def load(cls, path: Path) -> HSTU:
        return HSTU.load(path)


class TestWholeSoftmax(TestHSTU):
    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> HSTU:
        return HSTU.fit(train, catalogue, replace(SMALL, negatives=0))


def network(events: Interactions) -> HSTUNetwork:
    """An untrained network that has been shown these training events, its biases large enough to matter."""
    torch.manual_seed(0)
    found = HSTUNetwork(SMALL, Facts.of(events, make_catalogue(), read=False)).eval()
    found.rows(events)
    with torch.no_grad():
        for name, weight in found.named_parameters():
            if name.endswith((".distance", ".time")):
                weight.copy_(torch.randn_like(weight))
    return found


@torch.no_grad()
@pytest.mark.parametrize("with_time", [False, True])
def test_a_block_is_what_the_paper_says(with_time: bool) -> None:
    """Eq. 1 to 3 one query, key and head at a time."""
    torch.manual_seed(0)
    width, n_heads, n_places, longest = 6, 2, 4, 5
    block = HSTUBlock(width, n_heads, longest, dropout=0.5).eval()
    block.distance.normal_()
    block.time.normal_()
    x = torch.randn(2, n_places, width)
    allowed = may_attend(torch.tensor([[-1, 3, 1, 2], [0, 1, 2, 3]]))
    times = torch.randint(10**6, (2, n_places)).sort().values
    found = block(x, allowed, time_buckets(times) if with_time else None)

    def norm(v: torch.Tensor) -> torch.Tensor:
        return (v - v.mean()) / (v.var(unbiased=False) + 1e-5).sqrt()

    for u in range(2):
        parts = [F.silu(block.project.weight @ norm(x[u, i])).view(4, n_heads, -1) for i in range(n_places)]
        for i in range(n_places):
            mixed = torch.zeros(n_heads, width // n_heads)
            for j in (j for j in range(i + 1) if allowed[u, 0, i, j]):
                gap = max(1.0, abs(float(times[u, i] - times[u, j])))
                bias = block.distance[i - j] + (block.time[int(np.log(gap) / 0.301)] if with_time else 0.0)
                for h in range(n_heads):
                    mixed[h] += F.silu(parts[i][2, h] @ parts[j][3, h] + bias) * parts[j][1, h] / longest
            want = x[u, i] + block.out(norm(mixed.flatten()) * parts[i][0].flatten())
            torch.testing.assert_close(found[u, i], want)


@torch.no_grad()
def test_a_place_sees_nothing_of_what_comes_after_it_and_no_padding() -> None:
    net = network(timed(checkerboard()))
    items, history, times = net.items(), torch.tensor([[3, 1, 4, 1, 5]]), torch.tensor([[10, 50, 900, 3000, 90000]])
    states = net.states(history, items, times)
    other = net.states(torch.tensor([[3, 1, 4, 9, 2]]), items, torch.tensor([[10, 50, 900, 10**6, 10**7]]))
    torch.testing.assert_close(states[:, :3], other[:, :3])
    assert not torch.allclose(states[:, 3:], other[:, 3:])
    for moment in (-1, 80):
        padded = [F.pad(x, (2, 0), value=value) for x, value in ((history, -1), (times, moment))]
        torch.testing.assert_close(net.states(padded[0], items, padded[1])[:, 2:], states)


@torch.no_grad()
def test_scores_are_cosines_over_the_temperature() -> None:
    net = network(checkerboard())
    history = torch.tensor([[3, 1, 4]])
    items = net.items()
    cosines = F.cosine_similarity(net.states(history, items, None)[:, -1], items)
    torch.testing.assert_close(net.score(history)[0], cosines / SMALL.temperature)


def test_buckets_grow_with_the_logarithm_and_end() -> None:
    times = torch.tensor([[0, 1, 2, 10, 10**9, 2**62]])
    assert time_buckets(times)[0, 0].tolist() == [0, 0, 2, 7, 68, BUCKETS]
    assert torch.equal(time_buckets(times), time_buckets(times).mT)


def test_training_rows_get_the_times_of_their_own_events() -> None:
    """Each event has an item of its own, which tells its time."""
    lengths = [9, 1, 30, 2, 5]
    starts = np.cumsum([0, *lengths])
    events = timed(Interactions.from_lists([range(a, b) for a, b in pairwise(starts)]))
    net = HSTUNetwork(SMALL, Facts.of(events, make_catalogue(len(events.items)), read=False))
    assert events.times is not None
    times, seen = torch.from_numpy(events.times), 0
    for batch in batches(events, net.rows(events), 16, seed=0, epoch=0):
        found, real = net.times_of(batch), batch.history >= 0
        assert found is not None
        assert torch.equal(found[real], times[batch.history[real]])
        seen += int(real.sum())
    assert seen >= sum(lengths) - len(lengths)


def test_it_says_whether_it_uses_time_and_keeps_that_on_disk(tmp_path: Path) -> None:
    brief = replace(SMALL, training=replace(SMALL.training, epochs=1))
    without, found = (HSTU.fit(events, make_catalogue(), brief) for events in (checkerboard(), timed(checkerboard())))
    assert not without.uses_time
    assert found.uses_time
    found.save(tmp_path / "model")
    loaded = HSTU.load(tmp_path / "model")
    assert loaded.uses_time
    first, again = (model.recommend(timed(queries()), 5) for model in (found, loaded))
    np.testing.assert_array_equal(first.scores, again.scores)
    assert (first.scores != found.recommend(timed(queries(), seed=1), 5).scores).any()
    with pytest.raises(InputError, match="times"):
        found.recommend(queries(), 5)


def test_what_comes_next_may_depend_on_when_the_last_item_came() -> None:
    """Soon after item 0 comes item 1, long after it item 2: without times that is a coin's toss."""
    rng = np.random.default_rng(0)
    late = rng.random(400) < 0.5
    events = Interactions.from_lists([[4, 0, 2 if x else 1] for x in late])
    times = np.stack([np.zeros(400), np.where(late, 10**7, 10), np.where(late, 10**7, 10) + 5], axis=1)
    events = replace(events, times=times.flatten().astype(np.int64))
    model = HSTU.fit(events, make_catalogue(6), replace(SMALL, negatives=0))
    asked = replace(Interactions.from_lists([[4, 0], [4, 0]]), times=np.array([0, 10, 0, 10**7]))
    assert model.recommend(asked, 1).items.tolist() == [[1], [2]]


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.0), ("negatives", -1)])
def test_a_setting_that_cannot_work_is_named(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        HSTU.fit(checkerboard(), make_catalogue(), replace(SMALL, **{name: value}))
