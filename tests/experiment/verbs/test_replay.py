"""The whole chain on a very small shop: runs, the real service over HTTP, customers, journals, analysis, page."""

import json
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import polars as pl
import pytest
from journals import at, write
from tiny import tiny_backbone, tiny_config, tiny_ids
from verbs import run

from redraft.data.shop import ShopConfig
from redraft.data.shop import main as make_shop
from redraft.data.store import load_dataset
from redraft.experiment.verbs.verb import RunConfig
from redraft.experiment.verbs.verb import run as replay
from redraft.recommender import GenerativeRecommender

FILE = """
[[experiments]]
name = "shop"
start = 2026-01-02
days = 2
before_days = 4
control = "one"
guardrails = { p99_ms = 0.001 }
arms = [{ name = "one", run = "one", share = 0.5 }, { name = "two", run = "two", share = 0.5 }]
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replayed")
    make_shop(ShopConfig(folder / "data", users=80, items=60))
    catalogue, ids = load_dataset(folder / "data").catalogue, tiny_ids(60, 3, 5)
    for seed, name in enumerate(("one", "two")):
        model = tiny_backbone(tiny_config(), ids, catalogue, seed)
        GenerativeRecommender(model, ids, catalogue, beams=10).save(folder / name)
    (folder / "e.toml").write_text(FILE)
    with redirect_stdout(StringIO()) as said:
        replay(RunConfig(folder / "out", file=folder / "e.toml", data=folder / "data", k=5))
    (folder / "said.txt").write_text(said.getvalue())
    return folder


def test_an_experiment_from_assignment_to_decision(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = (shop / "said.txt").read_text()
    lists = pl.concat([pl.read_parquet(path) for path in (shop / "out/state/exposures").glob("*.parquet")])
    events = pl.concat([pl.read_parquet(path) for path in (shop / "out/state/events").glob("*.parquet")])
    said = re.search(r"^([\d,]+) lists over HTTP", out, re.MULTILINE)
    assert lists.height == int(said[1].replace(",", ""))
    assert set(lists["arm"]) == {"one", "two"}
    assert lists["items"].list.len().to_list() == [5] * lists.height
    assert events.filter(pl.col("kind") == "purchase")["value"].min() > 0
    assert events["timestamp"].min() < lists["timestamp"].min()
    page = (shop / "out/report.html").read_text()
    for words in ("What may be said", "Day by day", "Broken: p99_ms", "Sample ratio", "Segments", "The truth"):
        assert words in page, words
    truth = json.loads((shop / "out/truth.json").read_text())
    assert truth["two"].keys() == {"ctr", "gmv", "revenue"}
    code, _, err = run(capsys, *["experiment", "run", shop / "out", "--file", shop / "e.toml", "--data", shop / "data"])
    assert (code, "holds an earlier replay" in err) == (2, True)


def test_the_same_journals_are_watched_reported_and_planned_with(
    shop: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    state = shop / "out" / "state"
    code, out, err = run(capsys, "experiment", "watch", shop / "e.toml", "--state", state)
    assert code == 0, err
    assert "shop: day 2 of 2" in out
    early = ["--state", state, "--now", "2026-01-03T12:00:00Z"]
    code, out, _ = run(capsys, "experiment", "watch", shop / "e.toml", *early)
    assert "shop: day 1 of 2, running" in out
    assert "nothing is decided before the last day" in out
    page = tmp_path / "page.html"
    code, _, err = run(capsys, "experiment", "report", shop / "e.toml", "--state", state, "--out", page)
    assert code == 0, err
    assert "The truth" not in page.read_text()
    code, out, err = run(capsys, "experiment", "plan", shop / "e.toml", "--state", state)
    assert code == 0, err
    assert "0 to 4999" in out
    assert "users of both arms together show 2.0%" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["watch", "--now", "2026-01-02T12:00:00Z"], "its first day is not over"),
        (["watch", "--now", "soon"], "not ISO 8601"),
        (["watch", "--now", "2026-01-02"], "has no zone"),
        (["watch", "--name", "other"], "has no experiment 'other'; there are shop"),
        (["plan", "--effect", "2"], "effect is 2.0; it must be within 0 and 1"),
    ],
)
def test_what_cannot_be_said_is_said_in_a_line(
    words: list[str], said: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "experiment", words[0], shop / "e.toml", "--state", shop / "out/state", *words[1:])
    assert (code, err.count("\n")) == (2, 1)
    assert said in err


def test_a_salt_that_changed_on_the_way_is_refused_in_the_analysis_too(
    shop: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = FILE.replace('run = "', f'run = "{shop}/') + '[layers.shop]\nsalt = "other"\n'
    (tmp_path / "e.toml").write_text(other)
    code, _, err = run(capsys, "experiment", "watch", tmp_path / "e.toml", "--state", shop / "out/state")
    assert code == 2
    assert "salt was 'shop' when it started and is 'other' now" in err


KINDS = {
    "interleaving": ({"teams": ["b", "a"]}, "Neither arm's items are clicked more, as far as 4 lists can tell."),
    "randomised": ({"propensities": [0.5, 0.5], "lists": [["x", "y"], ["y", "x"]]}, "by 4 lists that were drawn"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_lists_have_a_page(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more, said = KINDS[kind]
    lists = [{"user_id": f"u{n}", "timestamp": at(0.1), "arm": kind} | more for n in range(4)]
    clicks = [{"user_id": "u0", "timestamp": at(0.2)}, {"user_id": "u1", "timestamp": at(0.2), "item_id": "y"}]
    write(tmp_path, lists, clicks)
    arms = 'arms = [{ name = "a" }, { name = "b" }]'
    head = f'[[experiments]]\nname = "e"\nkind = "{kind}"\nshare = 0.1\nstart = 2026-01-02\ndays = 2\ncontrol = "a"\n'
    (tmp_path / "e.toml").write_text(head + arms)
    words = ["experiment", "report", tmp_path / "e.toml", "--state", tmp_path, "--out", tmp_path / "e.html"]
    code, out, err = run(capsys, *words)
    assert code == 0, err
    assert said in out
    assert "95 % interval" in (tmp_path / "e.html").read_text()
