import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors import safe_open
from tiny import tiny_catalogue

from redraft.data.store import make_dataset, save_dataset
from redraft.records import Catalogue, InputError, Interactions
from redraft.tokenizer import load_semantic_ids
from redraft.train.rqvae import RqvaeConfig
from redraft.train.tokenize import TokenizeConfig, main

N_ITEMS = 60


@pytest.fixture
def config(tmp_path):
    """A small data set on disk and settings that fit it."""
    rng = np.random.default_rng(0)
    nouns, colours = ["hammer", "lipstick", "lamp", "kettle"], ["red", "blue", "green", "black", "white"]
    titles = [f"{rng.choice(colours)} {rng.choice(nouns)} {item % 7}" for item in range(N_ITEMS)]
    ids = [f"B{item:03}" for item in range(N_ITEMS)]
    brands = np.arange(N_ITEMS, dtype=np.int32)[:, None] % 3
    catalogue = Catalogue(
        pl.Series(ids), pl.Series(titles), pl.Series([""] * N_ITEMS), brands, ("brand",), (pl.Series(["A", "B", "C"]),)
    )
    interactions = Interactions.from_lists([[0, 1, 2], [3, 4, 5, 6]])
    dataset = make_dataset("shop", interactions, catalogue, pl.Series(["u", "v"]))
    save_dataset(dataset, tmp_path / "shop", source="test")
    training = RqvaeConfig(epochs=4, batch_size=32, hidden=(16,), latent=4, evaluate_every=2)
    return TokenizeConfig(tmp_path / "shop", levels=3, codebook_size=10, dim=8, rqvae=training)


KMEANS = {"method": "kmeans", "rqvae": RqvaeConfig()}
METHODS = pytest.mark.parametrize("changes", [{}, KMEANS], ids=["rqvae", "kmeans"])


@METHODS
def test_one_command_writes_ids_and_report(config, changes, capsys):
    config = replace(config, **changes)
    report = main(config)
    path = config.data / "semantic_ids.safetensors"
    ids = load_semantic_ids(path)
    assert (ids.n_items, ids.n_levels, ids.codebook_size) == (N_ITEMS, 3, 10)
    assert report.collisions_after == 0
    assert all(level.used > 1 and level.relative_error < 2 for level in report.levels)
    written = json.loads(path.with_suffix(".json").read_text())
    assert written["fingerprint"] == ids.fingerprint
    assert written["report"]["moved"] == report.moved
    with safe_open(path, framework="numpy") as file:
        source = json.loads(file.metadata()["redraft"])["source"]
    assert source["method"] == config.method
    assert source["config"]["codebook_size"] == 10
    assert len(source["data_fingerprint"]) == 64
    assert set(source["versions"]) >= {"redraft", "torch"}
    output = capsys.readouterr().out
    assert str(path) in output
    assert f"next: redraft train small {config.data} runs/shop\n" in output


@METHODS
def test_same_seed_same_ids(config, changes, tmp_path):
    for name in ("a", "b"):
        main(replace(config, **changes, out=tmp_path / name / "ids.safetensors", seed=7))
    once, again = (load_semantic_ids(tmp_path / name / "ids.safetensors") for name in ("a", "b"))
    assert once.fingerprint == again.fingerprint


def test_published_ids_bring_their_own_size(config, tmp_path):
    index = tmp_path / "index.json"
    index.write_text(json.dumps({str(item): [f"<a_{item % 5}>", f"<b_{item // 6}>"] for item in range(N_ITEMS)}))
    report = main(TokenizeConfig(config.data, method="published", index=index))
    ids = load_semantic_ids(config.data / "semantic_ids.safetensors")
    assert (ids.n_levels, ids.codebook_size, report.collisions_before) == (2, 10, 20)
    assert report.levels[0].relative_error is None


