import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import reflection_of

from redraft.decode.beam import beam_search, block
from redraft.decode.correct import TrajectoryBatch, correct, draft, ranked
from redraft.decode.merge import POLICIES
from redraft.records import SemanticIds
from redraft.tokenizer.trie import Trie


class TableCorrector:
    """Logits drawn once for each situation and kept: a model whose every trajectory can be enumerated.

    A sequence is what was written so far; a correction's also holds its draft and the draft's labels.
    """

    def __init__(self, n_users: int, n_levels: int, size: int, n_attributes: int, seed: int, *, reflects: bool = True):
        self.shape = (n_users, n_levels, size, n_attributes)
        self.seed = seed
        self.reflects = reflects

    def logits(self, kind: int, user: int, situation: tuple[int, ...], size: int) -> torch.Tensor:
        rng = np.random.default_rng([self.seed, kind, user, len(situation), *situation])
        return torch.from_numpy(rng.normal(0, 2, size)).float()

    def decode_step(self, tokens, parents, cache, memory):
        cache = self._grow(tokens, parents, cache)
        return self._table(0, cache, self.shape[2]), cache

    def reflect(self, tokens, parents, cache, memory):
        drafts = self._grow(tokens, parents, cache)
        match = [self._table(2 + k, drafts, 2) for k in range(self.shape[3])]
        location = self._table(1, drafts, self.shape[1] + 1)
        matches = torch.stack(match, dim=2) if match else torch.zeros(*location.shape[:2], 0, 2)
        return (reflection_of(location, matches) if self.reflects else None), drafts

    def correct_step(self, labels, tokens, parents, cache, memory):
        if tokens is None:
            said = labels.tolist()
            cache = [
                [(*cache[u][p], *said[u][row]) for row, p in enumerate(parents[u].tolist())] for u in range(len(cache))
            ]
        else:
            cache = self._grow(tokens, parents, cache)
        return self._table(99, cache, self.shape[2]), cache

    def _grow(self, tokens, parents, cache):
        if tokens is None:
            return [[()] for _ in range(self.shape[0])]
        return [[(*cache[u][p], int(t)) for p, t in zip(parents[u].tolist(), tokens[u])] for u in range(len(tokens))]

    def _table(self, kind, cache, size):
        return torch.stack([torch.stack([self.logits(kind, u, s, size) for s in row]) for u, row in enumerate(cache)])

    def path(self, kind: int, user: int, before: tuple[int, ...], codes: tuple[int, ...]) -> float:
        steps = [
            self.logits(kind, user, (*before, *codes[:d]), self.shape[2]).log_softmax(0)[codes[d]]
            for d in range(len(codes))
        ]
        return float(sum(steps))


