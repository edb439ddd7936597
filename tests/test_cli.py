"""The command line: every verb explains itself, says what it wrote, and leads to the next."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tiny import tiny_backbone, tiny_catalogue, tiny_config, tiny_ids
from verbs import TINY, run

import redraft
from redraft import cli
from redraft.bench.columns import Column
from redraft.recommender import GenerativeRecommender, load


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(name in out for name in cli.VERBS)


@pytest.mark.parametrize("name", sorted(cli.VERBS))
def test_every_verb_explains_its_flags(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([*name.split(), "--help"])
    assert stop.value.code == 0
    assert cli.VERBS[name].about.split(":")[0] in capsys.readouterr().out.replace("\n", " ")


QUICK = {
    "tokenize": ["--method", "kmeans", "--levels", 3, "--codebook-size", 16],
    "train": [*TINY, "--epochs", 1, "--evaluate-users", 9],
    "evaluate": ["--beams", 20],
}


def test_each_verb_names_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From nothing to an explanation by the commands that are printed, word for word."""
    monkeypatch.chdir(tmp_path)
    words, verbs = ["data", "shop", "data/my shop", "--users", "40", "--items", "60"], []
    while words:
        verbs.append(next(verb for verb in cli.VERBS if words[: len(verb.split())] == verb.split()))
        code, out, err = run(capsys, *words, *QUICK.get(verbs[-1], []))
        assert code == 0, err
        following = re.search(r"^next: redraft (.*)$", out, re.MULTILINE)
        words = shlex.split(following[1]) if following else []
    assert verbs == ["data shop", "data show", "tokenize", "train", "evaluate", "recommend", "explain"]


def test_an_unknown_verb_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "recomend", "x")
    assert code == 2
    assert "no verb 'recomend x'" in err


def test_recommend_and_explain_speak_the_shops_language(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "recommend", shop / "run", "--history", "item-3", "item-4", "--k", 3)
    assert code == 0
    assert "thing 3" in out
    assert f"next: redraft explain {shop / 'run'} --history item-3 item-4 --k 3\n" in out
    code, out, _ = run(capsys, "explain", shop / "run", "--data", shop / "data", "--user", "user-7", "--k", 2)
    assert code == 0
    assert "code 3" in out


def test_a_model_that_corrects_itself_explains_its_doubts(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "explain", shop / "grc", "--history", "item-3", "item-4", "--k", 3, "--beams", 12)
    assert code == 0
    for word in ("doubts", "corrected to", "was draft", "attribute0"):
        assert word in out
    code, out, _ = run(
        capsys, "recommend", shop / "grc", "--history", "item-3", "--beams", 12, "--correction.budget", 12
    )
    assert code == 0


SCORES = {
    "run": "score: log p(item)",
    "grc": "score: log p of drafts and corrections, merged by union-best",
    "verified": "score: log p(item), plus 1 x verifier's logit",
}


@pytest.fixture
def runs(shop: Path, tmp_path: Path) -> dict[str, Path]:
    """A run for each kind of score."""
    model = load(shop / "run")
    model.model.add_verifier()
    model.save(tmp_path / "verified")
    return {"run": shop / "run", "grc": shop / "grc", "verified": tmp_path / "verified"}


