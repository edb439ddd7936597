from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import (
    random_interactions,
    tiny_backbone,
    tiny_catalogue,
    tiny_config,
    tiny_generator,
    tiny_generator_config,
    tiny_ids,
    with_random_weights,
)

from redraft.decode.beam import beam_search
from redraft.model.generator import CorrectingGenerator, Generator
from redraft.model.prefixes import masses, pairs, products
from redraft.records import InputError, SemanticIds
from redraft.tokenizer.trie import Trie

quick = settings(max_examples=25, deadline=None)
POOLINGS = st.sampled_from(["exact", "mean"])


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Generator, SemanticIds, torch.Tensor]:
    """A generator over a catalogue that leaves most codes unused, and histories of up to 6 items."""
    n_levels, size, seed = draw(st.integers(1, 4)), draw(st.integers(2, 5)), draw(st.integers(0, 99))
    n_items = draw(st.integers(1, min(40, size**n_levels)))
    ids, catalogue = tiny_ids(n_items, n_levels, size, seed), tiny_catalogue(n_items, draw(st.integers(0, 2)), seed)
    shape = tiny_generator_config(shortlist=draw(st.sampled_from([5, 64])), pooling=draw(POOLINGS))
    model = tiny_generator(shape, ids, catalogue, seed)
    longest = draw(st.integers(1, 6))
    lengths = draw(st.lists(st.integers(1, longest), min_size=1, max_size=3))
    return model, ids, torch.from_numpy(random_interactions(lengths, n_items, seed).padded(longest))


def log_probs(model: Generator, history: torch.Tensor) -> torch.Tensor:
    """Log-probability [U, N] of every item after every history, teacher-forced."""
    items = torch.arange(len(model.codes))
    found = [
        model(history[u : u + 1].expand(len(items), -1), items[:, None]).log_softmax(-1) for u in range(len(history))
    ]
    codes = model.codes[:, None, :, None]
    return torch.stack([x.gather(-1, codes)[:, 0, :, 0].sum(-1) for x in found])


@given(worlds())
@quick
@torch.no_grad()
def test_the_probabilities_of_all_items_sum_to_1(world) -> None:
    model, _, history = world
    torch.testing.assert_close(log_probs(model, history).exp().sum(-1), torch.ones(len(history)), atol=1e-4, rtol=0)


