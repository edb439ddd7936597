"""The examples run as they stand, and more than once."""

import runpy
import shutil
from pathlib import Path

import pytest
from contract import checkerboard, make_catalogue

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
