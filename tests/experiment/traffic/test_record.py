"""An experiment stays what it was when it started."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from experiments import GOOD

from redraft.experiment.traffic.reading import read_design
from redraft.experiment.traffic.record import check_record
from redraft.records import InputError

BEFORE, DURING = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)


def recorded(tmp_path: Path, text: str, now: datetime) -> None:
    (tmp_path / "e.toml").write_text(text)
    check_record(tmp_path / "experiments.json", read_design(tmp_path / "e.toml"), now)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('salt = "model-2026"', 'salt = "model-2027"', "salt was 'model-2026' when it started and is 'model-2027' now"),
        ("share = 0.15\nbeams = 40", "share = 0.15\nfrom = 0.4\nbeams = 40", "arm 'grc' was"),
        ('run = "runs/grc"', 'run = "runs/better"', "arm 'grc' was"),
        ("days = 10", "days = 12", "days was 10"),
        ("start = 2026-01-02", "start = 2026-01-09", "start was '2026-01-02"),
        ("days = 10", 'days = 10\nmetrics = ["ctr"]', "metrics was"),
    ],
)
def test_what_may_not_change_on_the_way(old: str, new: str, said: str, tmp_path: Path) -> None:
    recorded(tmp_path, GOOD, BEFORE)
    recorded(tmp_path, GOOD.replace(old, new), BEFORE)
    recorded(tmp_path, GOOD, DURING)
    with pytest.raises(InputError, match=said):
        recorded(tmp_path, GOOD.replace(old, new), DURING)
    recorded(tmp_path, GOOD, DURING)


def test_shares_and_overrides_may_change(tmp_path: Path) -> None:
    recorded(tmp_path, GOOD, DURING)
    recorded(tmp_path, GOOD.replace("share = 0.15\nbeams", "share = 0.3\nbeams").replace("user-7", "user-8"), DURING)
    recorded(tmp_path, GOOD.replace('"first"', '"another"').replace("model-2026", "s"), DURING)
