from pathlib import Path

import numpy as np
import pytest

from redraft.bench.columns import markdown_table
from redraft.bench.results import result_columns
from redraft.bench.speed.trie import TrieConfig, main, random_codes
from redraft.files import read_json
from redraft.records import InputError, SemanticIds


def test_random_codes_are_distinct_and_repeatable() -> None:
    codes = random_codes(2000, 3, 13, seed=1)
    assert SemanticIds(codes, 13).n_items == 2000
    assert np.array_equal(codes, random_codes(2000, 3, 13, seed=1))
    assert not np.array_equal(codes, random_codes(2000, 3, 13, seed=2))
    assert abs(np.corrcoef(codes[:, 0], np.arange(2000))[0, 1]) < 0.1


def test_all_codes_can_be_asked_for_but_no_more() -> None:
    assert len(np.unique(random_codes(81, 4, 3, seed=0), axis=0)) == 81
    with pytest.raises(InputError, match="4 levels of 3 codes name only 81"):
        random_codes(82, 4, 3, seed=0)


def test_bench_measures_both_catalogues_for_each_codebook(tmp_path: Path) -> None:
    main(TrieConfig(items=2000, small_items=100, codebook_sizes=(8, 32), repeats=3, beams=5, results=tmp_path))
    written = read_json(tmp_path / "trie.json")
    rows = written["metrics"]
    assert [(row["items"], row["codebook_size"]) for row in rows] == [(100, 8), (2000, 8), (100, 32), (2000, 32)]
    for row in rows:
        codes = random_codes(row["items"], 4, row["codebook_size"], seed=0)
        assert row["nodes"] == [len(np.unique(codes[:, : depth + 1], axis=0)) for depth in range(4)]
        assert all(row[f"{kind}_us_{depth}"] > 0 for kind in ("mask", "choices") for depth in range(4))
        assert row["bytes_per_item"] > 10  # an item number each way and its last code
        assert 0 < row["build_seconds"] < 10
        assert 5e7 < row["peak_gigabytes"] * 1e9 < 2e9
    assert [row["mask_ratio"] for row in rows[::2]] == [1, 1]
    assert markdown_table(rows, result_columns(written)).count("\n") == 5
