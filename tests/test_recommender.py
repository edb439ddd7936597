from pathlib import Path

import numpy as np
import pytest
import torch
from contract import RecommenderContract
from tiny import random_interactions, tiny_backbone, tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.checkpoint import build_backbone
from redraft.data.loader import batches, shared_prefixes
from redraft.files import atomic_directory
from redraft.recommender import GenerativeRecommender, load, save_items
from redraft.records import Catalogue, InputError, Interactions
from redraft.train.pretrain import teacher_forced

N = 40


def make(beams: int = N, *, verifier: bool = False, trust: float = 1.0, **changes) -> GenerativeRecommender:
    ids, catalogue = tiny_ids(N, 3, 5), tiny_catalogue(N, 2)
    model = tiny_backbone(tiny_config(**changes), ids, catalogue)
    if verifier:
        model.add_verifier()
        with_random_weights(model, 0)
    return GenerativeRecommender(model, ids, catalogue, beams=beams, trust=trust)


class TestGenerativeContract(RecommenderContract):
    least_on_colour = 0.95

    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> GenerativeRecommender:
        torch.manual_seed(0)
        ids = tiny_ids(catalogue.n_items, 2, 6)
        model = build_backbone(tiny_config(width=32, embedding=16, feed_forward=64), ids, catalogue)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        windows = shared_prefixes(train, 8)
        for epoch in range(8):
            for batch in batches(train, windows, 120, seed=0, epoch=epoch):
                losses, asked = teacher_forced(model, batch, model.codes, 0.0)
                (losses.sum() / asked.sum()).backward()
                optimizer.step()
                optimizer.zero_grad()
        return GenerativeRecommender(model, ids, catalogue, beams=catalogue.n_items)

    @classmethod
    def load(cls, path: Path) -> GenerativeRecommender:
        return load(path, beams=24)


@torch.no_grad()
def score_all(recommender: GenerativeRecommender, history: list[int]) -> torch.Tensor:
    """Log-probability [N] of every item, one by one."""
    model = recommender.model
    read = torch.tensor([history[-model.config.history :]]).expand(N, -1)
    log_probs = model(read, torch.arange(N)[:, None])[:, 0].log_softmax(-1)
    return log_probs.gather(-1, model.codes[..., None]).sum(dim=(1, 2))


@pytest.mark.parametrize("encoder", ["causal", "bidirectional"])
@pytest.mark.parametrize("positions", ["item", "code"])
def test_lists_are_those_of_exhaustive_scoring(encoder: str, positions: str) -> None:
    recommender = make(encoder=encoder, positions=positions)
    histories = random_interactions([1, 3, 8, 14], N)
    found = recommender.recommend(histories, 10)
    for user in range(4):
        scores = score_all(recommender, histories.history(user).tolist())
        scores[histories.history(user).tolist()] = -torch.inf
        best = scores.topk(10)
        assert found.items[user].tolist() == best.indices.tolist()
        np.testing.assert_allclose(found.scores[user], best.values, atol=1e-4)


def test_the_filter_heeds_items_that_the_model_no_longer_reads() -> None:
    recommender = make(history=2)
    history = list(range(30))
    lists = recommender.recommend(Interactions.from_lists([history]), 10).items
    assert sorted(lists[0].tolist()) == list(range(30, 40))
    unfiltered = recommender.recommend(Interactions.from_lists([history]), 10, filter_seen=False)
    short = recommender.recommend(Interactions.from_lists([history[-2:]]), 10, filter_seen=False)
    assert unfiltered.items.tolist() == short.items.tolist()


def test_company_and_batches_change_nothing() -> None:
    recommender = make(beams=12)
    histories = random_interactions([1 + u % 13 for u in range(70)], N)
    allow = np.random.default_rng(0).random((70, N)) < 0.7
    together = recommender.recommend(histories, 5, allow=allow)
    for user in (0, 1, 63, 64, 69):
        alone = recommender.recommend(histories.take(np.array([user])), 5, allow=allow[user : user + 1])
        assert alone.items[0].tolist() == together.items[user].tolist()
        np.testing.assert_allclose(alone.scores[0], together.scores[user], atol=1e-4)


