import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from redraft.train.losses import clipped_objective, group_advantages, k3, next_item_nll, sft_loss

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "grpo_loss.json").read_text())

small = st.integers(1, 3)


@given(small, small, small, st.integers(2, 6), st.floats(0, 0.5), st.integers(0, 99))
def test_the_loss_is_equation_1_written_out(users, rows, levels, size, smoothing: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(users, rows, levels, size, generator=generator)
    codes = torch.randint(size, (users, rows, levels), generator=generator)
    loss = next_item_nll(logits, codes, smoothing)
    assert loss.shape == (users, rows)
    for u in range(users):
        for r in range(rows):
            expected = 0.0
            for level in range(levels):
                values = [math.exp(x) for x in logits[u, r, level].tolist()]
                for code, value in enumerate(values):
                    share = smoothing / size + (1 - smoothing) * (code == int(codes[u, r, level]))
                    expected -= share * math.log(value / sum(values))
            assert float(loss[u, r]) == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_summed_in_float32() -> None:
    logits = torch.randn(2, 1, 3, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    codes = torch.zeros((2, 1, 3), dtype=torch.int64)
    torch.testing.assert_close(next_item_nll(logits, codes), next_item_nll(logits.float(), codes))


def test_advantages_by_hand() -> None:
    """Eq. 22 for rewards 3, 1, 3, 0: ranks 2.5, 1, 2.5, 0 around 1.5, variance (1 + .25 + 1 + 2.25) / 4 = 1.125."""
    expected = [1 / 1.125**0.5, -0.5 / 1.125**0.5, 1 / 1.125**0.5, -1.5 / 1.125**0.5]
    rewards = torch.tensor([[3.0, 1.0, 3.0, 0.0], [7.0, 7.0, 7.0, 7.0], [-2.0, -2.0, 5.0, 5.0]])
    found = group_advantages(rewards)
    assert found[0].tolist() == pytest.approx(expected)
    assert found[1].tolist() == [0, 0, 0, 0]
    assert found[2].tolist() == [-1, -1, 1, 1]


groups = st.lists(st.integers(-3, 3), min_size=2, max_size=12)


@given(groups, st.integers(0, 999))
def test_advantages_depend_on_the_order_of_the_rewards_alone(rewards: list[int], seed: int) -> None:
    given_rewards = torch.tensor([rewards], dtype=torch.float32)
    found = group_advantages(given_rewards)
    torch.testing.assert_close(group_advantages(given_rewards**3 / 7 - 2), found)
    order = torch.randperm(len(rewards), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(group_advantages(given_rewards[:, order]), found[:, order])
    assert float(found.sum()) == pytest.approx(0, abs=1e-4)
    varied = len(set(rewards)) > 1
    assert float(found.square().mean()) == pytest.approx(float(varied), abs=1e-4)
    for i, first in enumerate(rewards):
        for j, second in enumerate(rewards):
            assert torch.sign(found[0, i] - found[0, j]) == (first > second) - (first < second)


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_the_objective_is_that_of_a_public_implementation(case: dict) -> None:
    """Values and gradients of liger-kernel's GRPO loss (see the file's `source`); a user there is a sequence here."""
    log_probs, old, reference = (torch.tensor(case[name])[None].double() for name in ("log_probs", "old", "reference"))
    advantages = torch.tensor(case["advantages"])[None].double()
    log_probs.requires_grad_()
    knobs = {"clip_ratio": case["clip_ratio"], "kl_weight": case["kl_weight"]}
    losses, kl, clipped = clipped_objective(log_probs, old, reference, advantages, **knobs)
    losses.mean().backward()
    assert float(losses.detach().mean()) == pytest.approx(case["loss"], abs=1e-6)
    torch.testing.assert_close(log_probs.grad[0], torch.tensor(case["gradient"]).double(), atol=1e-6, rtol=1e-5)
    *their_kl, their_clipped = case["metrics"]
    assert float(clipped.double().mean()) == pytest.approx(their_clipped)
    assert [float(kl.detach().mean())][: len(their_kl)] == pytest.approx(their_kl, abs=1e-6)


log_prob = st.floats(-4, 0)


@given(st.lists(st.tuples(log_prob, log_prob, log_prob), min_size=1, max_size=4), st.floats(-3, 3), st.floats(0, 1))
def test_the_objective_is_equation_23_written_out(actions, advantage: float, kl_weight: float) -> None:
    columns = (torch.tensor([[list(column)]], dtype=torch.float64) for column in zip(*actions))
    gain = torch.tensor([[advantage]], dtype=torch.float64)
    losses, kl, clipped = clipped_objective(*columns, gain, clip_ratio=0.15, kl_weight=kl_weight)
    for place, (new, old, reference) in enumerate(actions):
        ratio = math.exp(new) / math.exp(old)
        bounded = min(max(ratio, 0.85), 1.15)
        estimate = math.exp(reference) / math.exp(new) - (reference - new) - 1
        expected = min(ratio * advantage, bounded * advantage) - kl_weight * estimate
        assert float(losses[0, 0, place]) == pytest.approx(-expected, abs=1e-9)
        assert float(kl[0, 0, place]) == pytest.approx(estimate, abs=1e-9)
        assert bool(clipped[0, 0, place]) == (bounded * advantage < ratio * advantage)


@given(st.integers(2, 5), st.integers(0, 999))
def test_the_kl_estimate_is_right_on_average_and_never_negative(size: int, seed: int) -> None:
    policy, reference = torch.randn(2, size, generator=torch.Generator().manual_seed(seed)).double().log_softmax(-1)
    estimates = k3(policy, reference)
    assert (estimates >= 0).all()
    exact = (policy.exp() * (policy - reference)).sum()
    assert float((policy.exp() * estimates).sum()) == pytest.approx(float(exact), abs=1e-6)


def test_the_supervised_loss_by_hand() -> None:
    """Eq. 10 with lambda_rc = 1.5: 4 + 1.5 * (2 + 6) = 16; lambda weighs reflection and correction alike."""
    parts = (torch.tensor([4.0]), torch.tensor([2.0]), torch.tensor([6.0]))
    assert sft_loss(*parts, 1.5).tolist() == [16.0]
