import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from redraft.optim import Best, adamw, cosine, descend, learning_rate, set_learning_rate
from redraft.records import InputError


def test_warm_up_then_a_cosine_to_two_percent() -> None:
    rates = [learning_rate(1e-3, step, 400) for step in range(400)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[200] == pytest.approx(0.51e-3)
    assert rates[-1] == pytest.approx(2e-5, rel=0.01)


@pytest.mark.parametrize("least", [0, 0.02, 1])
def test_a_cosine_begins_at_the_peak_and_ends_at_the_least(least: float) -> None:
    shares = [cosine(step, 10, least) for step in range(11)]
    assert (shares[0], shares[5], shares[10]) == pytest.approx((1, (1 + least) / 2, least))


def test_a_step_goes_down_the_clipped_gradient_and_forgets_the_one_before() -> None:
    network = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    before = network.weight.item()
    for step in (1, 2):
        set_learning_rate(optimizer, 0.5)
        descend(300 * network.weight.sum(), network, optimizer, 2.0, 1)
        assert network.weight.item() == pytest.approx(before - step, rel=1e-5)


@pytest.mark.parametrize("loss", [lambda weight: weight.sum() * math.nan, lambda weight: (0 * weight).sqrt().sum()])
def test_what_is_not_finite_is_named_and_leaves_the_weights(loss) -> None:
    network = nn.Linear(2, 2)
    before = network.weight.clone()
    with pytest.raises(InputError, match="not finite in epoch 7; train with a lower learning rate"):
        descend(loss(network.weight), network, adamw(network, 1e-3, 0.0), 1.0, 7)
    assert torch.equal(network.weight, before)


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, math.nan]), max_size=6), st.sampled_from([None, 0.25]))
def test_the_best_weights_come_back_the_first_of_equals(scores: list[float], start: float | None) -> None:
    network = nn.Linear(1, 1)
    nn.init.constant_(network.weight, -1)
    best = Best(network, start)
    for epoch, score in enumerate(scores):
        nn.init.constant_(network.weight, epoch)
        best.offer(score)
    best.restore()
    known = [(start, -1)] * (start is not None) + [(x, epoch) for epoch, x in enumerate(scores) if not math.isnan(x)]
    top = max((x for x, _ in known), default=None)
    kept = next((epoch for x, epoch in known if x == top), len(scores) - 1)
    assert network.weight.item() == kept
    assert best.since == len(scores) - 1 - (kept if known else -1)
