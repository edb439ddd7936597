import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from tiny import tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.checkpoint import build_grc
from redraft.decode.sample import Rollouts, sample_trajectories, trajectory_log_probs
from redraft.model.template import GRC
from redraft.tokenizer.trie import Trie

HISTORY = torch.tensor([[2, 0, 1]])


def make(n_items: int, n_levels: int, n_attributes: int, seed: int = 0) -> tuple[GRC, Trie]:
    ids, catalogue = tiny_ids(n_items, n_levels, 3, seed), tiny_catalogue(n_items, n_attributes, seed)
    return with_random_weights(build_grc(tiny_config(), ids, catalogue, reflection=True), seed), Trie.build(ids)


def under_the_trie(logits: torch.Tensor, model: GRC, item: int, temperature: float) -> list[dict[int, float]]:
    """For each level, the probability of every code that some item has after the item's own prefix."""
    table = model.codes.tolist()
    levels = []
    for depth in range(model.n_levels):
        allowed = {codes[depth] for codes in table if codes[:depth] == table[item][:depth]}
        values = {code: math.exp(float(logits[depth, code]) / temperature) for code in allowed}
        levels.append({code: value / sum(values.values()) for code, value in values.items()})
    return levels


def probability(levels: list[dict[int, float]], codes: list[int]) -> float:
    return math.prod(level[code] for level, code in zip(levels, codes))


@torch.no_grad()
def every_trajectory(model: GRC, temperature: float) -> dict[tuple[int, ...], float]:
    """The exact probability of each (draft, location, match, correction), one template at a time."""
    items, table = range(len(model.codes)), model.codes.tolist()
    found = {}
    for draft, location, match in itertools.product(items, range(model.n_levels + 1), (0, 1)):
        labels = torch.tensor([[[location, match]]])
        for correction in items:
            pair = torch.tensor([[draft]]), torch.tensor([[correction]])
            logits = model.template(HISTORY, pair[1], pair[0], labels)
            own = model.template(HISTORY, pair[0], pair[0], labels).target[0, 0]
            share = probability(under_the_trie(own, model, draft, temperature), table[draft])
            share *= float((logits.reflection.location[0, 0] / temperature).softmax(-1)[location])
            share *= float((logits.reflection.kinds[1][0, 0, 0] / temperature).softmax(-1)[match])
            levels = under_the_trie(logits.correction[0, 0], model, correction, temperature)
            found[draft, location, match, correction] = share * probability(levels, table[correction])
    return found


def agrees(counts: Counter, expected: dict) -> float:
    """p-value of counts under expected probabilities; what is expected fewer than 5 times shares one cell."""
    total = sum(counts.values())
    frequent = [key for key, share in expected.items() if share * total >= 5]
    seen = [counts[key] for key in frequent]
    due = [expected[key] * total for key in frequent]
    if total - sum(due) > 1e-3:
        seen, due = [*seen, total - sum(seen)], [*due, total - sum(due)]
    return chisquare(seen, due, sum_check=False).pvalue


@torch.no_grad()
def test_trajectories_come_up_as_often_as_they_should() -> None:
    model, trie = make(5, 2, 1)
    torch.manual_seed(0)
    drawn = sample_trajectories(model, model.remember(HISTORY), trie, 1, 20_000, temperature=0.5)
    columns = (drawn.drafts[0], drawn.labels[0, :, 0], drawn.labels[0, :, 1], drawn.corrections[0])
    counts = Counter(zip(*(column.tolist() for column in columns)))
    exact = every_trajectory(model, 0.5)
    assert sum(exact.values()) == pytest.approx(1)
    assert agrees(counts, exact) > 1e-3
    assert agrees(counts, every_trajectory(model, 0.6)) < 1e-6, "so many samples would show a wrong temperature"


