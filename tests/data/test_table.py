from pathlib import Path

import polars as pl
import pytest
from imports import imported

EVENTS = pl.DataFrame({"who": [7, 7, 7, 11, 11, 11], "what": list("abcbca"), "at": [3, 1, 2, 1, 2, 2], "price": 1.5})
ITEMS = pl.DataFrame(
    {"what": list("abcd"), "title": ["A", None, "C", "D"], "brand": ["x", "", None, "y"], "size": [1, 2, 3, 4]}
)


def write(frame: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv"])
def test_named_columns(tmp_path: Path, suffix: str):
    src, items = write(EVENTS, tmp_path / f"events{suffix}"), write(ITEMS, tmp_path / f"items{suffix}")
    dataset, _ = imported(
        "table", src, tmp_path / "out", items=items, user="who", item="what", time="at", attributes=["brand", "size"]
    )
    catalogue = dataset.catalogue
    assert dataset.user_ids.to_list() == ["7", "11"]
    assert dataset.interactions.items.tolist() == [1, 2, 0, 1, 2, 0]
    assert dataset.interactions.times.tolist() == [1, 2, 3, 1, 2, 2]
    assert catalogue.ids.to_list() == list("abcd")  # d was never bought: a cold item
    assert catalogue.titles.to_list() == ["A", "", "C", "D"]
    assert [catalogue.attribute(n, 0) for n in range(4)] == ["x", None, None, "y"]
    assert [catalogue.attribute(n, 1) for n in range(4)] == ["1", "2", "3", "4"]


def test_without_times_the_order_of_the_file_counts(tmp_path: Path):
    src = write(EVENTS, tmp_path / "events.parquet")
    dataset, _ = imported("table", src, tmp_path / "out", user="who", item="what", time=None)
    assert dataset.interactions.items.tolist() == [0, 1, 2, 1, 2, 0]
    assert dataset.interactions.times is None


def test_folder_of_parquet_files(tmp_path: Path):
    (tmp_path / "parts").mkdir()
    for n, part in enumerate(EVENTS.iter_slices(2)):
        write(part, tmp_path / "parts" / f"{n}.parquet")
    dataset, _ = imported("table", tmp_path / "parts", tmp_path / "out", user="who", item="what", time="at")
    assert dataset.interactions.items.tolist() == [1, 2, 0, 1, 2, 0]


def test_dates(tmp_path: Path):
    dated = EVENTS.with_columns(at=pl.from_epoch("at"))
    src = write(dated, tmp_path / "events.csv")
    dataset, _ = imported("table", src, tmp_path / "out", user="who", item="what", time="at")
    assert dataset.interactions.times.tolist() == [1, 2, 3, 1, 2, 2]