def test_an_allow_mask_holds_and_a_list_is_short_only_if_nothing_is_left() -> None:
    recommender = make(beams=3)
    histories = Interactions.from_lists([[1, 2], [3]])
    allow = np.zeros(N, dtype=bool)
    allow[[1, 5, 9, 30]] = True
    lists = recommender.recommend(histories, 5, allow=allow)
    assert set(lists.items[0].tolist()) == {5, 9, 30, -1}
    assert set(lists.items[1].tolist()) == {1, 5, 9, 30, -1}
    assert np.isneginf(lists.scores[lists.items < 0]).all()
    everything_seen = recommender.recommend(Interactions.from_lists([list(range(N))]), 5)
    assert (everything_seen.items == -1).all()


def test_cost_follows_distinct_items_and_repeats_change_nothing() -> None:
    recommender, once = make(), [3, 1, 4, 1, 5]
    often = [9, 2, 6] * 5000 + once
    lists = recommender.recommend(Interactions.from_lists([often, once]), 10)
    seen = recommender._inputs(Interactions.from_lists([often, once]), True, None)[1]
    assert seen.shape == (2, 7)
    short = recommender.recommend(Interactions.from_lists([([9, 2, 6] * 5 + once)[-8:]]), 10)
    assert lists.items[0].tolist() == short.items[0].tolist()
    assert not set(lists.items[0].tolist()) & set(often)


