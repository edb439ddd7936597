import io
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from redraft.data.show import ShowConfig, bars, describe_counts, describe_ties, main
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


def tied(settled: dict[str, object]) -> str:
    """What is said of two users, of whom one has its last two events in one second."""
    dataset = tiny()
    times = np.array([0, 1, 2, 0, 1, 5, 5], dtype=np.int64)
    events = Interactions(dataset.interactions.items, dataset.interactions.offsets, times)
    found = make_dataset("shop", events, dataset.catalogue, dataset.user_ids)
    return "\n".join(describe_ties(found, settled))


def test_ties_are_counted_and_targets_among_them_are_a_warning():
    assert describe_ties(tiny(), {}) == []
    said = tied({"ties": "random", "seed": 3, "tied": 2})
    assert "share their second with another of the user: 2 (28.6%), at random (seed 3)" in said
    assert "warning: for 1 users (50.0%) the test target shares its second with the event before it" in said
    assert "as in the file" in tied({})  # an older import
    assert "warning" not in tied({"ties": "random", "seed": 0, "tied": 0})  # milliseconds or a column told them apart


@pytest.mark.parametrize(("limit", "rows"), [(0, 3), (-1, 3), (20, -1)])
def test_negative_numbers(tmp_path: Path, limit: int, rows: int):
    with pytest.raises(InputError, match="it must be >= "):
        main(ShowConfig(tmp_path, limit=limit, rows=rows))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "gbk"])
def test_a_console_of_another_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str):
    dataset = tiny()
    items = pl.DataFrame({"id": list("abcd"), "title": ["Лампа ▲"] * 4, "description": [""] * 4})
    named = make_dataset("shop", dataset.interactions, catalogue_from_frame(items, []), dataset.user_ids)
    save_dataset(named, tmp_path / "shop", source="table")
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding=encoding))
    main(ShowConfig(tmp_path / "shop"))
    sys.stdout.flush()
    said = written.getvalue().decode(encoding)
    assert "user u, 3 events" in said
    assert ("#" * 40) in said or "█" * 40 in said
