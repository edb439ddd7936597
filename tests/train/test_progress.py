import pytest

from redraft.train.progress import progress_bar


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