@torch.no_grad()
def test_distinct_drafts_are_draws_without_replacement() -> None:
    """In order, the first two of a group are a and b with probability p(a) p(b) / (1 - p(a))."""
    model, trie = make(6, 3, 1)
    torch.manual_seed(0)
    history = HISTORY.expand(8_000, -1)
    drawn = sample_trajectories(model, model.remember(history), trie, len(history), 2, distinct=True)
    logits = [model(HISTORY, torch.tensor([[item]]))[0, 0] for item in range(6)]
    share = [
        probability(under_the_trie(logits[item], model, item, 1.0), model.codes[item].tolist()) for item in range(6)
    ]
    exact = {(a, b): share[a] * share[b] / (1 - share[a]) for a in range(6) for b in range(6) if a != b}
    assert agrees(Counter(map(tuple, drawn.drafts.tolist())), exact) > 1e-3
    everything = sample_trajectories(model, model.remember(history[:9]), trie, 9, 6, distinct=True)
    assert everything.drafts.sort(dim=1).values.tolist() == [list(range(6))] * 9


shapes = st.tuples(st.integers(1, 9), st.integers(2, 3), st.integers(0, 2), st.integers(0, 99))


@given(shapes, st.integers(1, 5), st.sampled_from([0.7, 1.0, 2.0]), st.booleans())
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_sampled_log_probs_are_those_of_one_teacher_forced_pass(
    shape, group: int, temperature: float, distinct
) -> None:
    model, trie = make(*shape)
    torch.manual_seed(shape[3])
    history = torch.randint(shape[0], (3, 5))
    history[0, :2] = -1
    group = min(group, shape[0]) if distinct else group
    drawn = sample_trajectories(
        model, model.remember(history), trie, 3, group, temperature=temperature, distinct=distinct
    )
    logits = model.trajectory(model.encode(history), drawn.drafts, drawn.labels, drawn.corrections)
    scored, entropy = trajectory_log_probs(*logits, drawn, trie, temperature=temperature)
    assert scored.joined().shape == (3, group, 2 * shape[1] + shape[2] + 1)
    for taken, again in zip(drawn.log_probs, scored):
        torch.testing.assert_close(taken, again, atol=1e-5, rtol=1e-5)
    assert (entropy.joined() >= -1e-6).all()
    assert torch.isfinite(scored.joined()).all()


@torch.no_grad()
def test_scores_and_entropies_are_those_of_the_constrained_policy() -> None:
    model, trie = make(7, 3, 2)
    labels = torch.tensor([[[1, 0, 1]]])
    chosen = Rollouts(torch.tensor([[4]]), labels, torch.tensor([[6]]), None)
    logits = model.trajectory(model.encode(HISTORY), chosen.drafts, labels, chosen.corrections)
    scored, entropy = trajectory_log_probs(*logits, chosen, trie, temperature=0.8)
    for part, surprise, log_probs, item in (
        (0, logits.target, scored.draft, 4),
        (2, logits.correction, scored.correction, 6),
    ):
        levels = under_the_trie(surprise[0, 0], model, item, 0.8)
        expected = [math.log(level[code]) for level, code in zip(levels, model.codes[item].tolist())]
        assert log_probs[0, 0].tolist() == pytest.approx(expected, abs=1e-5)
        plain = [-sum(p * math.log(p) for p in level.values()) for level in levels]
        assert entropy[part][0, 0].tolist() == pytest.approx(plain, abs=1e-5)
    tables = [slot[0, 0] for slot in logits.reflection.slots()]
    shares = [(table / 0.8).softmax(-1) for table in tables]
    assert scored.reflection[0, 0].tolist() == pytest.approx(
        [float(s[i].log()) for s, i in zip(shares, (1, 0, 1))], abs=1e-5
    )
    assert entropy.reflection[0, 0].tolist() == pytest.approx([float(-(s * s.log()).sum()) for s in shares], abs=1e-5)


def test_gradients_are_finite_where_the_trie_forbids_codes() -> None:
    model, trie = make(4, 2, 1)
    with torch.no_grad():
        drawn = sample_trajectories(model, model.remember(HISTORY), trie, 1, 6)
    logits = model.trajectory(model.encode(HISTORY), drawn.drafts, drawn.labels, drawn.corrections)
    scored, _ = trajectory_log_probs(*logits, drawn, trie)
    scored.joined().sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)
    assert model.head.grad.any()
