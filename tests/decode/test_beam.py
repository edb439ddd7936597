import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_ids

from redraft.decode.beam import beam_search, block
from redraft.records import SemanticIds
from redraft.tokenizer.trie import Trie


class TableDecoder:
    """Logits looked up by (user, prefix): a model whose every probability can be enumerated."""

    def __init__(self, n_users: int, n_levels: int, size: int, seed: int):
        rng = np.random.default_rng(seed)
        prefixes = [p for depth in range(n_levels) for p in itertools.product(range(size), repeat=depth)]
        self.logits = [{p: torch.from_numpy(rng.normal(0, 2, size)).float() for p in prefixes} for _ in range(n_users)]

    def decode_step(self, tokens, parents, cache, memory):
        if tokens is None:
            cache = [[()] for _ in self.logits]
        else:
            cache = [
                [(*cache[u][p], int(t)) for p, t in zip(parents[u].tolist(), tokens[u])] for u in range(len(tokens))
            ]
        return torch.stack([torch.stack([self.logits[u][p] for p in cache[u]]) for u in range(len(cache))]), cache

    def log_prob(self, user: int, codes: tuple[int, ...]) -> float:
        steps = [self.logits[user][codes[:d]].log_softmax(0)[codes[d]] for d in range(len(codes))]
        return float(sum(steps))


@st.composite
def worlds(draw: st.DrawFn):
    size, levels, n_users = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    code = st.lists(st.integers(0, size - 1), min_size=levels, max_size=levels).map(tuple)
    rows = draw(st.lists(code, min_size=1, max_size=20, unique=True))
    ids = SemanticIds(np.array(rows, dtype=np.int32), size)
    items = st.integers(-1, ids.n_items - 1)
    n_seen = draw(st.sampled_from([1, 2, 6]))  # fewer and more than a node has children
    seen = draw(st.lists(st.lists(items, min_size=n_seen, max_size=n_seen), min_size=n_users, max_size=n_users))
    allow = draw(
        st.none()
        | st.lists(st.booleans(), min_size=ids.n_items, max_size=ids.n_items)
        | st.lists(
            st.lists(st.booleans(), min_size=ids.n_items, max_size=ids.n_items), min_size=n_users, max_size=n_users
        )
    )
    return ids, TableDecoder(n_users, levels, size, draw(st.integers(0, 99))), seen, allow


def shown(user: int, item: int, seen: list[list[int]], allow) -> bool:
    allowed = True if allow is None else allow[user][item] if isinstance(allow[0], list) else allow[item]
    return allowed and item not in seen[user]


@given(worlds())
@settings(max_examples=150, deadline=None)
def test_a_wide_search_equals_exhaustive_scoring(world) -> None:
    ids, model, seen, allow = world
    trie = Trie.build(ids)
    mask = None if allow is None else torch.tensor(allow)
    beams = beam_search(model, None, trie, len(seen), 99, blocked=block(trie, torch.tensor(seen), mask))
    for user in range(len(seen)):
        wanted = {
            item: model.log_prob(user, tuple(ids.codes[item].tolist()))
            for item in range(ids.n_items)
            if shown(user, item, seen, allow)
        }
        found = [int(i) for i in beams.items[user] if i >= 0]
        assert sorted(found) == sorted(wanted)
        scores = beams.log_probs[user, : len(found)].tolist()
        assert scores == sorted(scores, reverse=True)
        np.testing.assert_allclose(scores, [wanted[item] for item in found], atol=1e-4)
        assert beams.codes[user, : len(found)].tolist() == ids.codes[found].tolist()
        assert beams.log_probs[user, len(found) :].isinf().all()


@given(worlds(), st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_a_narrow_search_is_never_short_and_never_wrong(world, n_beams: int) -> None:
    ids, model, seen, allow = world
    trie = Trie.build(ids)
    mask = None if allow is None else torch.tensor(allow)
    beams = beam_search(model, None, trie, len(seen), n_beams, blocked=block(trie, torch.tensor(seen), mask))
    for user in range(len(seen)):
        found = [int(i) for i in beams.items[user] if i >= 0]
        possible = [item for item in range(ids.n_items) if shown(user, item, seen, allow)]
        assert len(found) == len(set(found)) == min(n_beams, len(possible))
        assert set(found) <= set(possible)


def test_without_a_filter_every_item_may_come() -> None:
    ids = SemanticIds(np.array([[0, 1], [1, 0], [1, 1]], dtype=np.int32), 2)
    beams = beam_search(TableDecoder(1, 2, 2, 0), None, Trie.build(ids), 1, 3)
    assert sorted(beams.items[0].tolist()) == [0, 1, 2]


class FlatDecoder:
    """A model that knows nothing: every code is as likely as any other."""

    def __init__(self, n_users: int, size: int):
        self.n_users, self.size = n_users, size

    def decode_step(self, tokens, parents, cache, memory):
        n_beams = 1 if tokens is None else tokens.shape[1]
        return torch.zeros((self.n_users, n_beams, self.size)), 0


def test_a_model_that_scores_all_items_equally_finds_the_target_as_often_as_chance():
    """Ties are settled by codes, and codes say nothing about item numbers, so nothing about what is bought most."""
    n_items, n_users, size, n_worlds = 200, 40, 7, 120
    rng, hits = np.random.default_rng(0), []
    for seed in range(n_worlds):
        ids = tiny_ids(n_items, 3, size, seed)
        seen = rng.integers(n_items, size=(n_users, 5))
        targets = (n_items * rng.random(n_users) ** 3).astype(np.int64)  # low numbers are bought far more often
        trie = Trie.build(ids)
        blocked = block(trie, torch.from_numpy(seen))
        found = beam_search(FlatDecoder(n_users, size), None, trie, n_users, 20, blocked=blocked).items[:, :10]
        asked = (seen != targets[:, None]).all(axis=1)
        hits.append((found.numpy() == targets[:, None]).any(axis=1)[asked].mean())
    chance, spread = 10 / (n_items - 5), np.std(hits) / np.sqrt(n_worlds)
    assert abs(np.mean(hits) - chance) < 3 * spread
    assert spread < 0.1 * chance
