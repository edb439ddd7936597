from pathlib import Path

import pytest

from redraft.bench.columns import markdown_table
from redraft.bench.results import result_columns
from redraft.bench.speed.rollout import RolloutBenchConfig, main
from redraft.bench.speed.trie import random_codes
from redraft.data.shop import generate_shop
from redraft.data.store import save_dataset
from redraft.files import read_json
from redraft.records import SemanticIds
from redraft.tokenizer.semantic_ids import save_semantic_ids


def test_every_way_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_dataset(generate_shop(60, 60, seed=0).dataset, tmp_path / "shop", source="shop")
    ids = SemanticIds(random_codes(60, 3, 8, seed=1), 8)
    save_semantic_ids(ids, tmp_path / "shop" / "semantic_ids.safetensors", source={})
    main(RolloutBenchConfig(tmp_path / "shop", users=4, group=3, rounds=2, results=tmp_path))
    assert "rollout_speed.json" in capsys.readouterr().out
    written = read_json(tmp_path / "rollout_speed.json")
    assert [row["name"] for row in written["metrics"]] == [
        "one trajectory at a time",
        "one user at a time",
        "all users at once",
    ]
    assert all(row["per_second_min"] <= row["per_second"] <= row["per_second_max"] for row in written["metrics"])
    assert written["metrics"][1]["ratio"] == 1.0
    assert "one user at a time" in markdown_table(written["metrics"], result_columns(written))
