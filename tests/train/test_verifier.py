from pathlib import Path

import numpy as np
import pytest
import torch
from loops import plain, verifier_run
from stopping import metrics, stops_and_resumes
from tiny import random_interactions

import redraft.train.verifier as verifying
from redraft.data.loader import batches, every_prefix, shared_prefixes
from redraft.data.split import leave_one_out
from redraft.data.store import make_dataset, save_dataset
from redraft.eval.evaluate import evaluate
from redraft.recommender import load
from redraft.records import InputError, Interactions
from redraft.train.verifier import VerifierConfig, verifier_losses


def test_a_run_stopped_after_any_write_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stops_and_resumes(verifier_run, tmp_path, monkeypatch) >= 8


def test_shared_prefixes_give_the_losses_of_rows_of_their_own() -> None:
    model = plain().model
    model.add_verifier()
    model.eval()
    short, totals = leave_one_out(random_interactions([3 + u % 8 for u in range(30)], 30)).train, []
    for windows in (shared_prefixes(short, 8), every_prefix(short, 8)):
        losses = [verifier_losses(model, b).total for b in batches(short, windows, 32, seed=0, epoch=0)]
        totals.append(sum(losses))
    torch.testing.assert_close(*totals)


def test_it_learns_what_the_codes_do_not_say(tmp_path: Path) -> None:
    """After item i comes i + 1; a backbone with random weights knows nothing of it."""
    chain = Interactions.from_lists([[(u + t) % 30 for t in range(9)] for u in range(60)])
    verifier_run(tmp_path / "run", chain, epochs=10, learning_rate=1e-2, evaluate_every=10)
    model, test = load(tmp_path / "run", beams=30, trust=10.0), leave_one_out(chain).test
    assert evaluate(model, test, ks=(1,), filter_seen=False).metrics["R@1"] > 0.9
    untrusted = load(tmp_path / "run", beams=30, trust=0.0)
    found, without = (r.recommend(test.histories, 10) for r in (untrusted, plain()))
    np.testing.assert_array_equal(found.items, without.items)
    assert metrics(tmp_path / "run")[-1]["loss"] < 2.0


def test_what_cannot_be_is_said_at_once(tmp_path: Path) -> None:
    import polars as pl

    users = pl.Series("id", [f"user-{u}" for u in range(30)])
    events = random_interactions([5] * 30, 30)
    save_dataset(make_dataset("tiny", events, plain().catalogue, users), tmp_path / "data", source="test")
    plain().save(tmp_path / "plain")
    config = VerifierConfig(tmp_path / "data", tmp_path / "run", run=tmp_path / "plain", epochs=1, evaluate_beams=10)
    verifying.main(config)
    with pytest.raises(InputError, match="holds a trained run"):
        verifying.main(config)
    with pytest.raises(InputError, match="has a verifier already"):
        verifying.main(VerifierConfig(tmp_path / "data", tmp_path / "two", run=tmp_path / "run"))
    with pytest.raises(InputError, match=r"trust = -1\.0"):
        load(tmp_path / "run", trust=-1.0)
