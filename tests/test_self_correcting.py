from pathlib import Path

import numpy as np
import pytest
import torch
from contract import RecommenderContract
from tiny import random_interactions, tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.checkpoint import build_backbone, build_grc, load_backbone, save_backbone, weights_fingerprint
from redraft.data.loader import batches, shared_prefixes
from redraft.decode.correct import ranked
from redraft.decode.correction import Correction
from redraft.decode.merge import POLICIES, MergePolicy
from redraft.model.template import GRC
from redraft.recommender import SelfCorrectingRecommender, load
from redraft.records import Catalogue, InputError, Interactions
from redraft.train.sft import template_losses

N = 40


def make(
    beams: int = 20, *, reflection: bool = True, verifier: bool = False, **correction
) -> SelfCorrectingRecommender:
    ids, catalogue = tiny_ids(N, 3, 5), tiny_catalogue(N, 2)
    model = build_grc(tiny_config(), ids, catalogue, reflection=reflection)
    if verifier:
        model.add_verifier()
    with_random_weights(model, 0)
    return SelfCorrectingRecommender(model, ids, catalogue, beams=beams, correction=Correction(**correction))


class TestSelfCorrectingContract(RecommenderContract):
    least_on_colour = 0.95

    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> SelfCorrectingRecommender:
        torch.manual_seed(0)
        ids = tiny_ids(catalogue.n_items, 2, 6)
        config = tiny_config(width=32, embedding=16, feed_forward=64)
        model = build_grc(config, ids, catalogue, reflection=True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        windows = shared_prefixes(train, 8)
        for epoch in range(8):
            for batch in batches(train, windows, 120, seed=0, epoch=epoch):
                drafts = torch.randint(catalogue.n_items, (len(batch.target), batch.history.shape[1]))
                likelihood, reflected, corrected, asked = template_losses(model, batch, drafts[:, -asked_rows(batch) :])
                ((likelihood + reflected + corrected).sum() / asked.sum()).backward()
                optimizer.step()
                optimizer.zero_grad()
        return SelfCorrectingRecommender(model, ids, catalogue, beams=catalogue.n_items)

    @classmethod
    def load(cls, path: Path) -> SelfCorrectingRecommender:
        found = load(path, beams=24)
        assert isinstance(found, SelfCorrectingRecommender)
        return found


def asked_rows(batch) -> int:
    return 1 if bool((batch.n_targets <= 1).all()) else batch.history.shape[1]


def histories() -> Interactions:
    return random_interactions([1, 3, 8, 14], N)


def test_without_a_budget_the_lists_are_the_drafts() -> None:
    corrected, drafts = make(budget=0), make().drafts_alone()
    found, expected = corrected.recommend(histories(), 10), drafts.recommend(histories(), 10)
    assert found.items.tolist() == expected.items.tolist()
    np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("reflection", [True, False])
def test_company_changes_nothing(reflection: bool) -> None:
    recommender = make(reflection=reflection, policy="replace")
    together = recommender.recommend(histories(), 10)
    for user in range(4):
        alone = recommender.recommend(histories().take(np.array([user])), 10)
        assert alone.items[0].tolist() == together.items[user].tolist()
        np.testing.assert_allclose(alone.scores[0], together.scores[user], atol=1e-4)


def test_explain_tells_what_recommend_did() -> None:
    recommender = make(budget=7)
    history = histories().history(2).tolist()
    told = recommender.trajectory(history, 6)
    listed = recommender.recommend(Interactions.from_lists([history]), 6)
    assert told.items.tolist() == listed.items[0].tolist()
    assert (
        told.drafts.tolist()
        == make().drafts_alone().recommend(Interactions.from_lists([history]), 20).items[0].tolist()
    )
    assert [part.shape for part in told.said] == [(20, 4), (20, 2), (20, 2)]
    assert [slot.name for slot in told.slots] == ["location", *recommender.catalogue.attribute_names]
    for part in told.said:
        np.testing.assert_allclose(part.sum(axis=1), 1)
    assert told.corrected.sum() == 7
    assert set(told.origins.tolist()) <= set(np.flatnonzero(told.corrected).tolist())
    assert not told.corrected[told.said[0].argmax(axis=1) == 3].any(), "a draft held to be right is left alone"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("verifier", [True, False])
@pytest.mark.parametrize("k", [3, 6, 15, N])
def test_explain_lists_what_recommend_lists_with_a_verifier_and_beyond_the_beams(
    policy: MergePolicy, verifier: bool, k: int
) -> None:
    recommender = make(6, verifier=verifier, budget=4, policy=policy)
    history = histories().history(2).tolist()
    told = recommender.trajectory(history, k)
    listed = recommender.recommend(Interactions.from_lists([history]), k)
    assert told.items.tolist() == listed.items[0].tolist()
    np.testing.assert_allclose(told.scores, listed.scores[0], atol=1e-4)


def test_explain_without_labels_has_no_rows_for_them() -> None:
    told = make(reflection=False).trajectory([1, 2, 3])
    assert told.slots == told.said == ()
    assert (told.entropy == 0).all()


def test_a_model_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    for reflection in (True, False):
        before = make(reflection=reflection)
        save_backbone(before.model, tmp_path / "m.safetensors", before.ids, before.catalogue)
        after = load_backbone(tmp_path / "m.safetensors", before.ids, before.catalogue)
        assert isinstance(after, GRC)
        assert after.reflection == reflection
        assert weights_fingerprint(after) == weights_fingerprint(before.model)
    assert weights_fingerprint(build_backbone(tiny_config(), before.ids, before.catalogue)) != weights_fingerprint(
        after
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": 21}, r"budget = 21, but there are 0 to 20 drafts"),
        ({"budget": -1}, r"budget = -1, but there are 0 to 20 drafts"),
        ({"alpha": -0.1}, "alpha = -0.1: below 0"),
        ({"alpha": float("nan")}, "alpha = nan"),
        ({"hypotheses": 0}, "hypotheses = 0"),
        ({"beams": 41}, "beams = 41 exceeds the catalogue of 40 items"),
    ],
)
def test_what_cannot_be_is_said_at_once(options: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make(**options)


def test_a_budget_of_nothing_has_nothing_to_explain() -> None:
    with pytest.raises(InputError, match="no reflection to explain"):
        make(budget=0).trajectory([1])


def test_each_way_to_correct_gets_the_drafts_of_one_search() -> None:
    ways = [Correction(budget=b, alpha=a, hypotheses=h) for b, a, h in ((3, 0.2, 1), (20, 0.0, 4))]
    for found, way in zip(make().trajectories(histories(), ways), ways):
        [alone] = make(budget=way.budget, alpha=way.alpha, hypotheses=way.hypotheses).trajectories(histories())
        assert torch.equal(found.drafts.items, alone.drafts.items)
        assert torch.equal(found.corrections.items, alone.corrections.items)
        assert torch.equal(found.rows, alone.rows)


def test_all_policies_rank_each_item_once() -> None:
    [found] = make().trajectories(histories())
    for policy in POLICIES:
        items, scores = ranked(found, policy, 15)
        for user in range(4):
            assert len(set(items[user].tolist())) == 15
        assert (scores[:, 1:] <= scores[:, :-1]).all()
