from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tiny import random_interactions, tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.baselines.itemknn import ItemKNN
from redraft.bench.tables.runs import check_folder, in_order, measure, most_needed_first, run_all, train_missing
from redraft.checkpoint import build_grc
from redraft.data.store import load_dataset, make_dataset, save_dataset
from redraft.decode.correction import Correction
from redraft.files import read_json
from redraft.methods import registry as methods
from redraft.methods.registry import METHODS, find_method
from redraft.methods.task import SCALES, Method, Task
from redraft.recommender import SelfCorrectingRecommender
from redraft.records import InputError

OWN = Path(__file__).parents[3] / "examples" / "own_method.py"


@pytest.fixture
def task(tmp_path: Path) -> Task:
    path = data(tmp_path / "data", 0)
    return Task(path, load_dataset(path), tmp_path / "runs", "itemknn", 0, SCALES["tiny"], "cpu", False)


def data(path: Path, seed: int) -> Path:
    users = pl.Series("id", [f"user {u}" for u in range(40)])
    made = make_dataset("tiny", random_interactions([6] * 40, 30, seed), tiny_catalogue(30), users)
    save_dataset(made, path, source="test")
    return path


def test_what_a_method_needs_comes_before_it_once() -> None:
    order = in_order(["grc-rl", "gc-sft", "grc-rl-no-egrs"])
    assert sorted(set(order)) == sorted(order)
    for name in order:
        assert all(order.index(needed) < order.index(name) for needed in find_method(name).needs)
    assert order == ["tiger", "tiger-fold-0", "tiger-fold-1", "drafts", "grc-sft", "grc-rl", "gc-sft", "grc-rl-no-egrs"]


@pytest.mark.parametrize("processes", [1, 2])
def test_each_is_trained_once_and_after_what_it_needs(task: Task, processes: int) -> None:
    tasks = [replace(task, name=name) for name in ("popularity", "itemknn", f"{OWN}:LastSeen")]
    train_missing(tasks, processes=processes, measurements=[(tasks[1], "kept"), (tasks[2], "filtered")])
    assert (tasks[2].folder / "test-filtered.json").exists() == (processes > 1)
    before = [(t.folder / "trained.json").stat().st_mtime_ns for t in tasks]
    train_missing(tasks, processes=processes)
    assert [(t.folder / "trained.json").stat().st_mtime_ns for t in tasks] == before
    found = measure(tasks[2], "kept", None)
    assert len(found.ranks) == 40
    assert found.n_weights == 0


