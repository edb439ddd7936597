from pathlib import Path

import pytest
import torch

from redraft.bench.speed.decode import DecodeConfig, main, world
from redraft.bench.speed.roofline import least_bytes
from redraft.decode.correct import draft
from redraft.files import read_json
from redraft.records import InputError

CPU = torch.device("cpu")


def test_a_bench_measures_every_contender_at_every_size(tmp_path: Path) -> None:
    config = DecodeConfig(
        items=(400,),
        batches=(1, 2),
        beams=(4, 8),
        budgets=(2, 8),
        hypotheses=2,
        rounds=2,
        calls=2,
        codebook_size=20,
        history=3,
        results=tmp_path,
    )
    main(config)
    wide, narrow, roof = (read_json(tmp_path / f"decode{end}.json")["metrics"] for end in ("", "_beams", "_roofline"))
    assert {row["beams"] for row in wide} == {8}
    assert {row["beams"] for row in narrow} == {4}
    assert {(row["items"], row["batch"]) for row in wide} == {(400, 1), (400, 2)}
    for rows, budgets in ((narrow, {2}), (wide, {2, 8})):
        names = {row["name"] for row in rows}
        assert names == {"TIGER", "T5, vectorised mask", "T5, prefix_allowed_tokens_fn"} | {
            f"GRC, budget {budget}" for budget in budgets
        }
    for row in (*wide, *narrow):
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["users_per_second"] == pytest.approx(1e3 * row["batch"] / row["p50_ms"])
        assert ("of_tiger" in row) == row["name"].startswith("GRC")
        for other in ("a", "b"):
            if f"times_{other}" in row:
                assert row[f"times_{other}_min"] <= row[f"times_{other}"] <= row[f"times_{other}_max"]
    for row in roof:
        assert row["measured_ms"] / row["allowed_ms"] == pytest.approx(row["distance"])
        assert sum(row["profile"].values()) == pytest.approx(1)
        assert row["profile"]["matrix products"] > 0


def test_more_beams_than_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="beams = 200 exceeds a catalogue of 100 items"):
        main(DecodeConfig(items=(100,), results=tmp_path))


@torch.no_grad()
def test_a_random_model_doubts_most_of_its_drafts() -> None:
    """Otherwise the bench would time a search that has nothing to do."""
    made = world(400, CPU, codebook_size=20, history=5, seed=0)
    history = torch.arange(20).view(4, 5)
    settled = draft(made.model, made.model.remember(history), made.trie, 4, 20).settled
    assert (settled.float().mean(dim=1) < 0.5).all()


def test_least_bytes_by_hand() -> None:
    """Width 128, 2 blocks, 4 levels of 20 codes, history of 5, 10 beams, 2 users, 2 bytes.

    A position holds 2 * 128 * 2 * 2 = 1,024 bytes. Written: 10 * 3; read: 10 * (1 + 2 + 3); history: 5 * 4.
    Logits: 2 * 10 * 4 * 20 * 4 = 6,400 bytes.
    """
    made = world(400, CPU, codebook_size=20, history=5, seed=0)
    n_weights = sum(weight.numel() for weight in made.model.parameters())
    assert least_bytes(made.model, 10, 2, 2) == n_weights + 1024 * (30 + 60 + 20) + 6400
