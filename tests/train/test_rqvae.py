import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from stopping import assert_same_run, stops_and_resumes

import redraft.train.rqvae as rqvae
from redraft.records import InputError
from redraft.tokenizer.kmeans import nearest_codes
from redraft.train.rqvae import RqvaeConfig, train_rqvae

CONFIG = RqvaeConfig(epochs=6, batch_size=40, hidden=(16,), latent=4, evaluate_every=2)
RNG = np.random.default_rng(0)
VECTORS = (RNG.normal(size=(90, 2)) @ RNG.normal(size=(2, 8))).astype(np.float32)


def train(folder, *, vectors=VECTORS, codebook_size=12, seed=0, resume=False, **changes):
    torch.manual_seed(0)  # nothing is drawn from it, but every state holds it
    config = replace(CONFIG, **changes)
    return train_rqvae(vectors, folder, config, levels=3, codebook_size=codebook_size, seed=seed, resume=resume)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_training_lowers_the_reconstruction_error(tmp_path):
    train(tmp_path, epochs=30, learning_rate=0.01)
    log = metrics(tmp_path)
    assert [line["epoch"] for line in log] == list(range(1, 31))
    assert log[-1]["reconstruction"] < 0.5 * log[0]["reconstruction"]
    assert log[-1]["used"] == [12, 12, 12]


def test_returns_the_weights_with_the_least_error(tmp_path):
    model = train(tmp_path, epochs=8, learning_rate=0.05)
    errors = [line["relative_error"] for line in metrics(tmp_path) if "relative_error" in line]
    with torch.no_grad():
        data = torch.from_numpy(VECTORS)
        codes = torch.from_numpy(nearest_codes(model.encode(data).numpy(), model.codebooks.numpy(force=True)))
        rebuilt = model.decode(model.codebooks[torch.arange(3), codes].sum(dim=1))
        error = (rebuilt - data).square().sum() / (data - data.mean(dim=0)).square().sum()
    assert float(error) == pytest.approx(min(errors), rel=1e-5)
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=0, atol=0)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "metrics.jsonl",
        "model.safetensors",
        "state.safetensors",
    ]


def test_same_seed_same_weights_other_seed_other_weights(tmp_path):
    once, again, other = (
        train(tmp_path / name, seed=seed).state_dict() for name, seed in [("a", 1), ("b", 1), ("c", 2)]
    )
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["codebooks"], other["codebooks"])


CHANGES = {"epochs": 4, "batch_size": 20, "learning_rate": 1e-2, "weight_decay": 0.5, "hidden": (12,), "latent": 3}
CHANGES |= {"commitment": 0.9, "sinkhorn_epsilon": 0.5, "evaluate_every": 3}


@pytest.mark.parametrize("name", [field.name for field in fields(RqvaeConfig)])
def test_changing_a_setting_changes_the_weights(name, tmp_path):
    ours, theirs = (train(tmp_path / each, **change) for each, change in (("a", {}), ("b", {name: CHANGES[name]})))
    weights, others = ours.state_dict(), theirs.state_dict()
    shapes = [{key: weight.shape for key, weight in each.items()} for each in (weights, others)]
    assert shapes[0] != shapes[1] or any(not torch.equal(weight, others[key]) for key, weight in weights.items())


def test_other_settings_do_not_resume_and_states_of_before_have_none(tmp_path):
    train(tmp_path, epochs=4)
    for name, value in {"learning_rate": 0.5, "epochs": 8, "commitment": 0.5}.items():
        with pytest.raises(InputError, match=rf"cannot resume with {name} = {value}, its run has .*give that again"):
            train(tmp_path, resume=True, **{"epochs": 4, name: value})
    with pytest.raises(InputError, match="cannot resume with seed = 1, its run has 0"):
        train(tmp_path, epochs=4, seed=1, resume=True)
    state = tmp_path / "state.safetensors"
    with safe_open(state, "pt") as file:
        progress = json.loads(file.metadata()["progress"])
    save_file(load_file(state), state, {"progress": json.dumps({k: progress[k] for k in progress if k != "settings"})})
    train(tmp_path, epochs=4, learning_rate=0.5, resume=True)


def test_a_training_stopped_after_any_write_resumes_bit_for_bit(tmp_path, monkeypatch):
    def run(out, **options):
        train(out, epochs=3, **options)

    writes = ("save_state", "save_weights", "log_metrics")
    assert stops_and_resumes(run, tmp_path, monkeypatch, writes, rqvae) >= 2 + 1 + 3


def test_a_fresh_training_forgets_an_older_one_and_other_vectors_do_not_resume(tmp_path):
    train(tmp_path / "a", seed=1)
    train(tmp_path / "a")
    train(tmp_path / "b", resume=True)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    train(tmp_path / "a", resume=True)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    with pytest.raises(InputError, match="other vectors; start again without --resume"):
        train(tmp_path / "a", vectors=VECTORS[::-1].copy(), resume=True)


def test_divergence_is_an_input_error(tmp_path):
    train(tmp_path)
    with pytest.raises(InputError, match=r"not finite in epoch \d; lower --rqvae.learning-rate"):
        train(tmp_path, learning_rate=1e30)


def test_a_catalogue_smaller_than_the_codebook_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="300 codes cannot be fitted to 90 items"):
        train(tmp_path / "run", codebook_size=300)
    assert not (tmp_path / "run").exists()
