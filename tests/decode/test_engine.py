import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_interactions, tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.checkpoint import build_grc
from redraft.decode import engine as engine_module
from redraft.decode.beam import beam_search, block
from redraft.decode.correct import correct, draft, ranked
from redraft.decode.correction import CorrectionPlan
from redraft.decode.engine import Engine, Plan, rank
from redraft.records import InputError
from redraft.tokenizer.trie import Trie

N, LEVELS = 40, 3
CPU = torch.device("cpu")
PLANS = (Plan(10, 12, False, None), Plan(10, 12, False, CorrectionPlan(8, 5, 0.2, 2, "union-logsumexp")))


def make(seed: int = 0):
    ids = tiny_ids(N, LEVELS, 5, seed)
    model = with_random_weights(build_grc(tiny_config(), ids, tiny_catalogue(N, 2), reflection=True), seed)
    return model, Trie.build(ids)


def users(n: int, seed: int = 0) -> torch.Tensor:
    """Histories of 1 to 8 items."""
    lengths = [1 + (seed + u) % 8 for u in range(n)]
    return torch.from_numpy(random_interactions(lengths, N, seed).padded(8))


def same(found, wanted) -> None:
    """The same lists; items that all but tie may change places."""
    torch.testing.assert_close(found[1], wanted[1], atol=1e-4, rtol=1e-4)
    for user in range(len(wanted[0])):
        clear = wanted[1][user] > wanted[1][user, -1] + 1e-4
        assert set(found[0][user][clear].tolist()) == set(wanted[0][user][clear].tolist())


@torch.no_grad()
def test_the_program_is_the_search_step_by_step() -> None:
    model, trie = make()
    history = users(6)
    memory, blocked = model.remember(history), block(trie, history)
    beams = beam_search(model, memory, trie, 6, 12, blocked=blocked)
    same(rank(model, trie, PLANS[0], history, history), (beams.items[:, :10], beams.log_probs[:, :10]))
    drafted = draft(model, memory, trie, 6, 12, blocked=blocked)
    found = correct(model, memory, trie, drafted, 8, budget=5, alpha=0.2, hypotheses=2, blocked=blocked)
    same(rank(model, trie, PLANS[1], history, history), ranked(found, "union-logsumexp", 10))


@given(
    st.sampled_from(PLANS),
    st.sets(st.integers(1, 70), min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(0, 5),
    st.integers(0, 9),
)
@settings(max_examples=25, deadline=None)
def test_buckets_and_padding_never_change_a_list(plan, sizes, n_users: int, n_padding: int, seed: int) -> None:
    model, trie = make(seed)
    history, program = users(n_users, seed), partial(rank, model, trie, plan)
    padded = torch.nn.functional.pad(history, (n_padding, 0), value=-1)
    found = Engine(program, CPU, sorted(sizes | {n_users}))(history, padded)
    with torch.no_grad():
        wanted = [program(history[u : u + 1], history[u : u + 1]) for u in range(n_users)]
    same(found, tuple(map(torch.cat, zip(*wanted))))


@pytest.mark.parametrize("plan", PLANS)
def test_a_batch_of_64_equals_64_batches_of_1(plan: Plan) -> None:
    model, trie = make()
    engine, history = Engine(partial(rank, model, trie, plan), CPU, (1, 64)), users(64)
    alone = [engine(history[u : u + 1], history[u : u + 1]) for u in range(64)]
    same(engine(history, history), tuple(map(torch.cat, zip(*alone))))


def test_masks_for_all_and_for_each_user_are_heeded_in_every_bucket() -> None:
    model, trie = make()
    history, allow = users(3), torch.rand(3, N, generator=torch.Generator().manual_seed(0)) < 0.5
    engine = Engine(partial(rank, model, trie, PLANS[1]), CPU, (2, 8))
    items, _ = engine(history, history, allow)
    for user in range(3):
        assert allow[user][items[user][items[user] >= 0]].all()
        own = slice(user, user + 1)
        same(engine(history[own], history[own], allow[own]), engine(history[own], history[own], allow[user][None]))
    for_all, _ = engine(history, history, allow[:1])
    assert allow[0][for_all[for_all >= 0]].all()


def test_more_users_than_a_bucket_holds_are_refused() -> None:
    model, trie = make()
    with pytest.raises(InputError, match=r"a batch of 5 users, but the engine's buckets are 1, 4; split"):
        Engine(partial(rank, model, trie, PLANS[0]), CPU, (4, 1))(users(5), users(5))


def test_a_trained_step_shows_in_the_next_list() -> None:
    """An engine holds no copy of the weights."""
    model, trie = make()
    engine, history = Engine(partial(rank, model, trie, PLANS[0]), CPU), users(2)
    before = engine(history, history)[1]
    with torch.no_grad():
        model.head.mul_(2)
    assert not torch.allclose(engine(history, history)[1], before)


class StandIn:
    """As a captured graph: one place for inputs, one for outputs, and time in between for others to come."""

    def __init__(self, program, inputs, pool):
        self.inputs = tuple(x.clone() for x in inputs)

    def __call__(self, *inputs):
        for kept, new in zip(self.inputs, inputs):
            kept.copy_(new)
        time.sleep(1e-4)
        return (self.inputs[0] * 2, self.inputs[1] * 2)


def test_threads_that_share_a_graph_get_their_own_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_Graph", StandIn)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    engine = Engine(lambda *inputs: inputs, CPU, (2,))
    engine.captures = True

    def ask(number: int) -> bool:
        asked = torch.full((1, 4), number)
        return all(bool((found == 2 * number).all()) for found in engine(asked, asked))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(400)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("plan", PLANS)
def test_a_replayed_graph_equals_the_program(plan: Plan) -> None:
    model, trie = make()
    device = torch.device("cuda")
    engine = Engine(partial(rank, model.to(device), trie.to(device), plan), device, (1, 4))
    for seed in range(3):
        history = users(3, seed).to(device)
        with torch.no_grad():
            same(engine(history, history), rank(model, engine.program.args[1], plan, history, history))
