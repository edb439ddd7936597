"""The examples run as they stand, and more than once."""

import os
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from contract import checkerboard, make_catalogue

from redraft import cli
from redraft.records import Interactions

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_own_logs_lead_to_the_next_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "own" / "run").mkdir(parents=True)  # of an earlier time
    runpy.run_path(str(EXAMPLES / "own_logs.py"))
    assert "recommended next: ['thing number 14'" in capsys.readouterr().out


def test_a_run_recommends(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(shop / "run", tmp_path / "runs" / "demo" / "tiger")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "recommend.py"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith("after: ") for line in lines] == [n % 6 == 0 for n in range(12)]
    assert all("thing" in line for line in lines)


def test_an_own_method_keeps_the_contract_and_repeats_itself(tmp_path: Path) -> None:
    last_seen = runpy.run_path(str(EXAMPLES / "own_method.py"))["LastSeen"]
    model = last_seen.fit(checkerboard(), make_catalogue())
    model.save(tmp_path / "model")
    for found in (model, last_seen.load(tmp_path / "model")):
        lists = found.recommend(Interactions.from_lists([[3, 1, 7]]), 4, filter_seen=False)
        assert lists.items[0, :3].tolist() == [7, 1, 3]
        assert not set(found.recommend(Interactions.from_lists([[3, 1, 7]]), 4).items[0]) & {1, 3, 7}


def test_nights_of_a_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The first two nights, by the very commands of the script, in a smaller shop and with a smaller model."""
    for program in ("python", "redraft"):
        (tmp_path / program).write_text(f'#!/bin/sh\nprintf "%s " {program} "$@"\necho\n')
        (tmp_path / program).chmod(0o755)
    small = ["--first.epochs", "1", "--warm.epochs", "1", "--first.model.width", "16", "--gate.tolerance", "1"]
    script = [str(EXAMPLES / "nightly" / "nightly.sh"), str(tmp_path / "nightly"), *small]
    path = f"{tmp_path}:{os.environ['PATH']}"
    said = subprocess.run(script, env={"PATH": path}, capture_output=True, text=True, check=True).stdout
    commands = [shlex.split(line) for line in said.splitlines()]
    assert [command[0] for command in commands] == ["python", "redraft"] * 3
    monkeypatch.setenv("SHOP_USERS", "200")
    monkeypatch.setenv("SHOP_ITEMS", "100")
    for program, *words in commands[:4]:
        if program == "redraft":
            assert cli.main(words) == 0
        else:
            monkeypatch.setattr(sys, "argv", words)
            runpy.run_path(words[0], run_name="__main__")
    out = capsys.readouterr().out
    assert "night 2: " in out
    assert "94 items, 2 of them new" in out
    assert (tmp_path / "nightly/nights/runs/current/lists.parquet").exists()
    assert os.readlink(tmp_path / "nightly/nights/runs/current") == "0002"
