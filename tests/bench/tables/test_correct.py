import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import random_interactions, tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.bench.tables import correct
from redraft.bench.tables.correct import corrected_rows, list_row, observe
from redraft.bench.tables.reflection import confusion_table, reflection_rows, reliability_plot
from redraft.checkpoint import build_backbone, build_grc
from redraft.data.split import leave_one_out
from redraft.decode.correction import Correction
from redraft.eval.evaluate import evaluate
from redraft.eval.reflection import outcomes
from redraft.recommender import GenerativeRecommender, SelfCorrectingRecommender
from redraft.records import InputError, Interactions

N = 30
CORRECTION = Correction(budget=6)
HOLDOUT = leave_one_out(random_interactions([3 + u % 6 for u in range(80)], N)).test


@pytest.fixture(autouse=True)
def short_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correct, "KS", (5, 10))


def make(policy: str = "replace", *, reflection: bool = True) -> SelfCorrectingRecommender:
    ids, catalogue = tiny_ids(N, 3, 5), tiny_catalogue(N, 2)
    model = with_random_weights(build_grc(tiny_config(), ids, catalogue, reflection=reflection), 0)
    correction = replace(CORRECTION, policy=policy)
    return SelfCorrectingRecommender(model, ids, catalogue, beams=20, correction=correction)


@pytest.mark.parametrize("filter_seen", [False, True])
def test_ranks_are_those_of_evaluate(filter_seen: bool) -> None:
    [seen] = observe(make(), HOLDOUT, [CORRECTION], filter_seen=filter_seen)
    for policy in ("replace", "union-best", "union-logsumexp"):
        expected = evaluate(make(policy), HOLDOUT, ks=(5, 10), filter_seen=filter_seen)
        assert seen.ranks[policy].tolist() == expected.ranks.tolist()
    drafts = evaluate(make().drafts_alone(), HOLDOUT, ks=(5, 10), filter_seen=filter_seen)
    assert seen.ranks["drafts"].tolist() == drafts.ranks.tolist()


def test_what_is_observed_is_what_one_user_alone_would_show() -> None:
    model, user = make(), 7
    [seen] = observe(model, HOLDOUT, [CORRECTION], filter_seen=False)
    told = model.trajectory(HOLDOUT.histories.history(user).tolist(), filter_seen=False)
    codes, target = model.ids.codes, model.ids.codes[HOLDOUT.targets[user]]
    for row, item in enumerate(told.drafts.tolist()):
        wrong = np.flatnonzero(codes[item] != target)
        assert seen.location[user, row] == (wrong[0] if len(wrong) else 3)
        mine = told.corrections[told.origins == row]
        if len(mine):
            wrong = np.flatnonzero(codes[mine[0]] != target)
            assert seen.after[user, row] == (wrong[0] if len(wrong) else 3)
        else:
            assert seen.after[user, row] == -1
    assert seen.sent[user].tolist() == told.corrected.tolist()
    for observed, said in zip(seen.probabilities, told.said, strict=True):
        np.testing.assert_allclose(observed[user], said, atol=1e-5)


def test_rows_say_what_became_of_the_drafts() -> None:
    [seen] = observe(make(), HOLDOUT, [CORRECTION], filter_seen=False)
    drafts = list_row(seen.ranks["drafts"], None)
    assert "gain" not in drafts
    rows = {row["method"]: row for row in corrected_rows("grc", seen, CORRECTION, {}, seen.ranks["drafts"])}
    assert set(rows) == {"grc replace", "grc union-best", "grc union-logsumexp"}
    row = rows["grc replace"]
    assert row["gain"] == pytest.approx(row["R@10"] - drafts["R@10"])
    assert sum(row["hit rate by rank"]) == pytest.approx(row["R@10"])
    assert row["drafts"]["corrected"] <= 6 / 20
    json.dumps([*rows.values(), *reflection_rows("grc", seen, make().model.slots(("a", "b")))])


