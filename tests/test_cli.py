"""The command line: every verb explains itself; input that cannot be used is one line, exit code 2, nothing left."""

import errno
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny import tiny_catalogue, tiny_ids, tiny_interactions, tiny_run

from redraft import cli
from redraft.data.store import make_dataset, save_dataset
from redraft.tokenizer.semantic_ids import save_semantic_ids


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with ids and a run trained on it."""
    folder = tmp_path_factory.mktemp("shop")
    users = pl.Series("id", [f"user-{u}" for u in range(40)])
    save_dataset(make_dataset("tiny", tiny_interactions(40), tiny_catalogue(30), users), folder / "data", source="test")
    save_semantic_ids(tiny_ids(30, 3, 5), folder / "data" / "semantic_ids.safetensors", source={})
    tiny_run(folder / "run")
    words = ["train", "grc", folder / "data", folder / "grc", "--backbone", folder / "run", "--epochs", 1]
    quick = ["--draft-beams", 3, "--evaluate-users", 10, "--evaluate-beams", 10]
    assert cli.main([str(word) for word in words + quick]) == 0
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = cli.main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


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


def test_an_unknown_verb_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "recomend", "x")
    assert code == 2
    assert "no verb 'recomend x'" in err


def test_recommend_and_explain_speak_the_shops_language(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "recommend", shop / "run", "--history", "item-3", "item-4", "--k", 3)
    assert code == 0
    assert "thing 3" in out
    assert "next: redraft explain" in out
    code, out, _ = run(capsys, "explain", shop / "run", "--data", shop / "data", "--user", "user-7", "--k", 2)
    assert code == 0
    assert "code 3" in out


def test_a_model_that_corrects_itself_explains_its_doubts(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "explain", shop / "grc", "--history", "item-3", "item-4", "--k", 3, "--beams", 12)
    assert code == 0
    for word in ("doubts", "rewritten as", "was draft", "attribute0"):
        assert word in out
    code, out, _ = run(
        capsys, "recommend", shop / "grc", "--history", "item-3", "--beams", 12, "--correction.budget", 12
    )
    assert code == 0


def test_lists_for_all_users_go_to_a_file(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lists.parquet"
    code, _, _ = run(capsys, "recommend", shop / "run", "--data", shop / "data", "--out", out, "--k", 4)
    assert code == 0
    lists = pl.read_parquet(out)
    assert lists.columns == ["user", "rank", "item", "log_prob"]
    assert lists.group_by("user").len()["len"].to_list() == [4] * 40


def test_evaluate_prints_and_saves(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redraft.bench.evaluate.KS", (5, 10))
    monkeypatch.setattr("redraft.bench.evaluate.COLUMNS", {"method": "{method}", "seen": "{seen}", "R@5": "{R@5:.4f}"})
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", shop / "data", "--runs", shop / "run", "--beams", 20, "--ranks", tmp_path, "--result", "tiny"]
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "popularity" in out
    result = json.loads((tmp_path / "results" / "tiny.json").read_text())
    rows = result["metrics"]
    ranks = pl.read_parquet(tmp_path / "ranks-run-filtered.parquet")["rank"]
    assert [row["R@5"] for row in rows if (row["method"], row["seen"]) == ("run", "filtered")] == [
        pytest.approx((ranks <= 5).fill_null(False).mean())
    ]


def other_ids(folder: Path) -> Path:
    save_semantic_ids(tiny_ids(29, 3, 5), folder / "ids.safetensors", source={})
    return folder / "ids.safetensors"


def other_attributes(folder: Path) -> Path:
    users = pl.Series("id", [f"user-{u}" for u in range(40)])
    dataset = make_dataset("tiny", tiny_interactions(40), tiny_catalogue(30, 2), users)
    save_dataset(dataset, folder / "data", source="test")
    return folder / "data"


def not_numbers(folder: Path) -> Path:
    np.save(folder / "vectors.npy", np.full((30, 4), np.nan))
    return folder / "vectors.npy"


BAD = {
    "no data set": (lambda s, t: ["data", "show", t / "none"], "not a data set"),
    "no run": (lambda s, t: ["recommend", t, "--history", "item-3"], "not a trained run"),
    "unknown item": (lambda s, t: ["recommend", s / "run", "--history", "item-3", "x"], "'x' at position 2"),
    "unknown user": (lambda s, t: ["explain", s / "run", "--data", s / "data", "--user", "x"], "no user 'x'"),
    "no history": (lambda s, t: ["explain", s / "run"], "give either --history"),
    "everybody without a file": (lambda s, t: ["recommend", s / "run", "--data", s / "data"], "--out"),
    "too long a list": (
        lambda s, t: ["recommend", s / "run", "--history", "item-3", "--k", 31],
        "exceeds the catalogue",
    ),
    "ids of other items": (lambda s, t: ["train", "tiny", s / "data", t / "r", "--ids", other_ids(t)], "29 items"),
    "NaN vectors": (
        lambda s, t: ["tokenize", s / "data", "--vectors", not_numbers(t), "--out", t / "o.safetensors"],
        "vectors.npy",
    ),
    "published without a file": (lambda s, t: ["tokenize", s / "data", "--method", "published"], "--index"),
    "trained already": (lambda s, t: ["train", "tiny", s / "data", s / "run"], "--resume"),
    "more budget than drafts": (
        lambda s, t: ["recommend", s / "grc", "--history", "item-3", "--beams", 10, "--correction.budget", 11],
        "budget = 11, but there are 0 to 10 drafts",
    ),
    "more beams than items": (
        lambda s, t: ["recommend", s / "grc", "--history", "item-3", "--beams", 31],
        "beams = 31 exceeds the catalogue",
    ),
    "negative alpha": (
        lambda s, t: ["evaluate", s / "data", "--runs", s / "grc", "--beams", 10, "--correction.alpha", -1],
        "alpha = -1.0",
    ),
    "no backbone": (
        lambda s, t: ["train", "grc", s / "data", t / "r", "--backbone", t / "none"],
        "not a trained run",
    ),
    "a backbone with other ids": (
        lambda s, t: [
            *("train", "grc", s / "data", t / "r", "--backbone", s / "run"),
            *("--ids", other_ids(t)),
        ],
        "trained with other semantic IDs",
    ),
    "a backbone with other attributes": (
        lambda s, t: ["train", "grc", other_attributes(t), t / "r", "--backbone", s / "run"],
        "knows the attributes ('attribute0',)",
    ),
    "a drafter that saw its users": (
        lambda s, t: ["train", "grc", s / "data", t / "r", "--backbone", s / "run", "--drafters", s / "grc"],
        "--fold 0 1",
    ),
    "drafts of another checkpoint": (
        lambda s, t: [
            *("train", "grc", s / "data", t / "r", "--backbone", s / "run"),
            *("--drafts", s / "grc" / "drafts", "--draft-beams", 4),
        ],
        "made with other beams",
    ),
    "empty log": (lambda s, t: ["data", "import", "table", (t / "e.csv").touch() or t / "e.csv", t / "d"], "e.csv"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_input_is_one_line_and_leaves_nothing(
    case: str, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, said = BAD[case]
    arguments = words(shop, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_said_and_leaves_nothing(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: pl.DataFrame, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    code, _, err = run(capsys, "data", "shop", tmp_path / "shop", "--users", 30, "--items", 60)
    assert code == 2
    assert "No space left on device; free some space" in err
    assert list(tmp_path.iterdir()) == []