@pytest.mark.parametrize(
    ("allow", "message"),
    [
        (np.ones(N - 1, dtype=bool), r"allow has shape \(39,\); it must be \(40,\) or \(2, 40\)"),
        (np.ones((3, N), dtype=bool), r"allow has shape \(3, 40\)"),
        (np.ones((1, 2, N), dtype=bool), r"allow has shape \(1, 2, 40\)"),
        (np.arange(N), "allow holds int64; give bool"),
    ],
)
def test_a_mask_of_another_shape_or_type_is_refused(allow: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make().recommend(Interactions.from_lists([[1], [2]]), 3, allow=allow)


def test_weights_that_give_no_numbers_give_no_lists() -> None:
    recommender = make()
    with torch.no_grad():
        recommender.model.head.fill_(torch.finfo(torch.float32).max)
    with pytest.raises(InputError, match="scores that are not numbers"):
        recommender.recommend(Interactions.from_lists([[1, 2]]), 3)


def test_users_without_history_and_no_users_at_all_are_served() -> None:
    recommender = make()
    lists = recommender.recommend(Interactions.from_lists([[], [1]]), 5)
    assert (lists.items >= 0).all()
    assert np.isfinite(lists.scores).all()
    assert recommender.recommend(Interactions.from_lists([]), 5).items.shape == (0, 5)


@pytest.mark.parametrize(
    ("history", "k", "message"),
    [
        ([0], 41, "k = 41 exceeds the catalogue of 40 items"),
        ([0, 40], 5, "history 0 names item 40, but items are 0 to 39"),
        ([-1], 5, "history 0 names item -1, but items are 0 to 39"),
    ],
)
def test_questions_without_an_answer_are_named(history: list[int], k: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make().recommend(Interactions.from_lists([history]), k)


def test_an_explanation_adds_up_to_the_score() -> None:
    recommender = make()
    history = [3, 17, 4]
    lists = recommender.recommend(Interactions.from_lists([history]), 5)
    explanations = recommender.explain(history, 5)
    assert [e.item for e in explanations] == lists.items[0].tolist()
    codes = recommender.ids.codes
    for explanation, score in zip(explanations, lists.scores[0]):
        assert explanation.log_prob == pytest.approx(float(score), abs=1e-4)
        assert sum(np.log(step.probability) for step in explanation.steps) == pytest.approx(float(score), abs=1e-4)
        assert [step.code for step in explanation.steps] == codes[explanation.item].tolist()
        fitting = [(codes[:, : d + 1] == codes[explanation.item, : d + 1]).all(1).sum() for d in range(3)]
        assert [step.items_left for step in explanation.steps] == fitting
        assert all(0 <= step.preferred < 5 for step in explanation.steps)
        assert all(step.probability * (step.preferred + 1) <= 1 for step in explanation.steps)
        assert explanation.verifier == 0


@pytest.mark.parametrize(("beams", "trust"), [(N, 0.5), (4, 2.0)])
@torch.no_grad()
def test_an_explanation_and_what_the_verifier_added_make_the_score(beams: int, trust: float) -> None:
    recommender = make(beams, verifier=True, trust=trust)
    histories = random_interactions([9], N)
    history = histories.history(0).tolist()
    lists = recommender.recommend(histories, 7)
    explanations = recommender.explain(history, 7)
    assert [e.item for e in explanations] == lists.items[0].tolist()
    scores = score_all(recommender, history)
    judged = recommender.model.judge_all(
        recommender.model.queries(recommender.model.encode(torch.tensor([history[-8:]])))
    )
    for explanation, score in zip(explanations, lists.scores[0].tolist()):
        assert explanation.log_prob == pytest.approx(float(scores[explanation.item]), abs=1e-4)
        assert explanation.verifier == pytest.approx(trust * float(judged[0, -1, explanation.item]), abs=1e-4)
        assert explanation.log_prob + explanation.verifier == pytest.approx(score, abs=1e-4)


def test_half_precision_gives_nearly_the_same_scores_in_float32() -> None:
    exact = make()
    half = GenerativeRecommender(exact.model, exact.ids, exact.catalogue, beams=N, half=True)
    histories = random_interactions([3, 8], N)
    mine, theirs = (model.recommend(histories, N, filter_seen=False) for model in (exact, half))
    assert theirs.scores.dtype == np.float32
    for user in range(2):
        scores = theirs.scores[user][np.argsort(theirs.items[user])]
        np.testing.assert_allclose(scores, mine.scores[user][np.argsort(mine.items[user])], atol=0.3)


def test_nothing_to_recommend_is_explained_by_nothing() -> None:
    assert make().explain(list(range(N)), 3) == []


def test_recommending_leaves_no_trace_of_dropout() -> None:
    recommender = make(dropout=0.5)
    histories = random_interactions([5, 6], N)
    first = recommender.recommend(histories, 5)
    recommender.model.train()
    assert (recommender.recommend(histories, 5).scores == first.scores).all()
    recommender.model.train()
    assert recommender.explain(histories.history(0).tolist(), 1)[0].log_prob == pytest.approx(
        float(first.scores[0, 0]), abs=1e-4
    )


def test_a_saved_recommender_gives_the_same_lists_and_explanations(tmp_path: Path) -> None:
    recommender = make()
    recommender.save(tmp_path / "run")
    again = load(tmp_path / "run", beams=N)
    histories = random_interactions([4, 9], N)
    first, second = recommender.recommend(histories, 7), again.recommend(histories, 7)
    assert (first.items == second.items).all()
    assert (first.scores == second.scores).all()
    assert again.explain([1, 2]) == recommender.explain([1, 2])
    assert again.catalogue.describe(3) == recommender.catalogue.describe(3)


def test_a_folder_without_a_run_and_a_run_of_mixed_parts_are_named(tmp_path: Path) -> None:
    (tmp_path / "judged").mkdir()
    (tmp_path / "judged" / "reflection.safetensors").touch()
    with pytest.raises(InputError, match=r"judged: a run of recipe reflect; give .*judged/generator for its drafts"):
        load(tmp_path / "judged")
    with pytest.raises(InputError, match="not a trained run; make one with `redraft train`"):
        load(tmp_path)
    recommender = make()
    recommender.save(tmp_path / "run")
    save_items(tmp_path / "run", tiny_ids(N, 3, 5, seed=1), recommender.catalogue)
    with pytest.raises(InputError, match="trained with semantic IDs"):
        load(tmp_path / "run")
    with atomic_directory(tmp_path / "half") as folder:
        save_items(folder, recommender.ids, recommender.catalogue)
    with pytest.raises(InputError, match="no such checkpoint"):
        load(tmp_path / "half")


@pytest.mark.parametrize("k", [0, -1])
def test_a_list_has_an_item(k: int) -> None:
    with pytest.raises(InputError, match=f"k is {k}; it must be >= 1"):
        make().recommend(Interactions.from_lists([[1, 2]]), k)


def test_a_damaged_catalogue_and_a_strange_device_are_named(tmp_path: Path) -> None:
    make().save(tmp_path / "run")
    with pytest.raises(InputError, match="device 'abacus': not available on this machine"):
        load(tmp_path / "run", device="abacus")
    (tmp_path / "run" / "catalogue.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match=r"catalogue\.parquet: cannot be read as Parquet.*copy the run again"):
        load(tmp_path / "run")


def test_a_recommender_says_what_it_is_in_one_line() -> None:
    n_weights = sum(weight.numel() for weight in make().model.parameters())
    assert repr(make(12)) == f"GenerativeRecommender(40 items, {n_weights:,} weights, 12 beams, on cpu)"
    assert "12 beams, with a verifier, on cpu" in repr(make(12, verifier=True))