@given(worlds())
@quick
@torch.no_grad()
def test_a_wide_search_equals_exhaustive_scoring(world) -> None:
    model, ids, history = world
    found = beam_search(model, model.remember(history), Trie.build(ids), len(history), ids.n_items)
    every = log_probs(model, history)
    assert [sorted(row) for row in found.items.tolist()] == [list(range(ids.n_items))] * len(history)
    torch.testing.assert_close(found.log_probs, every.gather(1, found.items), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.log_probs, every.sort(dim=1, descending=True).values, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_search_that_was_told_writes_what_it_was_told() -> None:
    ids, catalogue = tiny_ids(20, 3, 4), tiny_catalogue(20)
    model = tiny_generator(tiny_generator_config(), ids, catalogue)
    for weight in (model.head, *model.child_bias):
        weight.zero_()
    history = torch.from_numpy(random_interactions([5, 3], 20).padded(5))
    opinion = 0.9 * torch.rand(2, 20).softmax(dim=1)
    memory = model.remember(history)
    own = memory.encoded.known.mass[-1].softmax(dim=1)[:, Trie.build(ids).leaves.long()]
    found = beam_search(model, model.told(memory, opinion, 0.1), Trie.build(ids), 2, 20)
    torch.testing.assert_close(
        found.log_probs.exp(), (opinion + 0.1 * own).gather(1, found.items), atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_a_prefix_is_read_alike_alone_and_before_what_follows_it() -> None:
    """The encoder at a place says what it says when the history ends there, however far it is padded."""
    ids = tiny_ids(30, 3, 5)
    model = tiny_generator(tiny_generator_config(), ids, tiny_catalogue(30))
    whole = torch.tensor([[4, 9, 2, 17, 5]])
    encoded = model.encode(whole)
    for n in range(1, 6):
        alone = model.encode(F.pad(whole[:, :n], (2, 0), value=-1))
        torch.testing.assert_close(alone.known.query[:, -1], encoded.known.query[:, n - 1])
    shared = model(whole[:, :-1], whole[:, 1:])
    for n in range(1, 5):
        torch.testing.assert_close(model(whole[:, :n], whole[:, n : n + 1])[:, 0], shared[:, n - 1])


@given(st.integers(1, 3), st.booleans(), st.integers(0, 9), POOLINGS)
@quick
@torch.no_grad()
def test_a_trajectory_scored_in_one_pass_equals_its_search_step_by_step(
    n_drafts: int, reflection: bool, seed: int, pooling: str
) -> None:
    ids, catalogue = tiny_ids(30, 3, 5, seed), tiny_catalogue(30, 2, seed)
    codes, attributes = torch.from_numpy(ids.codes), torch.from_numpy(catalogue.attributes)
    shape = tiny_generator_config(pooling=pooling)
    model = CorrectingGenerator(shape, codes, 5, attributes, Trie.build(ids), reflection=reflection)
    model = with_random_weights(model, seed)
    history = torch.tensor([[-1, 3, 11], [8, 2, 29]])
    drafts, corrections = torch.randint(30, (2, 2, n_drafts), generator=torch.Generator().manual_seed(seed))
    labels = torch.ones(2, n_drafts, 3, dtype=torch.int64)
    rows, memory = torch.arange(n_drafts).expand(2, -1), model.remember(history)
    tokens, parents, cache, drafted, corrected = None, None, None, [], []
    for level in range(3):
        logits, cache = model.decode_step(tokens, parents, cache, memory)
        drafted.append(logits.expand(-1, n_drafts, -1))
        tokens, parents = model.codes[drafts][..., level], rows if level else torch.zeros_like(rows)
    reflected, cache = model.reflect(tokens, parents, cache, memory)
    tokens = None
    for level in range(3):
        logits, cache = model.correct_step(labels, tokens, rows, cache, memory)
        corrected.append(logits)
        tokens = model.codes[corrections][..., level]
    scored = model.trajectory(model.encode(history), drafts, labels, corrections)
    for stepped, whole in ((drafted, scored.target), (corrected, scored.correction)):
        torch.testing.assert_close(torch.stack(stepped, 2).softmax(-1), whole.softmax(-1), atol=1e-5, rtol=1e-4)
    assert (reflected is None) == (not reflection)
    if reflected is not None:
        for one, other in zip(reflected.kinds, scored.reflection.kinds):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@given(worlds())
@quick
@torch.no_grad()
def test_a_decoder_that_adds_nothing_writes_as_the_item_head_chooses(world) -> None:
    model, ids, history = world
    model = tiny_generator(replace(model.config, pooling="exact"), ids, tiny_catalogue(ids.n_items, 0))
    for weight in (model.head, *model.child_bias):
        weight.zero_()
    known = model.encode(history).known
    expected = (known.query[:, -1] @ F.normalize(known.vectors, dim=-1).T / model.config.temperature).log_softmax(-1)
    likely = expected > -15
    torch.testing.assert_close(log_probs(model, history)[likely], expected[likely], atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_a_node_has_the_mass_of_the_items_below_it() -> None:
    ids = tiny_ids(60, 3, 5)
    trie, logits = Trie.build(ids), 5 * torch.randn(4, 60, generator=torch.Generator().manual_seed(0))
    for depth, mass in enumerate(masses(logits, trie), 1):
        nodes = trie.ancestors(trie.leaves.long(), depth)
        for node in range(mass.shape[1]):
            expected = logits[:, nodes == node].logsumexp(dim=1) - logits.amax(dim=1)
            torch.testing.assert_close(mass[:, node], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_64_users_at_once_are_64_users_one_by_one() -> None:
    ids = tiny_ids(100, 3, 6)
    model, trie = tiny_generator(tiny_generator_config(shortlist=3), ids, tiny_catalogue(100)), Trie.build(ids)
    history = torch.randint(100, (64, 5), generator=torch.Generator().manual_seed(0))
    together = beam_search(model, model.remember(history), trie, 64, 20)
    for user in range(64):
        alone = beam_search(model, model.remember(history[user : user + 1]), trie, 1, 20)
        torch.testing.assert_close(alone.log_probs[0], together.log_probs[user], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_without_vectors_it_is_the_plain_decoder_over_real_children() -> None:
    """With W_d, a_d, b, W_in and the start at 0 the same decoder weights over the same states give TIGER's logits."""
    ids, catalogue = tiny_ids(30, 3, 5), tiny_catalogue(30)
    plain = tiny_backbone(tiny_config(), ids, catalogue)
    model = tiny_generator(tiny_generator_config(decoder_layers=2, pooling="mean"), ids, catalogue)
    shared = {
        name: w for name, w in plain.state_dict().items() if "decoder" in name or name in ("head", "level_embedding")
    }
    model.load_state_dict(shared | plain.code_embedding.state_dict(prefix="code_embedding."), strict=False)
    model.load_state_dict(plain.token_in.state_dict(prefix="token_in."), strict=False)
    for weight in (model.direct, model.start.weight, model.prefix_in.weight, *model.child_bias):
        weight.zero_()
    for query in model.child_query:
        query.weight.zero_()
    model.cross_bias.zero_()
    plain.cross_bias.zero_()
    history, targets = torch.tensor([[1, 2, 3]]), torch.tensor([[7]])
    read = model.encode(history)
    x = plain.run_decoder(
        plain.target_inputs(targets, read, torch.tensor([2])), plain.causal_mask(3), read, torch.tensor([2])
    )
    logits, found = plain.code_logits(x), model(history, targets)
    real = found > -1e8
    assert 0 < int(real.sum()) < real.numel()
    torch.testing.assert_close(found[real], logits[real])


@torch.no_grad()
def test_a_short_list_changes_only_what_it_leaves_out() -> None:
    ids, catalogue = tiny_ids(60, 2, 12), tiny_catalogue(60)
    exact, short = (tiny_generator(tiny_generator_config(shortlist=n, pooling="mean"), ids, catalogue) for n in (12, 3))
    memory = exact.remember(torch.tensor([[1, 2, 3]]))
    _, cache = exact.decode_step(None, None, None, memory)
    step = exact.codes[:1, :1], torch.zeros(1, 1, dtype=torch.int64), cache, memory
    (every, _), (some, _) = (model.decode_step(*step) for model in (exact, short))
    children = (every > -torch.inf)[0, 0]
    assert (some > -torch.inf)[0, 0].tolist() == children.tolist()
    same = torch.isclose(every, some, atol=1e-5)[0, 0][children]
    assert int(same.sum()) >= 3
    assert not bool(same.all())


def test_weights_that_an_optimizer_has_moved_are_read_by_the_next_search() -> None:
    ids = tiny_ids(30, 3, 5)
    model = tiny_generator(tiny_generator_config(), ids, tiny_catalogue(30)).train()
    before = model.item_table.clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)  # which moves weights without a new version
    model(torch.tensor([[1, 2]]), torch.tensor([[3]])).clamp(min=-9).sum().backward()
    optimizer.step()
    model.eval()
    assert not torch.equal(model.item_table, before)
    with torch.no_grad():
        kept = model.encode(torch.tensor([[3]])).known.vectors
        torch.testing.assert_close(kept, F.normalize(model.vectors(), dim=-1))


def test_prefix_vectors_are_means_of_unit_vectors() -> None:
    ids = tiny_ids(30, 3, 5)
    model, trie = tiny_generator(tiny_generator_config(), ids, tiny_catalogue(30)), Trie.build(ids)
    unit = F.normalize(model.item_table, dim=-1)
    for depth, below in enumerate(model.below, 1):
        nodes = trie.ancestors(trie.leaves.long(), depth)
        for node in range(len(below)):
            torch.testing.assert_close(below[node], unit[nodes == node].mean(dim=0), atol=1e-6, rtol=1e-5)


def test_gradients_reach_the_vectors_of_items_through_every_depth() -> None:
    ids = tiny_ids(30, 3, 5)
    model = tiny_generator(tiny_generator_config(pooling="mean"), ids, tiny_catalogue(30)).train()
    model.items.number.weight.grad = None
    F.cross_entropy(model(torch.tensor([[1, 2]]), torch.tensor([[3]])).flatten(0, 2), model.codes[3]).backward()
    assert int((model.items.number.weight.grad.abs().sum(1) > 0).sum()) == 30, "every item stands below some first code"


def test_sparse_products_equal_dense_ones_and_so_do_their_gradients() -> None:
    ids = tiny_ids(60, 3, 6)
    trie, generator = Trie.build(ids), torch.Generator().manual_seed(0)
    nodes = torch.randint(len(trie.tokens[0]), (9,), generator=generator)
    wanted, below, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).float().requires_grad_()
        for shape in ((9, 8), (len(trie.tokens[1]), 8), (len(trie.tokens[1]),))
    )
    found = pairs(nodes, 1, trie)
    scores, real = found.by_code(products(wanted, below, found) + bias[found.children], 6)
    children, codes, exists = trie.expand(nodes, 1)
    dense = torch.zeros(9, 6)
    for row in range(9):
        for child, code, there in zip(children[row], codes[row], exists[row]):
            if there:
                dense[row, code] = wanted[row] @ below[child] + bias[child]
                assert real[row, code]
    assert int(real.sum()) == int(exists.sum())
    torch.testing.assert_close(scores, dense)
    weights = torch.randn(9, 6, generator=generator)
    ours, expected = (torch.autograd.grad((x * weights).sum(), (wanted, below, bias)) for x in (scores, dense))
    for one, other in zip(ours, expected):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "changes", [{"temperature": 0.0}, {"negatives": -1}, {"shortlist": 0}, {"number_dropout": -0.1}]
)
def test_settings_that_cannot_be(changes) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        tiny_generator(tiny_generator_config(**changes), tiny_ids(30, 3, 5), tiny_catalogue(30))
