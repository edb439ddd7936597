import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from reflecting import N_ITEMS, a_world
from tiny import random_interactions, tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.bench.tables import correct
from redraft.bench.tables.correct import CorrectBenchConfig
from redraft.bench.tables.oracle import Told, agreeing, oracle_rows, true_labels
from redraft.checkpoint import build_grc
from redraft.data.split import leave_one_out
from redraft.decode.correction import Correction
from redraft.recommender import SelfCorrectingRecommender
from redraft.records import InputError
from redraft.train import reflect


def test_an_item_agrees_if_all_labels_were_right_with_it_as_the_target() -> None:
    ids, catalogue = tiny_ids(20, 3, 3), tiny_catalogue(20, 2)
    codes, attributes = torch.from_numpy(ids.codes), torch.from_numpy(catalogue.attributes)
    drafts, targets = torch.tensor([[1, 5, 9], [2, 0, -1]]), torch.tensor([7, 2])
    location, match = true_labels(drafts, targets, codes, attributes)
    first, found = agreeing(Told(drafts, location, match), codes, attributes, (1, 3))
    assert (found <= first).all()
    for user, item in itertools.product(range(2), range(20)):
        agrees = True
        for at, draft in enumerate(drafts[user].tolist()):
            if draft < 0:
                continue
            shared = 0
            while shared < 3 and codes[draft, shared] == codes[item, shared]:
                shared += 1
            same = [int(attributes[draft, k] == attributes[item, k] and attributes[item, k] >= 0) for k in range(2)]
            agrees = agrees and shared == int(location[user, at]) and same == match[user, at].tolist()
        assert bool(found[user, item]) == agrees
    assert found[0, 7]
    assert found[1].nonzero().tolist() == [[2]]


def test_true_labels_help_and_those_of_others_do_not() -> None:
    ids, catalogue = tiny_ids(N_ITEMS, 3, 5), tiny_catalogue(N_ITEMS, 2)
    model = with_random_weights(build_grc(tiny_config(), ids, catalogue, reflection=True), 0)
    model = SelfCorrectingRecommender(model, ids, catalogue, beams=10, correction=Correction(budget=4))
    holdout = leave_one_out(random_interactions([3 + u % 6 for u in range(70)], N_ITEMS)).test
    rows = {(row["labels"], row["share"]): row for row in oracle_rows("grc", model, holdout, filter_seen=False)}
    assert rows["true", 1.0]["R@5"] > rows["true", 0.1]["R@5"] >= rows["none", 0.0]["R@5"]
    assert rows["true", 1.0]["R@10"] > 0.9
    assert rows["true", 1.0]["R@5"] > 2 * rows["another user's", 1.0]["R@5"]
    assert rows["true", 1.0]["agreeing"] < rows["true", 0.1]["agreeing"]
    assert ("own", 0.5) in rows


def test_the_verb_takes_generators_and_runs_that_reflect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = a_world(tmp_path, random_interactions([6] * 40, N_ITEMS))
    reflect.main(config)
    runs = (config.run, config.out)
    correct.main(CorrectBenchConfig(config.data, runs, oracle=True, filtered=(True,), beams=30, result="oracle"))
    rows = json.loads(Path("results/oracle.json").read_text())["metrics"]
    assert {row["method"] for row in rows} == {"generator", "run"}
    assert {row["labels"] for row in rows if row["method"] == "run"} == {"none", "true", "own", "another user's"}


@pytest.mark.parametrize(
    "flag", [{"budgets": (7,)}, {"alphas": (0.1,)}, {"trust": 0.5}, {"precision": "float32"}, {"against": Path("a")}]
)
def test_flags_without_a_meaning_for_an_ideal_corrector_are_refused(flag: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"--{next(iter(flag))} says; leave it out"):
        correct.main(CorrectBenchConfig(Path("data"), (Path("run"),), oracle=True, **flag))


def test_runs_that_are_named_alike_are_refused(tmp_path: Path) -> None:
    config = a_world(tmp_path, random_interactions([6] * 40, N_ITEMS))
    alike = (config.run, tmp_path / "other" / config.run.name)
    with pytest.raises(InputError, match="two runs would be called 'generator'"):
        correct.main(CorrectBenchConfig(config.data, alike, oracle=True, beams=30))
