from pathlib import Path

import pytest

from redraft.train.progress import log_metrics, progress_bar, read_metrics


def test_the_bar_shows_counts_rate_and_how_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("train", 8, completed=4) as advance:
        for step in range(4):
            advance(f"loss {step}")
    said = capsys.readouterr().out
    assert "train loss 3" in said
    assert "8/8" in said
    assert "/s " in said


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