@st.composite
def worlds(draw: st.DrawFn):
    size, levels, n_users = draw(st.integers(2, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    code = st.lists(st.integers(0, size - 1), min_size=levels, max_size=levels).map(tuple)
    ids = SemanticIds(np.array(draw(st.lists(code, min_size=1, max_size=8, unique=True)), dtype=np.int32), size)
    n_attributes, seed = draw(st.integers(0, 2)), draw(st.integers(0, 999))
    model = TableCorrector(n_users, levels, size, n_attributes, seed, reflects=draw(st.booleans()))
    items = st.integers(-1, ids.n_items - 1)
    seen = draw(st.lists(st.lists(items, min_size=3, max_size=3), min_size=n_users, max_size=n_users))
    return ids, model, seen


def two_stages(model, trie: Trie, n_users: int, n_beams: int, *, blocked=None, **spent) -> TrajectoryBatch:
    drafted = draft(model, None, trie, n_users, n_beams, blocked=blocked)
    return correct(model, None, trie, drafted, n_beams, **spent, blocked=blocked)


def enumerate_paths(
    ids: SemanticIds, model: TableCorrector, user: int, shown: list[int], budget: int, alpha: float, hypotheses: int
):
    """All drafts, what the model says of each, and all corrections of those that deserve it, by the book."""
    n_levels, n_attributes = ids.n_levels, model.shape[3]
    drafts, doubts, kept = {}, {}, {}
    for item in shown:
        codes = tuple(ids.codes[item].tolist())
        drafts[item] = model.path(0, user, (), codes)
        tables = [model.logits(1, user, codes, n_levels + 1)]
        tables += [model.logits(2 + k, user, codes, 2) for k in range(n_attributes)]
        if not model.reflects:
            doubts[item], kept[item] = (drafts[item], [(0.0, codes)]), -math.inf
        elif int(tables[0].argmax()) < n_levels:
            entropy = sum(-float((t.softmax(0) * t.log_softmax(0)).sum()) for t in tables) / len(tables)
            vectors = [
                (sum(float(t.log_softmax(0)[label]) for t, label in zip(tables, labels)), (*codes, *labels))
                for labels in product(range(n_levels), *[range(2)] * n_attributes)
            ]
            kept[item] = float(tables[0].log_softmax(0)[n_levels])
            doubts[item] = drafts[item] + alpha * entropy, sorted(vectors, reverse=True)[:hypotheses]
    sent = sorted(doubts, key=lambda item: -doubts[item][0])[:budget]
    corrections = [
        (item, drafts[draft] + said + model.path(99, user, situation, tuple(ids.codes[item].tolist())))
        for draft in sent
        for said, situation in doubts[draft][1]
        for item in shown
    ]
    return drafts, {item: kept[item] for item in sent}, corrections


@given(worlds(), st.integers(1, 9), st.integers(1, 12), st.sampled_from([0.0, 0.2, 3.0]), st.sampled_from(POLICIES))
@settings(max_examples=120, deadline=None)
def test_a_wide_search_equals_enumeration(world, budget: int, hypotheses: int, alpha: float, policy) -> None:
    ids, model, seen = world
    trie, spent = Trie.build(ids), {"alpha": alpha, "hypotheses": hypotheses}
    blocked = block(trie, torch.tensor(seen))
    found = two_stages(model, trie, len(seen), 999, budget=budget, **spent, blocked=blocked)
    items, scores = ranked(found, policy, 99)
    for user in range(len(seen)):
        shown = [item for item in range(ids.n_items) if item not in seen[user]]
        drafts, sent, corrections = enumerate_paths(ids, model, user, shown, budget, **spent)
        rows = found.rows[user][found.used[user]]
        assert list(dict.fromkeys(found.drafts.items[user][rows].tolist())) == list(sent)
        leave = sent if policy == "replace" else {}
        paths = {item: [score + leave.get(item, 0.0)] for item, score in drafts.items()}
        for item, score in corrections:
            paths[item].append(score)
        combine = max if policy == "union-best" else lambda s: math.log(sum(map(math.exp, s)))
        wanted = {item: combine(values) for item, values in paths.items()}
        got = {item: score for item, score in zip(items[user].tolist(), scores[user].tolist()) if item >= 0}
        assert got == pytest.approx(wanted, abs=1e-3)
        assert list(got.values()) == sorted(got.values(), reverse=True)


@given(worlds(), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_a_narrow_search_stays_inside_the_catalogue(world, n_beams: int, budget: int) -> None:
    ids, model, seen = world
    trie, budget = Trie.build(ids), min(budget, n_beams)
    blocked = block(trie, torch.tensor(seen))
    found = two_stages(model, trie, len(seen), n_beams, budget=budget, alpha=0.2, hypotheses=3, blocked=blocked)
    drafts = beam_search(model, None, trie, len(seen), n_beams, blocked=blocked)
    assert torch.equal(found.drafts.items, drafts.items)
    sent = torch.zeros_like(found.settled).scatter(1, found.rows, found.used)
    assert sent.sum(dim=1).max() <= budget
    for policy in POLICIES:
        items, _ = ranked(found, policy, n_beams)
        for user in range(len(seen)):
            real = [item for item in items[user].tolist() if item >= 0]
            assert len(real) == len(set(real))
            assert not set(real) & set(seen[user])
            if policy != "replace":
                assert len(real) == min(n_beams, ids.n_items - len(set(seen[user]) - {-1}))


def test_settled_drafts_keep_their_place() -> None:
    """Where the model holds every draft to be right, all policies give the drafts back."""
    ids = SemanticIds(np.array([[0, 1], [1, 0], [1, 1]], dtype=np.int32), 2)

    class Sure(TableCorrector):
        def reflect(self, tokens, parents, cache, memory):
            reflection, drafts = super().reflect(tokens, parents, cache, memory)
            return reflection_of(
                torch.tensor([0.0, 0.0, 9.0]).expand_as(reflection.location), reflection.kinds[1]
            ), drafts

    found = two_stages(Sure(1, 2, 2, 1, 0), Trie.build(ids), 1, 3, budget=3, alpha=0.2, hypotheses=2)
    assert not found.used.any()
    for policy in POLICIES:
        items, scores = ranked(found, policy, 3)
        assert torch.equal(items, found.drafts.items)
        assert torch.allclose(scores, found.drafts.log_probs)