def test_vectors_from_a_file(config, tmp_path):
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(N_ITEMS, 5)))
    report = main(replace(config, **KMEANS, vectors=str(tmp_path / "v.npy"), dim=64))
    assert report.levels[-1].relative_error < report.levels[0].relative_error < 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebook_size": 299}, "--codebook-size 299: there are only 60 items; it must be <= 60"),
        ({"codebook_size": 3}, "60 items do not fit 3 levels of 3 codes"),
        ({"levels": 20}, "20 levels of 10 codes make 2\\^63 sequences or more"),
        ({"levels": 0}, "levels is 0; it must be >= 1"),
        ({"dim": 0}, "dim is 0; it must be >= 1"),
        ({"rqvae": RqvaeConfig(batch_size=0)}, "batch_size is 0; it must be >= 1"),
        ({"rqvae": RqvaeConfig(hidden=(8, 0))}, "hidden is 0; it must be >= 1"),
        ({"seed": -1}, "seed is -1; it must be >= 0"),
        ({"method": "published"}, "pass --index"),
        ({"index": Path("index.json")}, "and only then"),
        ({"vectors": "missing.npy", "dim": 64}, "no such file"),
        ({"vectors": "v.npy"}, "--dim: a file of vectors does not read it; leave it out"),
        ({"vectors": "a-model"}, "--dim: the model 'a-model' does not read it"),
        ({"method": "kmeans"}, "--rqvae: method kmeans does not read it"),
        ({**KMEANS, "resume": True}, "--resume: method kmeans does not read it"),
        ({"method": "published", "index": Path("i.json")}, "--dim: method published does not read it"),
        ({"out": Path("ids.json")}, "ids.json: ids are one .safetensors file.*; give a name that ends in .safetensors"),
        ({"rqvae": RqvaeConfig(learning_rate=float("nan"))}, "learning_rate is nan"),
        ({"rqvae": RqvaeConfig(weight_decay=-1.0)}, "weight_decay is -1"),
    ],
)
def test_bad_settings_leave_nothing_behind(config, changes, message):
    before = sorted(config.data.iterdir())
    with pytest.raises(InputError, match=message):
        main(replace(config, **changes))
    assert sorted(config.data.iterdir()) == before


def test_the_default_codebook_is_no_larger_than_the_catalogue(config):
    main(TokenizeConfig(config.data, method="kmeans", levels=2, dim=8))
    assert load_semantic_ids(config.data / "semantic_ids.safetensors").codebook_size == N_ITEMS


def test_equal_vectors_end_before_any_work_and_no_report_holds_nan(config, tmp_path):
    np.save(tmp_path / "v.npy", np.full((N_ITEMS, 5), 3.0))
    with pytest.raises(InputError, match=r"v\.npy: all item vectors are equal"):
        main(replace(config, vectors=str(tmp_path / "v.npy"), dim=64))
    assert not (config.data / "semantic_ids.json").exists()


def test_an_item_without_text_is_an_input_error(config):
    dataset = Catalogue(
        pl.Series(["x", "y"]), pl.Series(["lamp", ""]), pl.Series(["", ""]), np.full((2, 0), -1, dtype=np.int32)
    )
    shop = make_dataset("bare", Interactions.from_lists([[0, 1, 0]]), dataset, pl.Series(["u"]))
    save_dataset(shop, config.data, source="test", replace=True)
    with pytest.raises(InputError, match=r"shop/catalogue.parquet, item 'y' \(row 1\)"):
        main(replace(config, codebook_size=2))


@pytest.mark.parametrize(("items", "message"), [(1, "one item, and nothing to choose from"), (3, "all item vectors")])
def test_a_log_that_tells_no_items_apart(tmp_path, items, message):
    users = pl.Series("id", ["anna"])
    events = Interactions.from_lists([[item % items for item in range(3)]])
    save_dataset(make_dataset("tiny", events, tiny_catalogue(items), users), tmp_path / "data", source="test")
    with pytest.raises(InputError, match=message):
        main(TokenizeConfig(tmp_path / "data", from_log=True))
    assert not (tmp_path / "data" / "semantic_ids.rqvae").exists()
