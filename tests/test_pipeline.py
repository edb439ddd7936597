"""From a generated shop to lists that beat popularity, by the commands' own functions."""

from pathlib import Path

import pytest
from tiny import tiny_config

from redraft.baselines import Popularity
from redraft.data import shop
from redraft.data.split import leave_one_out
from redraft.data.store import load_dataset
from redraft.eval.evaluate import evaluate
from redraft.recommender import load
from redraft.records import InputError
from redraft.train import pretrain, tokenize


def test_a_shop_is_learnt_from_end_to_end(tmp_path: Path) -> None:
    data, run = tmp_path / "shop", tmp_path / "run"
    shop.main(shop.ShopConfig(data, users=400, items=120))
    tokenize.main(tokenize.TokenizeConfig(data, method="kmeans", levels=3, codebook_size=16, dim=32))
    config = pretrain.PretrainConfig(
        data,
        run,
        model=tiny_config(width=32, embedding=16, feed_forward=96, history=10, dropout=0.1),
        epochs=8,
        batch_size=96,
        learning_rate=5e-3,
        precision="float32",
        evaluate_every=4,
        evaluate_users=200,
    )
    pretrain.main(config)

    dataset = load_dataset(data)
    split = leave_one_out(dataset.interactions)
    recommender = load(run)
    ours = evaluate(recommender, split.test, ks=(5, 10), filter_seen=True).metrics
    popular = Popularity.fit(split.train, dataset.catalogue)
    theirs = evaluate(popular, split.test, ks=(5, 10), filter_seen=True).metrics
    assert ours["N@10"] > 2 * theirs["N@10"]

    history = split.test.histories.history(0).tolist()
    best = recommender.explain(history, 3)
    assert all(explanation.item not in history for explanation in best)
    assert recommender.catalogue.describe(best[0].item) == dataset.catalogue.describe(best[0].item)
    with pytest.raises(InputError, match="pass --resume"):
        pretrain.main(config)
    assert {path.name for path in run.iterdir()} >= {"config.json", "metrics.jsonl", "model.safetensors"}
