"""What version 0.1.0 (revision b8932984c7be) wrote is read, and recommends what it recommended then.

golden/before: a shop of 30 users and 60 items, one epoch of each run (`redraft train small`, which was the plain
backbone; `gc`, `grc`; `verifier` on grc), item-kNN, three epochs of SASRec, and the lists of the first six test users.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redraft import runs
from redraft.baselines.itemknn import ItemKNN
from redraft.baselines.sasrec import SASRec
from redraft.data.split import split_of
from redraft.data.store import load_dataset
from redraft.records import Holdout, Recommendations
from redraft.stored import learnt, read_settings

BEFORE = Path(__file__).parent / "golden" / "before"


def first_users() -> Holdout:
    test = split_of(load_dataset(BEFORE / "data")).test
    return Holdout(test.histories.take(np.arange(6)), test.targets[:6])


def lists_of(run: str) -> Recommendations:
    lists: dict[str, Any] = json.loads((BEFORE / "lists.json").read_text())[run]
    return Recommendations(np.array(lists["items"]), np.array(lists["scores"], dtype=np.float32))


@pytest.mark.parametrize("run", ["tiger", "gc", "grc", "verified"])
def test_a_run_of_before_recommends_what_it_did(run: str, tmp_path: Path) -> None:
    shutil.copytree(BEFORE / run, tmp_path / run)
    for name in ("catalogue.parquet", "semantic_ids.safetensors"):
        shutil.copy(BEFORE / "data" / name, tmp_path / run)
    recommended, before = runs.load(tmp_path / run).recommend(first_users().histories, 10), lists_of(run)
    np.testing.assert_array_equal(recommended.items, before.items)
    np.testing.assert_allclose(recommended.scores, before.scores, rtol=1e-5)


def test_a_network_of_before_recommends_what_it_did() -> None:
    recommended, before = SASRec.load(BEFORE / "sasrec").recommend(first_users().histories, 10), lists_of("sasrec")
    np.testing.assert_array_equal(recommended.items, before.items)
    np.testing.assert_allclose(recommended.scores, before.scores, rtol=1e-5)


def test_its_settings_say_what_it_learnt_from() -> None:
    assert read_settings(BEFORE / "tiger").config["model"]["width"] == 8
    assert learnt(BEFORE / "tiger") == [load_dataset(BEFORE / "data").fingerprint]


def test_a_baseline_of_before_gives_the_same_scores_and_equal_ones_in_another_order() -> None:
    model, before = ItemKNN.load(BEFORE / "itemknn"), lists_of("itemknn")
    recommended = model.recommend(first_users().histories, 10)
    np.testing.assert_array_equal(recommended.scores, before.scores)
    for ours, theirs, scores in zip(recommended.items, before.items, before.scores, strict=True):
        above = scores > scores[-1]
        assert set(ours[above]) == set(theirs[above])
