from pathlib import Path

import polars as pl
import pytest
from tiny import tiny_catalogue, tiny_generator_config, tiny_ids, tiny_interactions, tiny_run

from redraft.bench.speed.shortlist import ShortlistConfig, main
from redraft.data.store import make_dataset, save_dataset
from redraft.files import read_json
from redraft.records import InputError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    users = pl.Series("user", [f"u{u}" for u in range(40)])
    dataset = make_dataset("tiny", tiny_interactions(40), tiny_catalogue(30), users)
    save_dataset(dataset, tmp_path / "data", source="test")
    return tmp_path / "data"


def test_lists_and_times_stand_beside_one_another(tmp_path: Path, data: Path) -> None:
    tiny_run(tmp_path / "run", model=tiny_generator_config(pooling="mean"), ids=tiny_ids(30, 2, 9), epochs=1)
    main(ShortlistConfig(data, tmp_path / "run", lengths=(1, 2), beams=12, users=9, rounds=2, results=tmp_path))
    rows = read_json(tmp_path / "shortlist.json")["metrics"]
    assert [row["search"] for row in rows] == ["TIGER", "generator", "generator", "generator, exact"]
    assert rows[0]["ratio_1"] == rows[0]["ratio_8"] == 1.0
    assert rows[-1]["overlap_10"] == rows[-1]["overlap_all"] == 1.0
    assert rows[1]["overlap_all"] <= rows[2]["overlap_all"] + 0.1


def test_sums_over_all_items_need_no_short_list(tmp_path: Path, data: Path) -> None:
    tiny_run(tmp_path / "run", model=tiny_generator_config(), ids=tiny_ids(30, 2, 9), epochs=1)
    main(ShortlistConfig(data, tmp_path / "run", beams=12, users=9, rounds=1, results=tmp_path))
    rows = read_json(tmp_path / "shortlist.json")["metrics"]
    assert [(row["search"], "vectors" in row) for row in rows] == [
        ("TIGER", False),
        ("generator, by the item head's sums", False),
    ]


def test_a_plain_run_has_no_vectors(tmp_path: Path, data: Path) -> None:
    tiny_run(tmp_path / "run", epochs=1)
    with pytest.raises(InputError, match="recipe small"):
        main(ShortlistConfig(data, tmp_path / "run", beams=12, results=tmp_path))