def test_lists_that_are_made_in_another_way_are_measured_anew(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, catalogue = tiny_ids(30, 3, 5), tiny_catalogue(30)
    model = with_random_weights(build_grc(tiny_config(), ids, catalogue, reflection=True), 0)
    task = replace(task, name="grc")
    SelfCorrectingRecommender(model, ids, catalogue).save(task.folder)

    def measured(**how: Any) -> dict[str, Any]:
        lists = SelfCorrectingRecommender(model, ids, catalogue, **{"beams": 20, **how})
        monkeypatch.setitem(methods.METHODS, "grc", Method("grc", lambda task: None, lambda task: lists))
        measure(task, "kept", None)
        return read_json(task.folder / "test-kept.json")["about"]["lists"]

    corrections = [Correction(policy="replace"), Correction(budget=3), Correction(alpha=0.5), Correction(hypotheses=2)]
    ways = [{}, {"beams": 15}, {"half": True}, *({"correction": one} for one in corrections)]
    found = [measured(**way) for way in ways]
    assert all(a != b for a, b in combinations(found, 2))
    monkeypatch.delattr("redraft.bench.tables.runs.evaluate")
    assert measured(**ways[-1]) == found[-1], "what was measured already is read"
    with pytest.raises(NameError):
        measured(**ways[0])


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three methods, each of which needs those before it, and one that needs nothing; grows as they are trained."""
    found: list[str] = []
    for name, needs in (("first", ()), ("second", ("first",)), ("third", ("second", "first")), ("alone", ())):
        method = Method(name, lambda t: found.append(t.name), METHODS["popularity"].load, needs)
        monkeypatch.setitem(methods.METHODS, name, method)
    return found


def test_one_process_trains_in_order(task: Task, trained: list[str]) -> None:
    train_missing([replace(task, name=name) for name in in_order(["third"])], processes=1)
    assert trained == ["first", "second", "third"]


@pytest.mark.parametrize("processes", [2, 5])
def test_many_processes_train_each_after_what_it_needs(task: Task, trained: list[str], processes: int) -> None:
    tasks = [replace(task, name=name) for name in ("third", "alone", "second", "first")]
    with ThreadPoolExecutor(processes) as pool:
        assert run_all(pool, processes, tasks, [], None) == {}
    assert sorted(trained) == ["alone", "first", "second", "third"]
    assert [name for name in trained if name != "alone"] == ["first", "second", "third"]


def test_a_failure_stops_only_what_needs_it(task: Task, trained: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(task: Task) -> None:
        raise InputError("too little data")

    monkeypatch.setitem(methods.METHODS, "second", Method("second", fail, METHODS["popularity"].load, ("first",)))
    tasks = [replace(task, name=name) for name in ("second", "third", "first", "alone")]
    with ThreadPoolExecutor(2) as pool:
        failures = run_all(pool, 2, tasks, [(tasks[1], "kept")], None)
    assert [task.name for task in failures] == ["second"]
    assert sorted(trained) == ["alone", "first"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("raise InputError('no luck')", r"runs/Broken-0: no luck"),
        ("os._exit(9)", "one of 2 processes was killed, most likely for memory; try again with fewer"),
    ],
)
def test_a_failure_in_a_process_is_said(task: Task, tmp_path: Path, what: str, message: str) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "import os\nfrom redraft.records import InputError\n"
        f"class Broken:\n    @classmethod\n    def fit(cls, *a, **k): {what}\n"
    )
    with pytest.raises(InputError, match=message):
        train_missing([replace(task, name=name) for name in (f"{own}:Broken", "popularity")], processes=2)


def test_what_most_wait_for_comes_first(task: Task) -> None:
    names = ["sasrec", "tiger", "gc-sft", "drafts", "grc-rl", "grc-sft"]
    order = [each.name for each in most_needed_first([replace(task, name=name) for name in names])]
    assert order == ["tiger", "drafts", "grc-sft", "sasrec", "gc-sft", "grc-rl"]


def test_a_measurement_is_read_again_until_the_weights_change(task: Task) -> None:
    train_missing([task], processes=1)
    first = measure(task, "filtered", None)
    path = task.folder / "test-filtered.json"
    written = path.stat().st_mtime_ns
    again = measure(task, "filtered", None)
    assert path.stat().st_mtime_ns == written
    assert again.metrics == first.metrics == read_json(path)["metrics"]
    np.testing.assert_array_equal(again.ranks, first.ranks)
    assert first.metrics["R@10"] == ((first.ranks > 0) & (first.ranks <= 10)).mean()
    ItemKNN.fit(random_interactions([6] * 40, 30, seed=1), tiny_catalogue(30)).save(
        task.folder / "fitted", replace=True
    )
    assert measure(task, "filtered", None).metrics != first.metrics


def test_a_measurement_of_other_users_is_refused(task: Task) -> None:
    train_missing([task], processes=1)
    measure(task, "kept", 20)
    with pytest.raises(
        InputError, match=r"test-kept\.json: measured with other users \(20, now all\).*remove the file"
    ):
        measure(task, "kept", None)


def test_a_half_written_folder_is_refused(task: Task) -> None:
    task.folder.mkdir(parents=True)
    check_folder(task)
    (task.folder / "metrics.jsonl").write_text("")
    with pytest.raises(InputError, match=r"itemknn-0: half-written, it has no config\.json; remove the folder"):
        check_folder(task)


def test_a_method_without_weights_of_its_own_keeps_only_measurements(task: Task) -> None:
    scheduled = replace(task, name="grc-rl-no-egrs")
    scheduled.folder.mkdir(parents=True)
    (scheduled.folder / "test-kept.json").write_text("{}")
    check_folder(scheduled)


def test_a_run_on_other_data_is_refused(task: Task, tmp_path: Path) -> None:
    train_missing([task], processes=1)
    path = data(tmp_path / "other", 1)
    other = replace(task, data=path, dataset=load_dataset(path))
    with pytest.raises(InputError, match=r"itemknn-0: trained on other data than .*other; give another --out"):
        check_folder(other)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sasrek", "no method 'sasrek'; there are popularity, markov"),
        ("nowhere.py:Mine", r"nowhere\.py: no such Python file; give FILE\.py:CLASS"),
        (f"{OWN}:Mine", r"own_method\.py: has no class Mine"),
    ],
)
def test_a_method_that_does_not_exist_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_method(name)
