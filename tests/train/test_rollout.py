import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from tiny import random_interactions, tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.checkpoint import build_grc
from redraft.data.loader import batches, every_prefix
from redraft.decode.sample import Rollouts, trajectory_log_probs
from redraft.model.template import GRC
from redraft.records import Batch
from redraft.tokenizer.trie import Trie
from redraft.train.rewards import RewardWeights
from redraft.train.rollout import Experience, roll_out, trajectory_losses
from redraft.train.sft import template_losses

IDS, CATALOGUE = tiny_ids(30, 3, 5), tiny_catalogue(30, 2)
TRIE = Trie.build(IDS)


def make(seed: int = 0, dropout: float = 0.2) -> GRC:
    return with_random_weights(build_grc(tiny_config(dropout=dropout), IDS, CATALOGUE, reflection=True), seed)


def one_batch() -> Batch:
    train = random_interactions([3, 9, 5, 7], 30)
    return next(iter(batches(train, every_prefix(train, 8), 20, seed=0, epoch=0)))


def rolled(network: GRC, reference: GRC, *, reward: RewardWeights | None = None, **changes) -> Experience:
    knobs = {"group": 8, "temperature": 1.0, "distinct": False, "near_miss": 0}
    torch.manual_seed(0)
    return roll_out(network, reference, one_batch(), TRIE, reward or RewardWeights(), **{**knobs, **changes})


def objective(network: GRC, **changes) -> Callable[[Batch, Experience], tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    knobs = {"temperature": 1.0, "clip_ratio": 0.15, "kl_weight": 0.03, "sft_weight": 0.0, "correction_weight": 1.2}
    return partial(trajectory_losses, network, trie=TRIE, **{**knobs, **changes})


def test_the_first_step_is_on_policy_and_later_ones_can_clip() -> None:
    network = make()
    seen = rolled(network, make(seed=1))
    step = objective(network, kl_weight=0.0)
    losses, stats = step(one_batch(), seen)
    torch.testing.assert_close(losses, torch.zeros_like(losses), atol=1e-5, rtol=0)  # ratio 1, advantages of mean 0
    assert not stats["clipped"].any()
    losses.mean().backward()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.grad is not None:
                weight -= 0.5 * weight.grad
    after, stats = step(one_batch(), seen)
    assert after.mean() < losses.mean()
    assert stats["clipped"].mean() > 0


def test_the_policy_gradient_is_that_of_the_advantages() -> None:
    """At the policy that was sampled, Eq. 23 has the gradient of the mean of advantage times log-probability."""
    network = make()
    seen = rolled(network, network)
    losses, _ = objective(network, kl_weight=0.0)(one_batch(), seen)
    losses.mean().backward()
    found = {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}
    network.zero_grad()
    total = torch.zeros(())
    for user in range(len(seen.advantages)):
        for row in range(8):
            one = slice(row, row + 1)
            labels = seen.rollouts.labels[user : user + 1, one]
            draft, correction = (x[user : user + 1, one] for x in (seen.rollouts.drafts, seen.rollouts.corrections))
            logits = network.template(one_batch().history[user : user + 1], correction, draft, labels)
            own = network.template(one_batch().history[user : user + 1], draft, draft, labels).target
            alone = Rollouts(draft, labels, correction, seen.rollouts.log_probs)
            taken, _ = trajectory_log_probs(own, logits.reflection, logits.correction, alone, TRIE)
            total = total + seen.advantages[user, row] * taken.joined().mean()
    (-total / seen.advantages.numel()).backward()
    for name, weight in network.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(found[name], weight.grad, atol=1e-5, rtol=1e-4)


def test_equal_rewards_teach_nothing_and_near_misses_can_be_asked_for() -> None:
    network = make()
    everything = rolled(network, network)
    hopeless = rolled(network, network, near_miss=4)
    assert not hopeless.advantages.any()
    assert hopeless.stats["no signal"].all()
    near = rolled(network, network, near_miss=2)
    codes, target = network.codes, network.codes[one_batch().target][:, None]
    found = torch.cat([everything.rollouts.drafts, everything.rollouts.corrections], dim=1)
    begins_right = (codes[found][..., :2] == target[..., :2]).all(dim=-1).any(dim=1)
    assert begins_right.any()
    assert not begins_right.all()
    assert torch.equal(near.advantages, everything.advantages * begins_right[:, None])


def test_statistics_by_hand() -> None:
    network = make()
    seen = rolled(network, network)
    assert seen.stats["unique drafts"].tolist() == [len(set(row)) for row in seen.rollouts.drafts.tolist()]
    target = network.codes[one_batch().target]
    hits = (network.codes[seen.rollouts.drafts] == target[:, None]).sum(-1).float().mean(1)
    torch.testing.assert_close(seen.stats["draft_hits"], hits)
    stats = objective(network)(one_batch(), seen)[1]
    assert stats["kl"].tolist() == pytest.approx([0.0] * len(target), abs=1e-5)
    assert float(stats["entropy draft"].mean()) == pytest.approx(
        float(seen.stats["reference entropy draft"].mean()), abs=1e-5
    )
    assert 0 < float(stats["entropy draft"].max()) <= math.log(5)


def test_the_anchor_is_the_supervised_loss_on_the_first_drafts() -> None:
    network = make(dropout=0.0)
    seen = rolled(network, network)
    likelihood, reflected, corrected, _ = template_losses(network, one_batch(), seen.rollouts.drafts[:, :1])
    alone, _ = objective(network)(one_batch(), seen)
    both, stats = objective(network, sft_weight=0.5)(one_batch(), seen)
    supervised = (likelihood + 1.2 * (reflected + corrected))[:, 0]
    torch.testing.assert_close(both - alone, 0.5 * supervised, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(stats["supervised"], supervised.detach())


def test_a_group_shares_one_pass_of_the_encoder() -> None:
    network = make()
    calls = []
    encode = network.encode
    network.encode = lambda history: calls.append(len(history)) or encode(history)
    rolled(network, make(seed=1), group=16)
    assert calls == [len(one_batch().history)]
