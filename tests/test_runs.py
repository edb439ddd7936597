"""A run of any recipe is trained, loaded, asked and measured by the same verbs."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny import random_interactions, tiny_catalogue
from verbs import run

import redraft
from redraft.baselines.fitted import PRESETS, BaselineRecommender, find_class
from redraft.baselines.itemknn import ItemKNN
from redraft.data.split import leave_one_out
from redraft.data.store import load_dataset, make_dataset, save_dataset
from redraft.faults.world import snapshot
from redraft.methods.registry import TABLE
from redraft.recipes import RECIPES
from redraft.records import Interactions
from redraft.runs import load

SMALL = ["--settings.width", 8, "--settings.feed-forward", 8, "--settings.heads", 2, "--settings.training.epochs", 1]


@pytest.fixture(scope="module")
def fitted(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A counted and a neural run, trained by the command line."""
    folder = tmp_path_factory.mktemp("fitted")
    from redraft import cli

    for name, words in (("itemknn", []), ("sasrec-bce", SMALL)):
        assert cli.main(["train", name, str(shop / "data"), str(folder / name), *map(str, words)]) == 0
    return {name: folder / name for name in ("itemknn", "sasrec-bce")}


def test_every_baseline_of_the_table_is_a_recipe() -> None:
    assert PRESETS.keys() <= set(TABLE)
    made = {name: RECIPES[name](Path("data"), Path("out")) for name in PRESETS}
    assert all(find_class(name.split("-")[0]) is preset.cls for name, preset in PRESETS.items())
    assert made["sasrec-bce"].settings.loss == "bce"
    assert made["rearec-prl"].settings.learning == "prl"


def test_a_run_gives_the_lists_of_what_was_fitted(shop: Path, fitted: dict[str, Path], tmp_path: Path) -> None:
    dataset = load_dataset(shop / "data")
    train = leave_one_out(dataset.interactions).train
    histories = Interactions.from_lists([[3, 4], [7]])
    expected = ItemKNN.fit(train, dataset.catalogue).recommend(histories, 5)
    model = load(fitted["itemknn"])
    np.testing.assert_array_equal(model.recommend(histories, 5).items, expected.items)
    model.save(tmp_path / "copy")
    np.testing.assert_array_equal(load(tmp_path / "copy").recommend(histories, 5).items, expected.items)
    neural = redraft.load(fitted["sasrec-bce"])
    assert isinstance(neural, BaselineRecommender)
    assert neural.catalogue.ids.equals(dataset.catalogue.ids)
    [line] = (fitted["sasrec-bce"] / "metrics.jsonl").read_text().splitlines()
    assert {"epoch", "N@10", "seconds"} <= json.loads(line).keys()


def test_runs_of_all_kinds_stand_in_one_table(
    shop: Path,
    fitted: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", shop / "data", "--runs", *fitted.values(), "--methods", "itemknn", "--ranks", tmp_path]
    code, out, err = run(capsys, *words)
    assert code == 2
    assert "two methods would be called 'itemknn'" in err
    words[words.index("--methods") + 1] = "markov"
    code, out, err = run(capsys, *words)
    assert code == 0, err
    assert all(name in out for name in ("markov", "itemknn", "sasrec-bce"))
    code, _, err = run(capsys, "evaluate", shop / "data", "--methods", "hstu")
    assert code == 2
    assert "hstu is not trained there; run `redraft bench tables --data" in err


def test_a_baseline_is_not_lost_and_not_taken_for_another(
    shop: Path, fitted: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    knn = fitted["itemknn"]
    for words, said in (
        (["train", "markov", shop / "data", knn], "holds a fitted baseline; pass --replace"),
        (["train", "tiny", shop / "data", knn], "holds a run of a baseline, not a run"),
        (["train", "markov", shop / "data", shop / "run"], "not a run of a baseline"),
        (["explain", knn, "--history", "item-3"], "a run of a baseline, which writes no semantic IDs"),
    ):
        code, _, err = run(capsys, *words)
        assert code == 2
        assert said in err
    assert (knn / "fitted" / "model.safetensors").exists()


def test_lists_as_json_and_csv_for_several_users_and_files(
    shop: Path, fitted: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    knn, data = fitted["itemknn"], shop / "data"
    code, out, _ = run(capsys, "recommend", knn, "--data", data, "--user", "user-7", "user-2", "--k", 3, "--json")
    assert code == 0
    lists = [json.loads(line) for line in out.splitlines()]
    assert [found["user"] for found in lists] == ["user-7", "user-2"]
    assert [item["rank"] for item in lists[0]["items"]] == [1, 2, 3]
    assert lists[0]["items"][0]["title"].startswith("thing ")
    code, out, _ = run(capsys, "recommend", knn, "--data", data, "--user", "user-7", "user-2", "--k", 3)
    assert out.count("recommended next") == 2
    events = tmp_path / "events.csv"
    events.write_text("user_id,item_id,timestamp\nb,item-4,2\na,item-9,1\nb,item-3,1\n")
    code, _, err = run(capsys, "recommend", knn, "--history-file", events, "--k", 3, "--out", tmp_path / "lists.csv")
    assert code == 0, err
    written = pl.read_csv(tmp_path / "lists.csv")
    assert written.columns == ["user", "rank", "item", "title", "score"]
    assert written.filter(pl.col("user") == "b")["item"].to_list() == [
        load(knn).catalogue.ids[int(item)]
        for item in load(knn).recommend(Interactions.from_lists([[3, 4]]), 3).items[0]
    ]
    for words, said in (
        (["--history-file", events], "lists of many users go to a file"),
        (["--history-file", events, "--history", "item-3", "--json"], "give either --history"),
        (
            ["--history", "item-3", "--out", tmp_path / "lists.xlsx"],
            "lists.xlsx: lists are written as",
        ),
        (["--history-file", tmp_path / "none.csv", "--json"], "none.csv: not a readable table"),
    ):
        code, _, err = run(capsys, "recommend", knn, *words)
        assert code == 2
        assert said in err


def test_a_catalogue_of_fewer_items_than_a_list_is_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users = pl.Series("id", [f"user-{u}" for u in range(8)])
    events = random_interactions([4] * 8, 5)
    save_dataset(make_dataset("tiny", events, tiny_catalogue(5), users), tmp_path / "data", source="test")
    code, _, err = run(capsys, "train", "sasrec", tmp_path / "data", tmp_path / "run", *SMALL)
    assert code == 0, err


def test_what_no_network_can_have_costs_no_earlier_run(
    shop: Path, fitted: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(fitted["sasrec-bce"], tmp_path / "run")
    before = snapshot(out)
    for wrong, said in {"width": "width is 0; it must be >= 1", "heads": "heads is 0; it must be >= 1"}.items():
        code, _, err = run(capsys, "train", "sasrec", shop / "data", out, "--replace", f"--settings.{wrong}", 0)
        assert (code, said in err) == (2, True)
    assert snapshot(out) == before
