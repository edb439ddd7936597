from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
import torch
import torch.nn.functional as F
from contract import RecommenderContract, assert_same, checkerboard, make_catalogue, queries
from hypothesis import given
from hypothesis import strategies as st

from redraft.baselines.cobra import COBRA, COBRANetwork, COBRASettings, beam_fusion, may_attend_pairs, sparse_ids
from redraft.baselines.dssm import in_batch_softmax
from redraft.baselines.neural import Facts, Training
from redraft.records import Batch, Catalogue, InputError, Interactions

SMALL = COBRASettings(
    clusters=6,
    beams=2,
    width=16,
    feed_forward=32,
    heads=2,
    layers=1,
    history=8,
    dropout=0.1,
    training=Training(epochs=12, batch_size=128, learning_rate=1e-2),
)
HISTORY = torch.tensor([[3, 1, 4, 1, 5]])


class TestCOBRA(RecommenderContract):
    """Texts that say the colour alone: two clusters, both searched."""

    least_on_colour: ClassVar[float] = 0.97

    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> COBRA:
        return COBRA.fit(train, catalogue, SMALL)

    @classmethod
    def load(cls, path: Path) -> COBRA:
        return COBRA.load(path)


class TestOneBeam(TestCOBRA):
    """Half of the items stand outside the searched cluster."""

    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> COBRA:
        return COBRA.fit(train, catalogue, replace(SMALL, beams=1))


class TestWithoutTexts(TestCOBRA):
    """Nothing to cluster by: one sparse ID, and the dense vector does it all."""

    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> COBRA:
        return COBRA.fit(train, replace(catalogue, attributes=catalogue.attributes[:, :0], attribute_names=()), SMALL)


def worded_catalogue() -> Catalogue:
    """Items in six groups of four that share a word, each with a word of its own."""
    titles = pl.Series([f"group{item % 6} group{item % 6} item{item}" for item in range(24)])
    return replace(make_catalogue(), titles=titles)


def small_network(**changes: Any) -> COBRANetwork:
    torch.manual_seed(0)
    facts = Facts.of(checkerboard(), worded_catalogue(), read=True)
    return COBRANetwork(replace(SMALL, **changes), facts).eval()


def test_a_sparse_id_is_a_cluster_of_texts() -> None:
    titles = pl.Series([f"group{item % 6}" for item in range(24)])
    facts = Facts.of(checkerboard(), replace(make_catalogue(), titles=titles), read=True)
    codes = sparse_ids(facts, 6, 0)
    torch.testing.assert_close(codes, codes[:6].repeat(4))
    assert 2 <= len(codes.unique()) <= 6
    torch.testing.assert_close(codes, sparse_ids(facts, 6, 0))


def test_no_more_sparse_ids_than_items() -> None:
    facts = Facts.of(checkerboard(), worded_catalogue(), read=True)
    assert sorted(sparse_ids(facts, 1000, 0).tolist()) == list(range(24))


@torch.no_grad()
def test_a_place_sees_nothing_of_what_comes_after_it_and_no_padding() -> None:
    network = small_network()
    vectors, none = network.vectors(), HISTORY[:, :0]
    at_vectors, at_ids = network.states(HISTORY, none, vectors)
    other_vectors, other_ids = network.states(torch.tensor([[3, 1, 4, 9, 2]]), none, vectors)
    for states, other in ((at_vectors, other_vectors), (at_ids, other_ids)):
        torch.testing.assert_close(states[:, :3], other[:, :3])
        assert not torch.allclose(states[:, 3:], other[:, 3:])
    padded = network.states(F.pad(HISTORY, (2, 0), value=-1), none, vectors)
    torch.testing.assert_close(padded[0][:, 2:], at_vectors)
    torch.testing.assert_close(padded[1][:, 2:], at_ids)


@torch.no_grad()
def test_an_id_is_told_from_the_last_vector_and_a_vector_from_its_id() -> None:
    network = small_network()
    vectors, following = network.vectors(), torch.tensor([[0, 1]])
    at_vectors, at_ids = network.states(HISTORY, following, vectors)
    changed = vectors.clone()
    changed[5] = vectors[6]
    other_vectors, other_ids = network.states(HISTORY, following, changed)
    assert not torch.allclose(at_vectors[:, -1], other_vectors[:, -1])
    assert not torch.allclose(at_ids[:, 5:], other_ids[:, 5:])
    torch.testing.assert_close(at_ids[:, :5], other_ids[:, :5])
    assert not torch.allclose(at_ids[:, 5], at_ids[:, 6])


@torch.no_grad()
def test_alternative_ids_do_not_see_one_another() -> None:
    network = small_network()
    vectors = network.vectors()
    together = network.states(HISTORY, torch.tensor([[4, 0, 2]]), vectors)[1][:, 5:]
    alone = [network.states(HISTORY, torch.tensor([[code]]), vectors)[1][:, 5:] for code in (4, 0, 2)]
    torch.testing.assert_close(together, torch.cat(alone, dim=1))


