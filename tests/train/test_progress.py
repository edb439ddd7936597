import re
from pathlib import Path

import pytest

from redraft.train.progress import log_metrics, progress_bar, read_metrics


def test_the_bar_shows_counts_rate_and_how_it_goes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with progress_bar("train", 8, completed=4) as advance:
        for step in range(4):
            advance(f"loss {step}")
    said = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert "train loss 3" in said
    assert "8/8" in said
    assert "/s " in said


def test_a_log_holds_lines_instead_of_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress_bar("train", 8, completed=4) as advance:
        for step in range(4):
            advance(f"loss {step}")
    [line] = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"train loss 3: 8 of 8, 0 s, [\d,.]+/s", line)
    monkeypatch.setattr("redraft.train.progress.SECONDS_BETWEEN_LINES", 0.0)
    with progress_bar("train", 3) as advance:
        for step in range(2):
            advance(f"loss {step}")
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        "train loss 0: 1 of 3",
        "train loss 1: 2 of 3",
    ]


def test_other_processes_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("train", 2, shown=False) as advance:
        advance("", 2)
    assert capsys.readouterr().out == ""


def test_a_log_is_read_without_a_line_that_was_cut_off(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    assert read_metrics(log) == []
    log_metrics(log, {"epoch": 1, "N@10": 0.5})
    with log.open("a") as file:
        file.write('{"epoch": 2, "N@')
    assert read_metrics(log) == [{"epoch": 1, "N@10": 0.5}]
