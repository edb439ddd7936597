"""Raw logs, damaged in every way."""

from pathlib import Path

import pytest

from redraft.faults.logs import READERS, try_logs


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_log_is_named_or_read_whole(reader: str, tmp_path: Path) -> None:
    before = Path.cwd()
    found = try_logs(tmp_path, [reader])
    assert Path.cwd() == before
    assert [each for each in found if each.fault] == []
    assert len(found) > 40
