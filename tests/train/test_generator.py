"""Everything that starts from a backbone starts from a generator that knows its items, too."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from loops import DRAFTS, grpo_run, knowing, sft_run, verifier_run
from stopping import stops_and_resumes
from tiny import random_interactions, tiny_run

from redraft.baselines import Popularity
from redraft.data import shop
from redraft.data.split import leave_one_out
from redraft.data.store import load_dataset
from redraft.eval.evaluate import evaluate
from redraft.model.generator import CorrectingGenerator, Generator
from redraft.recommender import GenerativeRecommender, SelfCorrectingRecommender, load
from redraft.records import InputError
from redraft.tokenizer.trie import Trie
from redraft.train import pretrain, tokenize


def test_it_learns_to_reflect_and_correct_and_then_by_reward(tmp_path: Path) -> None:
    sft_run(tmp_path / "grc", knowing(), DRAFTS)
    found = load(tmp_path / "grc", beams=10)
    assert isinstance(found, SelfCorrectingRecommender)
    assert isinstance(found.model, CorrectingGenerator)
    assert found.trajectory([3, 4], 5).items.shape == (5,)
    grpo_run(tmp_path / "rl", start=found)
    assert isinstance(load(tmp_path / "rl").model, CorrectingGenerator)


def test_supervised_training_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(out: Path, **options: bool) -> None:
        sft_run(out, knowing(), DRAFTS, epochs=1, **options)

    assert stops_and_resumes(run, tmp_path, monkeypatch) >= 4


def test_a_verifier_takes_the_place_of_its_item_head(tmp_path: Path) -> None:
    start = knowing(pooling="mean")
    assert start.plan(5).judge == "item head"
    assert not knowing().plan(5).judge, "its head is in the path already"
    verifier_run(tmp_path / "verified", start=start, epochs=1)
    found = load(tmp_path / "verified")
    assert isinstance(found.model, Generator)
    assert found.plan(5).judge == "verifier"
    assert len(found.explain([3, 4], 5)) == 5


def test_lists_are_ordered_by_the_path_and_the_item_head_together() -> None:
    model, histories = knowing(dropout=0.0, pooling="mean"), random_interactions([4, 2], 30)
    alone = GenerativeRecommender(model.model, model.ids, model.catalogue, beams=30, trust=0.0)
    head, drafts = (each.recommend(histories, 30) for each in (model, alone))
    memory = model.model.remember(torch.from_numpy(histories.padded(8)))
    for user in range(2):
        shown = drafts.items[user][drafts.items[user] >= 0]
        logits = model.model.judge(memory, torch.from_numpy(drafts.items))[user, : len(shown)].detach().numpy()
        expected = dict(zip(shown.tolist(), (drafts.scores[user][: len(shown)] + logits).tolist()))
        got = dict(zip(head.items[user].tolist(), head.scores[user].tolist()))
        assert {item: got[item] for item in expected} == pytest.approx(expected, rel=1e-4)


def test_a_generator_starts_from_no_plain_backbone(tmp_path: Path) -> None:
    tiny_run(tmp_path / "plain", epochs=1)
    with pytest.raises(InputError, match="another shape"):
        tiny_run(tmp_path / "other", model=knowing().model.config, epochs=1, init=load(tmp_path / "plain").model)


@pytest.mark.parametrize("pooling", ["exact", "mean"])
def test_to_know_what_stands_below_is_worth_having(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pooling: Literal["exact", "mean"]
) -> None:
    """On the generated shop the same generator is worse when what stands below a prefix is hidden."""
    data = tmp_path / "shop"
    shop.main(shop.ShopConfig(data, users=500, items=150))
    tokenize.main(tokenize.TokenizeConfig(data, method="kmeans", levels=3, codebook_size=24, dim=32))
    dataset = load_dataset(data)
    split = leave_one_out(dataset.interactions)

    def recall(out: Path) -> float:
        model = knowing(pooling=pooling).model.config
        config = pretrain.PretrainConfig(data, out, model=model, epochs=10, batch_size=128, learning_rate=5e-3)
        pretrain.main(config)
        return evaluate(load(out, beams=50, trust=0.0), split.test, ks=(10,), filter_seen=True).metrics["R@10"]

    with_vectors = recall(tmp_path / "with")
    monkeypatch.setattr("redraft.model.generator.pooled", no_vectors)
    monkeypatch.setattr("redraft.model.generator.masses", no_masses)
    without = recall(tmp_path / "without")
    popular = evaluate(Popularity.fit(split.train, dataset.catalogue), split.test, ks=(10,), filter_seen=True)
    assert with_vectors > 1.1 * without
    assert with_vectors > popular.metrics["R@10"]


def no_vectors(vectors: torch.Tensor, tree: Trie) -> list[torch.Tensor]:
    """Vectors of nodes that say nothing."""
    return [vectors.new_zeros(len(tokens), vectors.shape[1]) for tokens in tree.tokens]


def no_masses(logits: torch.Tensor, tree: Trie) -> list[torch.Tensor]:
    """Masses of nodes that say nothing."""
    return [logits.new_zeros(len(logits), len(tokens)) for tokens in tree.tokens]
