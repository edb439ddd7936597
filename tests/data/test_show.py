from pathlib import Path

import numpy as np
import polars as pl
import pytest

from redraft.data.show import ShowConfig, bars, describe_counts, main
from redraft.data.store import catalogue_from_frame, make_dataset, save_dataset
from redraft.records import Dataset, InputError, Interactions


def tiny() -> Dataset:
    items = pl.DataFrame(
        {
            "id": list("abcd"),
            "title": ["Lamp [red]", "", "", ""],
            "description": [""] * 4,
            "brand": ["[x]", "[x]", "y", None],
        }
    )
    events = Interactions.from_lists([[0, 1, 2], [0, 1, 2, 3]])
    events = Interactions(events.items, events.offsets, np.arange(7, dtype=np.int64) * 86_400)
    return make_dataset("shop", events, catalogue_from_frame(items, ["brand"]), pl.Series("id", ["u", "v"]))


def test_counts():
    said = "\n".join(describe_counts(tiny(), limit=3))
    assert "2 users, 4 items, 7 interactions, density 87.5000%" in said
    assert "cold items (no training event): 2 (50.0%)" in said  # c and d are only ever targets
    assert "users with more than 3 events: 1 (50.0%)" in said
    assert "items without title and description: 3 (75.0%)" in said
    assert "1970-01-01 to 1970-01-07" in said


def test_bars():
    lines = bars(np.array([3, 3, 4, 12, 999]), (3, 4, 10, 20, 50))
    assert [line.split() for line in lines] == [
        ["3", "█" * 40, "2"],
        ["4-9", "█" * 20, "1"],
        ["10-19", "█" * 20, "1"],
        ["20-49", "0"],
        ["50+", "█" * 20, "1"],
    ]
    assert len({line.index("█") for line in lines if "█" in line}) == 1


def test_main(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_dataset(tiny(), tmp_path / "shop", source="table")
    main(ShowConfig(tmp_path / "shop"))
    said = capsys.readouterr().out
    assert "Lamp [red] | [x]" in said
    assert "[x] (66.7%)" in said
    assert "75.0%" in said
    assert f"next: redraft tokenize {tmp_path / 'shop'}" in said


def test_not_a_data_set(tmp_path: Path):
    with pytest.raises(InputError, match="redraft data import"):
        main(ShowConfig(tmp_path))
