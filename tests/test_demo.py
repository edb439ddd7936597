from pathlib import Path

import pytest

from redraft import cli


def test_the_demo_ends_in_a_table_and_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["demo", "--out", str(tmp_path), "--users", "300", "--items", "240", "--epochs", "2"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    for name in ("popularity", "item-kNN", "generator", "oracle", "recommended next"):
        assert name in out