@pytest.mark.parametrize("name", SCORES)
def test_lists_say_what_their_scores_are(name: str, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = [runs[name], "--history", "item-3", "--k", 3]
    words += ["--correction.policy", "union-best"] if name == "grc" else []
    code, out, _ = run(capsys, "recommend", *words)
    assert code == 0
    assert SCORES[name] in (line.strip() for line in out.splitlines())
    code, out, _ = run(capsys, "explain", *words)
    assert code == 0
    assert (SCORES[name] in (line.strip() for line in out.splitlines())) == (name != "run")
    assert ("verifier" in out) == (name == "verified")


def test_lists_for_all_users_go_to_a_file(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lists.parquet"
    code, _, _ = run(capsys, "recommend", shop / "run", "--data", shop / "data", "--out", out, "--k", 4)
    assert code == 0
    lists = pl.read_parquet(out)
    assert lists.columns == ["user", "rank", "item", "title", "score"]
    assert lists.group_by("user").len()["len"].to_list() == [4] * 40


def test_evaluate_prints_and_saves(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redraft.bench.tables.evaluate.KS", (5, 10))
    monkeypatch.setattr(
        "redraft.bench.tables.evaluate.COLUMNS",
        [Column("method", "method"), Column("seen", "seen"), Column("R@5", "R@5", ".4f")],
    )
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", shop / "data", "--runs", shop / "run", "--beams", 20, "--ranks", tmp_path, "--result", "tiny"]
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "popularity" in out
    result = json.loads((tmp_path / "results" / "tiny.json").read_text())
    rows = result["metrics"]
    [file] = tmp_path.glob("ranks-tiny-*-test-run-filtered.parquet")
    ranks = pl.read_parquet(file)["rank"]
    assert [row["R@5"] for row in rows if (row["method"], row["seen"]) == ("run", "filtered")] == [
        pytest.approx((ranks <= 5).fill_null(False).mean())
    ]


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("--version", "-V"):
        code, out, _ = run(capsys, word)
        assert (code, out) == (0, f"redraft {version('redraft')}\n")
    assert redraft.__version__ == version("redraft")


def test_help_needs_none_of_the_heavy_libraries() -> None:
    script = "import sys, redraft; from redraft.cli import main; main(['--help']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "redraft.cli" in loaded
    assert not {"torch", "polars", "numpy", "tyro", "redraft.records"} & set(loaded)


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "redraft", "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: no verb 'nonsense'; the verbs are listed above\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "tiny", "d", "my run", "--replace"], "stopped; to go on: redraft train tiny d 'my run' --resume\n"),
        (["train", "tiny", "d", "r", "--resume"], "stopped; to go on: redraft train tiny d r --resume\n"),
        (["tokenize", "d", "--replace"], "stopped; to go on: redraft tokenize d --replace --resume\n"),
        (["bench", "tables", "--data", "d"], "stopped; the same command goes on from here\n"),
        (["export", "r", "e"], "stopped\n"),
    ],
)
def test_ctrl_c_is_one_line(words: list[str], said: str, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str, words: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "parse", interrupted)
    assert run(capsys, *words) == (130, "", said)


def _swallowed() -> None:
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    time.sleep(5)


def _turned() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ValueError("of a library") from None


def _not_here() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("work", [_swallowed, _turned, _not_here])
def test_ctrl_c_is_one_line_whatever_a_library_makes_of_it(
    work: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.answer("train", ["train", "tiny", "d", "r"], work) == 130
    assert capsys.readouterr().err == "stopped; to go on: redraft train tiny d r --resume\n"


@pytest.mark.parametrize("make", [lambda: torch.zeros(2**50), lambda: np.zeros(2**50), lambda: torch.zeros(2**62, 8)])
def test_too_little_memory_is_one_line(make: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.answer("train", ["train"], make) == 2
    assert re.fullmatch(r"error: not enough memory \(.*\); give smaller numbers.*\n", capsys.readouterr().err)


def test_what_is_a_fault_of_ours_is_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        cli.answer("train", ["train"], lambda: 1 / 0)


def test_lists_of_a_shop_with_fewer_items_than_a_list_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids, catalogue = tiny_ids(6, 3, 5), tiny_catalogue(6)
    model = GenerativeRecommender(tiny_backbone(tiny_config(), ids, catalogue), ids, catalogue)
    model.save(tmp_path / "run")
    for words in (["recommend"], ["explain"]):
        code, out, err = run(capsys, *words, tmp_path / "run", "--history", "item-3")
        assert (code, err) == (0, "")
        assert "thing 5" in out
    code, _, err = run(capsys, "export", tmp_path / "run", tmp_path / "out", "--no-compile", "--users", 1)
    assert (code, err) == (0, "")
    assert len(redraft.recommend(model, [["item-3"]])) == 5  # and what was seen is left out
