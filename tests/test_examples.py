"""The examples run as they stand, and more than once."""

import runpy
import shutil
from pathlib import Path

import pytest

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
