from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import settings
from tiny import tiny_catalogue, tiny_ids, tiny_interactions, tiny_run

from redraft import cli
from redraft.data.store import make_dataset, save_dataset
from redraft.tokenizer.semantic_ids import save_semantic_ids

pytest.register_assert_rewrite("contract")
settings.register_profile("redraft", deadline=None)
settings.load_profile("redraft")
torch.set_num_threads(1)  # the models are tiny, and the workers of pytest -n share the cores


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with ids, a run trained on it, and one that corrects itself."""
    folder = tmp_path_factory.mktemp("shop")
    users = pl.Series("id", [f"user-{u}" for u in range(40)])
    save_dataset(make_dataset("tiny", tiny_interactions(40), tiny_catalogue(30), users), folder / "data", source="test")
    save_semantic_ids(tiny_ids(30, 3, 5), folder / "data" / "semantic_ids.safetensors", source={})
    tiny_run(folder / "run")
    words = ["train", "grc", folder / "data", folder / "grc", "--backbone", folder / "run", "--epochs", 1]
    quick = ["--draft-beams", 3, "--evaluate-users", 10, "--evaluate-beams", 10]
    assert cli.main([str(word) for word in words + quick]) == 0
    return folder
