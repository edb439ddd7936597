"""Events meet their items whatever either file does to the ids, and no order that nobody knows is learnt from."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from imports import imported

from redraft.data.store import load_meta
from redraft.records import InputError

IDS = [3, 5, 8, 13]


def tables(folder: Path, events: pl.Series, items: pl.Series, suffix: str = ".parquet", users: pl.Series | None = None):
    """A user per 4 events; items that are described under the ids `items`."""
    n_users = len(events) // 4
    users = pl.Series(np.repeat(np.arange(n_users), 4)) if users is None else users
    log = pl.DataFrame({"user_id": users, "item_id": events, "timestamp": 1_600_000_000 + np.arange(len(events))})
    described = pl.DataFrame({"item_id": items, "title": [f"thing {n}" for n in range(len(items))]})
    for name, frame in (("events", log), ("items", described)):
        path = folder / f"{name}{suffix}"
        frame.write_parquet(path) if suffix == ".parquet" else frame.write_csv(path)
    return folder / f"events{suffix}", folder / f"items{suffix}"


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize(
    ("events", "items"),
    [
        (pl.Series(IDS, dtype=pl.Float64), pl.Series(IDS)),
        (pl.Series(IDS), pl.Series(IDS, dtype=pl.Float64)),
        (pl.Series([f" {i}" for i in IDS]), pl.Series([f"{i}\u00a0" for i in IDS])),
        (pl.Series(["Cafe\u0301", "b", "c", "d"]), pl.Series(["Café", "b", "c", "d"])),
    ],
    ids=["float events", "float items", "blanks", "accents"],
)
def test_an_event_meets_its_item(tmp_path: Path, suffix: str, events: pl.Series, items: pl.Series):
    src, described = tables(tmp_path, events, items, suffix)
    dataset, account = imported("table", src, tmp_path / "out", items=described)
    assert dataset.catalogue.n_items == 4
    assert sorted(dataset.catalogue.titles) == [f"thing {n}" for n in range(4)]
    assert account.lines() == [
        "4 of 4 events (100.0%) are of a described item; 0 of 4 described items were never bought"
    ]
    assert account.warnings() == []


def test_ids_as_bytes(tmp_path: Path):
    src, described = tables(tmp_path, pl.Series([b"a", b"b", b"c", b"d"]), pl.Series(list("abcd")))
    assert imported("table", src, tmp_path / "out", items=described)[0].catalogue.ids.to_list() == list("abcd")


def test_few_meetings_are_a_warning_that_says_why(tmp_path: Path):
    src, described = tables(tmp_path, pl.Series([f"{i:03}" for i in IDS]), pl.Series([*IDS, 99]))
    dataset, account = imported("table", src, tmp_path / "out", items=described)
    assert dataset.catalogue.n_items == 9  # what ids say is kept: 003 and 3 are two items
    assert "0 of 4 events (0.0%)" in account.lines()[0]
    assert "5 of 5 described items were never bought" in account.lines()[0]
    assert len(account.warnings()) == 1
    assert "most would meet one if leading zeros did not count" in account.warnings()[0]


def test_a_user_that_is_nan_is_missing_and_one_called_nan_is_a_warning(tmp_path: Path):
    users = pl.Series([1.0, 1.0, 1.0, float("nan")])
    src, described = tables(tmp_path, pl.Series(IDS), pl.Series(IDS), users=users)
    with pytest.raises(InputError, match=r"events.parquet, row 4: no user id; fill it"):
        imported("table", src, tmp_path / "out", items=described)
    src, described = tables(tmp_path, pl.Series(IDS), pl.Series(IDS), users=pl.Series(["nan"] * 4))
    _, account = imported("table", src, tmp_path / "out", items=described)
    assert "user id 'nan' looks like a missing value" in account.warnings()[0]


def test_ids_of_another_type_are_refused(tmp_path: Path):
    src, described = tables(tmp_path, pl.Series([[i] for i in IDS]), pl.Series(IDS))
    with pytest.raises(InputError, match=r"events.parquet, row 1: item ids of type List\(Int64\)"):
        imported("table", src, tmp_path / "out", items=described)
    assert not (tmp_path / "out").exists()


def one_day(folder: Path, n_users: int = 1500) -> Path:
    """Each user with 10 random items on one day, in a file sorted by item."""
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.choice(200, 10, replace=False) for _ in range(n_users)])
    log = pl.DataFrame({"user_id": np.repeat(np.arange(n_users), 10), "item_id": items, "timestamp": 1_600_000_000})
    log.sort("item_id").with_row_index("place").write_parquet(folder / "events.parquet")
    return folder / "events.parquet"


def rising(dataset) -> float:
    """How often the next item has a higher number: half of the time by chance."""
    items = dataset.interactions.items.reshape(-1, 10)
    return float((items[:, 1:] > items[:, :-1]).mean())


def test_ties_are_broken_at_random_unless_an_order_is_known(tmp_path: Path):
    src = one_day(tmp_path)
    drawn, account = imported("table", src, tmp_path / "drawn")
    assert account.tied == 15_000
    assert "15,000 events share user and time with another: their order was drawn (--seed 0)" in account.lines()[0]
    assert 0.48 < rising(drawn) < 0.52
    for options in ({"ties": "file"}, {"order": "place"}):
        assert rising(imported("table", src, tmp_path / "known", **options)[0]) == 1.0
    again, other = (imported("table", src, tmp_path / "again", seed=seed)[0] for seed in (0, 1))
    assert again.fingerprint == drawn.fingerprint != other.fingerprint
    assert load_meta(tmp_path / "drawn")["options"]["tied"] == 15_000


def test_an_order_without_times(tmp_path: Path):
    log = pl.DataFrame({"user_id": ["u"] * 4, "item_id": list("dcba"), "place": ["4", "3", "2", "1"]})
    log.write_csv(tmp_path / "events.csv")
    dataset, account = imported("table", tmp_path / "events.csv", tmp_path / "out", time=None, order="place")
    assert dataset.catalogue.ids.gather(dataset.interactions.items).to_list() == list("abcd")
    assert (account.tied, dataset.interactions.times) == (0, None)


def test_early_times_are_a_warning(tmp_path: Path):
    src, _ = tables(tmp_path, pl.Series(IDS), pl.Series(IDS))
    pl.read_parquet(src).with_columns(timestamp=pl.int_range(4)).write_parquet(src)
    assert "4 of 4 events lie before 1980" in imported("table", src, tmp_path / "out")[1].warnings()[0]


def test_spark_folders_and_compressed_text(tmp_path: Path):
    src, _ = tables(tmp_path, pl.Series(IDS), pl.Series(IDS))
    whole = imported("table", src, tmp_path / "whole")[0].fingerprint
    frame = pl.read_parquet(src)
    for suffix in (".parquet", ".csv.gz"):
        folder = tmp_path / f"spark{suffix}"
        folder.mkdir()
        (folder / "_SUCCESS").write_text("")
        (folder / "._SUCCESS.crc").write_bytes(b"crc")
        for n, part in enumerate(frame.iter_slices(3)):
            path = folder / f"part-{n:05}{suffix}"
            part.write_parquet(path) if suffix == ".parquet" else part.write_csv(path, compression="gzip")
        assert imported("table", folder, tmp_path / "out")[0].fingerprint == whole