def test_reflection_rows_count_the_top_drafts() -> None:
    [seen] = observe(make(), HOLDOUT, [CORRECTION], filter_seen=False)
    location, first, second = reflection_rows("grc", seen, make().model.slots(("a", "b")))
    assert [location["label"], first["label"], second["label"]] == ["location", "a", "b"]
    assert np.array(location["confusion@10"]).sum() == 80 * 10
    assert np.trace(location["confusion@10"]) / 800 == pytest.approx(location["accuracy@10"])
    assert location["commonest@10"] == pytest.approx(max(location["shares@10"]))
    assert reliability_plot(location).plain.count("right,") == np.count_nonzero(location["reliability"]["share"])
    assert confusion_table(location).row_count == 4
    assert first["accuracy@5"] == pytest.approx(
        (seen.probabilities[1][:, :5].argmax(-1) == seen.labels[:, :5, 1]).mean()
    )


def test_without_labels_only_lists_are_compared() -> None:
    [seen] = observe(make(reflection=False), HOLDOUT, [CORRECTION], filter_seen=False)
    assert seen.probabilities == ()
    assert not seen.settled.any()


def test_outcomes_by_hand() -> None:
    """One user, five drafts: settled; sent but nothing survived; improved 0 -> 2; harmed 2 -> 1; not sent."""
    before, after = np.array([[3, 1, 0, 2, 1]]), np.array([[-1, -1, 2, 1, -1]])
    settled = np.array([[True, False, False, False, False]])
    sent = np.array([[False, True, True, True, False]])
    expected = {"settled": 0.2, "corrected": 0.6, "survived": 0.4, "improved": 0.2, "harmed": 0.2}
    assert outcomes(before, after, settled, sent) == pytest.approx(expected)


def test_a_bench_writes_both_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import polars as pl

    from redraft.data.store import make_dataset, save_dataset

    monkeypatch.chdir(tmp_path)
    columns = [column for column in correct.COLUMNS if column.field not in ("R@50", "R@200")]
    monkeypatch.setattr(correct, "COLUMNS", columns)
    interactions: Interactions = random_interactions([3 + u % 6 for u in range(40)], N)
    users = pl.Series("id", [f"user-{u}" for u in range(40)])
    save_dataset(make_dataset("tiny", interactions, make().catalogue, users), tmp_path / "data", source="test")
    make().save(tmp_path / "grc")
    backbone = with_random_weights(build_backbone(tiny_config(), make().ids, make().catalogue), 0)
    GenerativeRecommender(backbone, make().ids, make().catalogue).save(tmp_path / "plain")
    runs, budgets, plain = (tmp_path / "grc",), (5, 20), tmp_path / "plain"
    config = correct.CorrectBenchConfig(tmp_path / "data", runs, budgets=budgets, beams=20, result="tiny")
    correct.main(replace(config, against=plain))
    rows = json.loads((tmp_path / "results" / "tiny.json").read_text())["metrics"]
    assert len(rows) == 2 * (1 + 1 + 2 * 2 * 3)
    assert [row["method"] for row in rows[:2]] == ["plain", "grc drafts"]
    with pytest.raises(InputError, match="budget of 0 is the drafts"):
        correct.main(replace(config, budgets=(0, 5)))
    assert len(json.loads((tmp_path / "results" / "tiny_reflection.json").read_text())["metrics"]) == 3
    make().save(tmp_path / "other" / "grc")
    with pytest.raises(InputError, match=r"two runs would be called 'grc' in the table; rename the folder"):
        correct.main(replace(config, runs=(*runs, tmp_path / "other" / "grc")))
    strange = replace(make().catalogue, ids=pl.Series("id", [f"thing-{i}" for i in range(N)]))
    GenerativeRecommender(backbone, make().ids, strange).save(tmp_path / "strange")
    with pytest.raises(InputError, match=r"strange: trained on other items than those of .*data"):
        correct.main(replace(config, against=tmp_path / "strange"))
