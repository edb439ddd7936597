import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from reflecting import N_ITEMS, a_world
from tiny import random_interactions

from redraft import runs
from redraft.bench.tables import evidence
from redraft.bench.tables.evidence import WHOLE, EvidenceBenchConfig
from redraft.bench.tables.labels import label_rows
from redraft.data.split import leave_one_out
from redraft.eval.evaluate import evaluate
from redraft.evidence.drafting import Rewriting
from redraft.records import InputError
from redraft.train import reflect


def test_every_list_is_measured_for_the_same_users_and_the_whole_is_what_the_run_recommends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    events = random_interactions([6] * 60, N_ITEMS)
    config = a_world(tmp_path, events)
    reflect.main(config)
    asked = EvidenceBenchConfig(config.data, (config.out,), without=("tower",), result="evidence")
    evidence.main(asked)
    result = json.loads(Path("results/evidence.json").read_text())
    rows = {(row["method"], row["seen"]): row for row in result["metrics"]}
    budgets = [name for name, seen in rows if "corrections" in name and seen == "kept"]
    assert len(rows) == 2 * (11 + len(budgets) - 2)
    assert "reflection on drafts and 10 corrections" in budgets
    holdout = leave_one_out(events).test
    for seen in ("filtered", "kept"):
        model = runs.load(config.out)
        whole = evaluate(model, holdout, ks=(5, 10), filter_seen=seen == "filtered")
        drafts = evaluate(model.writer, holdout, ks=(5, 10), filter_seen=seen == "filtered")
        assert rows[WHOLE, seen]["N@10"] == pytest.approx(whole.metrics["N@10"])
        assert rows["drafts", seen]["N@10"] == pytest.approx(drafts.metrics["N@10"])
        gain = rows[WHOLE, seen]["N@10"] - rows["drafts", seen]["N@10"]
        assert rows["drafts", seen]["N@10 gain"] == pytest.approx(gain)
        assert "N@10 gain" not in rows[WHOLE, seen]
        moved = rows[WHOLE, seen]["rescued"] - rows[WHOLE, seen]["damaged"]
        assert moved == pytest.approx(rows[WHOLE, seen]["R@10"] - rows["drafts", seen]["R@10"])
        assert rows["drafts", seen]["rescued"] == rows["drafts", seen]["damaged"] == 0
    labels = {row["label"]: row for row in json.loads(Path("results/evidence_reflection.json").read_text())["metrics"]}
    assert np.isfinite([labels["location"][name] for name in ("nll", "implied_nll", "base_nll")]).all()
    kept = sorted(config.out.glob("drafts/test-*/part-*"))
    before = [path.stat().st_mtime_ns for path in kept]
    evidence.main(asked)
    assert kept
    assert before == [path.stat().st_mtime_ns for path in kept]


def test_runs_with_fewer_drafts_than_are_shown_are_measured(tmp_path: Path) -> None:
    config = a_world(tmp_path, random_interactions([6] * 60, N_ITEMS))
    reflect.main(dataclasses.replace(config, beams=5, rewriting=Rewriting(budget=0)))
    model, holdout = runs.load(config.out), leave_one_out(random_interactions([6] * 60, N_ITEMS)).test
    case = model.case(holdout.histories, 1)
    assert case.items.shape[1] == 5
    *_, row = label_rows(model, case, torch.from_numpy(holdout.targets))
    assert row["hits"] == pytest.approx((case.items.numpy() == holdout.targets[:, None]).any(axis=1).mean())


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    config = a_world(tmp_path, random_interactions([6] * 60, N_ITEMS))
    with pytest.raises(InputError, match="not a run of recipe reflect"):
        evidence.main(EvidenceBenchConfig(config.data, (config.run,)))
    with pytest.raises(InputError, match="nothing to do"):
        evidence.main(EvidenceBenchConfig(config.data, ()))
    reflect.main(config)
    with pytest.raises(InputError, match="does not read 'stars'"):
        evidence.main(EvidenceBenchConfig(config.data, (config.out,), without=("stars",)))
    fewer = dataclasses.replace(config, out=tmp_path / "fewer", beams=5)
    reflect.main(fewer)
    with pytest.raises(InputError, match=r"fewer: n_drafts is 5, and 10 in .*run; give runs that differ in their seed"):
        evidence.main(EvidenceBenchConfig(config.data, (config.out, fewer.out)))
