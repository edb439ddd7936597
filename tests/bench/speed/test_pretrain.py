import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from redraft.bench.speed.pretrain import PretrainBenchConfig, main, t5_inputs
from redraft.bench.speed.trie import random_codes
from redraft.data.shop import generate_shop
from redraft.data.store import load_dataset, save_dataset
from redraft.files import read_json, write_json
from redraft.records import Batch, InputError, SemanticIds
from redraft.tokenizer.semantic_ids import save_semantic_ids


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    save_dataset(generate_shop(60, 60, seed=0).dataset, tmp_path / "shop", source="shop")
    return tmp_path / "shop"


@pytest.fixture
def ids(tmp_path: Path) -> tuple[Path, SemanticIds]:
    ids = SemanticIds(random_codes(60, 3, 8, seed=1), 8)
    save_semantic_ids(ids, tmp_path / "semantic_ids.safetensors", source={})
    return tmp_path / "semantic_ids.safetensors", ids


def test_t5_reads_the_codes_of_each_history_in_order() -> None:
    codes = torch.tensor([[0, 1], [2, 0], [1, 2]])
    ones = torch.ones(2, dtype=torch.int64)
    batch = Batch(torch.tensor([[-1, 2], [0, 1]]), torch.tensor([1, 2]), ones, ones)
    inputs = t5_inputs(batch, codes, codebook_size=3)
    assert inputs["input_ids"].tolist() == [[3, 7, 0, 0], [2, 6, 4, 5]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert inputs["labels"].tolist() == [[4, 5], [3, 7]]


def test_bench_compares_all_forms_with_t5(
    tmp_path: Path, shop: Path, ids: tuple[Path, SemanticIds], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers", reason="the comparison needs transformers")
    config = PretrainBenchConfig(shop, ids[0], users=10, batch_size=32, history=6, rounds=2, results=tmp_path)
    main(replace(config, compile=True, compile_minutes=0.0))
    written = read_json(tmp_path / "pretrain_speed.json")
    assert [row["name"] for row in written["metrics"]] == [
        "T5 (transformers), one row per prefix",
        "one row per prefix, one position per code",
        "one row per prefix, one position per item",
        "shared prefixes",
        "shared prefixes, bfloat16",
    ]
    assert written["metrics"][0]["ratio_min"] == written["metrics"][0]["ratio_max"] == 1
    for row in written["metrics"]:
        assert 0 < row["targets_per_second_min"] <= row["targets_per_second"] <= row["targets_per_second_max"]
        assert 0 < row["ratio_min"] <= row["ratio"] <= row["ratio_max"]
    assert capsys.readouterr().out.count("left out, still compiling") == 2
    assert written["fingerprints"] == {
        "data": load_dataset(shop).fingerprint,
        "semantic_ids": ids[1].fingerprint,
    }


def test_a_missing_transformers_is_said_in_one_line(
    tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = {str(item): [f"<a_{item % 8}>", f"<b_{item // 8}>"] for item in range(60)}
    write_json(tmp_path / "shop.index.json", published)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match="pip install transformers"):
        main(PretrainBenchConfig(shop, tmp_path / "shop.index.json", users=4, results=tmp_path))
    assert not (tmp_path / "pretrain_speed.json").exists()
