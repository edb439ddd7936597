"""A shop of six items goes through every verb without a flag for its size."""

from pathlib import Path

import polars as pl
import pytest
from tiny import random_interactions, tiny_catalogue, tiny_ids
from verbs import TINY, run

from redraft.data.store import make_dataset, save_dataset
from redraft.tokenizer.semantic_ids import save_semantic_ids

N = 6


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corner")
    users = pl.Series("id", [f"user-{u}" for u in range(12)])
    events = random_interactions([4 + u % 3 for u in range(12)], N)
    save_dataset(make_dataset("corner", events, tiny_catalogue(N), users), folder / "data", source="test")
    save_semantic_ids(tiny_ids(N, 2, 3), folder / "data" / "semantic_ids.safetensors", source={})
    return folder


def test_six_items_are_enough(
    corner: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corner)
    for words in (
        ["train", "tiny", "data", "small", "--epochs", 1, *TINY],
        ["train", "tiny-tiger", "data", "tiger", "--epochs", 1, *TINY],
        ["train", "grc", "data", "grc", "--backbone", "tiger", "--epochs", 1],
        ["train", "verifier", "data", "verified", "--run", "tiger", "--epochs", 1],
        ["train", "grpo", "data", "rl", "--sft", "grc", "--steps", 1, "--users", 4, "--group", 2],
        ["evaluate", "data", "--runs", "rl", "verified", "small"],
        ["bench", "correct", "data", "--against", "tiger", "--runs", "grc"],
        ["recommend", "rl", "--history", "item-3", "--k", N - 1],
    ):
        code, _, err = run(capsys, *words)
        assert (code, err) == (0, ""), words


@pytest.mark.parametrize(
    ("recipe", "flag"),
    [("tiny", "--evaluate-beams"), ("grc", "--draft-beams"), ("grc", "--evaluate-beams"), ("grpo", "--evaluate-beams")],
)
def test_more_than_there_is_is_refused_by_the_name_of_its_flag(
    recipe: str, flag: str, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = {"grc": ["--backbone", shop / "run"], "grpo": ["--sft", shop / "grc"]}.get(recipe, [])
    code, _, err = run(capsys, "train", recipe, shop / "data", tmp_path / "out", *start, flag, 31)
    assert code == 2
    assert f"{flag} 31: there are only 30 items" in err
    assert not (tmp_path / "out").exists()
