"""The Python API: from a data frame to lists, by the functions a newcomer would guess."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import redraft
from redraft.baselines import Popularity
from redraft.recommender import GenerativeRecommender, load
from redraft.records import InputError, Interactions

EVENTS = pl.DataFrame(
    [(f"user{u}", f"item{(u + 3 * t) % 20}", t) for u in range(60) for t in range(6)],
    schema=["user_id", "item_id", "timestamp"],
    orient="row",
)
ITEMS = pl.DataFrame({"item_id": [f"item{i}" for i in range(20)], "title": [f"thing number {i}" for i in range(20)]})
SMALL = {"model": {"width": 16, "embedding": 8, "feed_forward": 16, "heads": 2}, "evaluate_users": 9, "epochs": 1}


def test_from_a_data_frame_to_lists(tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    dataset = redraft.import_data(EVENTS, data, items=ITEMS.to_arrow())
    assert dataset.name == "data"
    assert dataset.interactions.n_users == 60
    ids = redraft.tokenize(data, method="kmeans", levels=2, codebook_size=8)
    assert ids.codes.shape == (20, 2)
    model = redraft.train("tiny", str(data), str(run), evaluate_beams=10, **SMALL)
    assert isinstance(model, GenerativeRecommender)
    assert model.model.config.width == 16

    lists = redraft.recommend(model, {"eve": ["item5", "item8"]}, k=4)
    assert lists.columns == ["user", "rank", "item", "title", "score"]
    assert lists["user"].unique().to_list() == ["eve"]
    assert not {"item5", "item8"} & set(lists["item"])
    assert lists.equals(redraft.recommend(run, {"eve": ["item5", "item8"]}, k=4))
    everyone = redraft.recommend(model, dataset, k=2)
    assert everyone["user"].unique(maintain_order=True).to_list() == dataset.user_ids.to_list()

    table = redraft.evaluate({"mine": model}, data, baselines=["popularity"])
    assert table.select("method", "seen").rows() == [
        (method, seen) for method in ("popularity", "mine") for seen in ("kept", "filtered")
    ]
    assert table["R@10"].is_between(0, 1).all()
    assert redraft.evaluate(run, data)["method"].unique().to_list() == ["run"]


def test_a_model_learns_to_correct_itself(shop: Path, tmp_path: Path) -> None:
    knobs = {"backbone": str(shop / "run"), "epochs": 1, "draft_beams": 3, "evaluate_users": 9, "evaluate_beams": 10}
    model = redraft.train("grc", shop / "data", tmp_path / "grc", **knobs)
    lists = redraft.recommend(model, ["item-3", "item-4"], k=3)
    assert lists["rank"].to_list() == [1, 2, 3]


def test_make_shop_gives_a_data_set(tmp_path: Path) -> None:
    dataset = redraft.make_shop(tmp_path / "shop", users=20, items=60)
    assert dataset.interactions.n_users == 20
    assert redraft.load_data(str(tmp_path / "shop")).fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: redraft.train("smal", path, path), "no recipe 'smal'; there are .*gc, grc"),
        (lambda path: redraft.train("small", path, path, epoch=3), "recipe 'small' has no option 'epoch'; there are"),
        (lambda path: redraft.train("small", path, path, model={"witdh": 3}), "model of recipe 'small' has no option"),
        (lambda path: redraft.train("grc", path, path), "recipe 'grc' needs a run to start from; pass backbone=FOLDER"),
        (lambda path: redraft.tokenize(path, level=3), "tokenize has no option 'level'"),
        (lambda path: redraft.import_data([1, 2], path), "events are a list; give a data frame or the path"),
        (lambda path: redraft.import_data(EVENTS, path, items=3), "items are a int; give a data frame"),
        (lambda path: redraft.import_data(EVENTS.drop("item_id"), path), "^events: no column 'item_id'"),
        (lambda path: redraft.import_data(path / "none.csv", path), "none.csv: no such file"),
    ],
)
def test_what_cannot_be_done_is_named(call, message: str, tmp_path: Path) -> None:
    with pytest.raises(redraft.InputError, match=message):
        call(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_models_of_other_items_and_equal_names_are_refused(shop: Path, tmp_path: Path) -> None:
    redraft.make_shop(tmp_path / "shop", users=20, items=60)
    with pytest.raises(redraft.InputError, match="trained on other items"):
        redraft.evaluate(shop / "run", tmp_path / "shop")
    model = load(shop / "run")
    with pytest.raises(redraft.InputError, match="two models would have the same name"):
        redraft.evaluate([model, model], shop / "data")


WRONG = {
    "epochs": (lambda shop, out: redraft.train("tiny", shop, out, epochs=1.5), "epochs of recipe 'tiny' is 1.5"),
    "text": (lambda shop, out: redraft.tokenize(shop, levels="3"), "levels of tokenize is '3'; it must be int"),
    "array": (lambda shop, out: redraft.tokenize(shop, vectors=np.zeros(3)), "vectors of tokenize is array"),
    "kind": (lambda shop, out: redraft.import_data("x.csv", out, kind="x"), "no events to read as 'x'"),
    "nothing": (lambda shop, out: redraft.import_data(None, out), "no events to read as 'table'"),
    "core": (lambda shop, out: redraft.import_data("x.csv", out, core="x"), "core of import_data is 'x'"),
    "users": (lambda shop, out: redraft.make_shop(out, users=True), "users of make_shop is True; it must be int"),
    "model": (lambda shop, out: redraft.evaluate(3, shop), "3 is no model; give a model or a run folder"),
    "histories": (
        lambda shop, out: redraft.Interactions.from_lists([1]),
        "no lists of item numbers, one list per user",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_of_another_type_is_named(case: str, shop: Path, tmp_path: Path) -> None:
    call, said = WRONG[case]
    with pytest.raises(InputError, match=re.escape(said)):
        call(shop / "data", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("k", [1.5, "3", True, None])
def test_a_list_has_a_whole_number_of_items(k: object, shop: Path) -> None:
    for model in (load(shop / "run"), Popularity(np.arange(30))):
        with pytest.raises(InputError, match=r"k is .*; it must be a whole number"):
            model.recommend(Interactions.from_lists([[1]]), k)
