import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from redraft.records import InputError
from redraft.tokenizer.kmeans import nearest_codes
from redraft.train.rqvae import RqvaeConfig, train_rqvae

CONFIG = RqvaeConfig(epochs=6, batch_size=40, hidden=(16,), latent=4, evaluate_every=2)
RNG = np.random.default_rng(0)
VECTORS = (RNG.normal(size=(90, 2)) @ RNG.normal(size=(2, 8))).astype(np.float32)


def train(folder, *, codebook_size=12, seed=0, **changes):
    options = asdict(replace(CONFIG, **changes))
    return train_rqvae(VECTORS, folder, levels=3, codebook_size=codebook_size, seed=seed, **options)


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
    for name, tensor in load_file(tmp_path / "best.safetensors").items():
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=0, atol=0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.safetensors", "last.safetensors", "metrics.jsonl"]


def test_same_seed_same_weights_other_seed_other_weights(tmp_path):
    once, again, other = (
        train(tmp_path / name, seed=seed).state_dict() for name, seed in [("a", 1), ("b", 1), ("c", 2)]
    )
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["codebooks"], other["codebooks"])


def test_divergence_is_an_input_error(tmp_path):
    train(tmp_path)
    with pytest.raises(InputError, match="not a number after 6 epochs; lower learning_rate"):
        train(tmp_path, learning_rate=1e30)


def test_a_catalogue_smaller_than_the_codebook_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="300 codes cannot be fitted to 90 items"):
        train(tmp_path / "run", codebook_size=300)
    assert not (tmp_path / "run").exists()
