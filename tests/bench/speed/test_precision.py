from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny import tiny_catalogue, tiny_interactions, tiny_run

from redraft.bench.speed.precision import PrecisionConfig, main, overlap
from redraft.data.store import make_dataset, save_dataset
from redraft.files import read_json


def test_overlap_by_hand() -> None:
    """User 0 shares 1 of 2; user 1 both, in another order; user 2 has one item, and it is there."""
    first, second = np.array([[1, 2, 9], [3, 4, 9], [5, -1, -1]]), np.array([[2, 7, 1], [4, 3, 1], [6, 5, -1]])
    assert overlap(first, second, 2) == pytest.approx((0.5 + 1 + 1) / 3)


def test_both_precisions_stand_beside_each_other(tmp_path: Path) -> None:
    tiny_run(tmp_path / "run")
    users = pl.Series("user", [f"u{u}" for u in range(40)])
    data = make_dataset("tiny", tiny_interactions(40), tiny_catalogue(30), users)
    save_dataset(data, tmp_path / "data", source="test")
    main(PrecisionConfig(tmp_path / "data", tmp_path / "run", beams=12, users=20, results=tmp_path))
    exact, half = read_json(tmp_path / "decode_precision.json")["metrics"]
    assert (exact["products"], exact["overlap"], exact["change"]) == ("float32", 1.0, 0.0)
    assert half["products"] == "bfloat16"
    assert half["overlap"] > 0.7