def test_who_may_attend_to_whom() -> None:
    found = may_attend_pairs(torch.tensor([[-1, 7]]), 2)[0, 0]
    expected = [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 1, 1, 0, 1],
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.bool))


@torch.no_grad()
def test_the_loss_is_that_of_each_asked_event_step_by_step() -> None:
    """Longer histories are those of the row, moved to the places that they have in it."""
    network = small_network()
    network.place[:] = network.place[-1]
    vectors, row = network.vectors(), [3, 1, 4, 5]
    total, dense = 0.0, []
    for n in (2, 3):
        past, target = torch.tensor([row[:n]]), row[n]
        code = network.codes[target]
        at_vectors, at_ids = network.states(past, code[None, None], vectors)
        total += float(F.cross_entropy(network.code_logits(at_vectors[:, -1]), code[None]))
        dense.append(network.dense_vectors(at_ids[0, -1]))
    targets = torch.tensor(row[2:])
    total += float(in_batch_softmax(16 * torch.stack(dense), vectors[targets], targets, network.counts))
    batch = Batch(torch.tensor([row[:3]]), torch.tensor(row[3:]), torch.tensor([2]), torch.tensor([3]))
    assert float(network.loss(batch)) == pytest.approx(total, rel=1e-4)


def test_fusion_by_hand() -> None:
    """Two clusters {0, 1} and {2}, then one of them unsearched."""
    beam_scores = torch.tensor([[0.25, 0.75]]).log()
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    dense = torch.tensor([[[0.6, 0.8], [0.0, 1.0]]])
    codes = torch.tensor([0, 0, 1])
    both = beam_fusion(beam_scores, torch.tensor([[1, 0]]), dense, vectors, codes, tau=2.0, psi=5.0)
    share = 1 / (1 + torch.tensor(5.0).exp())  # cluster 0 has the vector (0, 1): cosines 0 and 1
    torch.testing.assert_close(both.exp(), torch.stack([0.1 * share, 0.1 * (1 - share), torch.tensor(0.9)])[None])
    one = beam_fusion(beam_scores, torch.tensor([[1]]), dense[:, :1], vectors, codes, tau=2.0, psi=5.0)[0]
    assert float(one[2]) == 0
    assert float(one[0]) < float(one[1]) < 0
    assert float(one[1] - one[0]) == pytest.approx(5 * (0.8 - 0.6), rel=1e-5)


@torch.no_grad()
@given(st.integers(0, 2**16), st.integers(1, 6))
def test_searched_clusters_are_ranked_as_by_brute_force_and_come_first(seed: int, beams: int) -> None:
    network = small_network(beams=beams)
    generator = torch.Generator().manual_seed(seed)
    history = torch.randint(24, (3, 5), generator=generator)
    scores, vectors = network.score(history), network.vectors()
    assert torch.isfinite(scores).all()
    for user in range(3):
        past = history[user : user + 1]
        logits = network.code_logits(network.states(past, past[:, :0], vectors)[0][0, -1])
        searched = logits.log_softmax(0).topk(beams).indices.tolist()
        found, weights = {}, {}
        for code in searched:
            state = network.states(past, torch.tensor([[code]]), vectors)[1][0, -1]
            cosines = {
                item: float(network.dense_vectors(state) @ vectors[item])
                for item in range(24)
                if network.codes[item] == code
            }
            weights[code] = float((0.9 * logits[code]).exp())
            whole = sum(torch.tensor(16 * cosine).exp() for cosine in cosines.values())
            found |= {item: weights[code] * float((16 * torch.tensor(c)).exp() / whole) for item, c in cosines.items()}
        expected = torch.tensor([found[item] / sum(weights.values()) for item in found])
        torch.testing.assert_close(scores[user, list(found)].exp(), expected, rtol=1e-3, atol=1e-7)
        others = [item for item in range(24) if item not in found]
        assert not others or scores[user, others].max() < scores[user, list(found)].min()


def test_the_ids_are_saved(tmp_path: Path) -> None:
    model = COBRA.fit(checkerboard(), worded_catalogue(), replace(SMALL, training=Training(epochs=1)))
    model.network.codes[:] = model.network.codes.flip(0)
    model.save(tmp_path / "model")
    loaded = COBRA.load(tmp_path / "model")
    torch.testing.assert_close(loaded.network.codes, model.network.codes)
    assert_same(loaded.recommend(queries(), 10), model.recommend(queries(), 10))


@pytest.mark.parametrize("wrong", [{"tau": 0.0}, {"psi": -1.0}, {"beams": 0}, {"clusters": 0}, {"history": 0}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=name):
        COBRA.fit(checkerboard(), make_catalogue(), replace(SMALL, **wrong))
