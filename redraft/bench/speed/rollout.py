"""`redraft bench rollout`: sampled trajectories per second, all users at once beside loops over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from redraft.bench.columns import Column
from redraft.bench.measure import seconds
from redraft.bench.results import RESULTS, check_result, write_result
from redraft.checkpoint import build_grc
from redraft.data.split import sample_users, split_of
from redraft.data.store import load_dataset
from redraft.decode.sample import sample_trajectories
from redraft.device import Precision, configure_attention, find_device, use_half
from redraft.model.backbone import ModelConfig
from redraft.model.template import GRC
from redraft.options import check_counts
from redraft.records import FloatArray
from redraft.tokenizer.semantic_ids import load_semantic_ids
from redraft.tokenizer.trie import Trie

__all__ = ["RolloutBenchConfig", "main"]


@dataclass(frozen=True)
class RolloutBenchConfig:
    """Sample the same number of trajectories for the same histories in each way in turn; fresh weights."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder with its semantic_ids.safetensors."""
    users: int = 64
    """Users, drawn by seed."""
    group: int = 16
    """Trajectories per user."""
    rounds: int = 5
    """Rounds over all ways that count, after one that does not."""
    precision: Precision = "float32"
    """Of the matrix products."""
    device: str = "cpu"
    """Where to compute: cpu, cuda."""
    seed: int = 0
    """Seed of users, weights and samples."""
    results: Path = RESULTS
    """The folder for rollout_speed.json."""


def main(config: RolloutBenchConfig) -> None:
    """Time the rounds and write results/rollout_speed.json."""
    check_counts(config)
    check_result("rollout_speed", config.results)
    dataset = load_dataset(config.data)
    ids = load_semantic_ids(config.data / "semantic_ids.safetensors")
    device = configure_attention(find_device(config.device))
    half = use_half(config.precision, device)
    torch.manual_seed(config.seed)
    shape = ModelConfig()
    model = build_grc(shape, ids, dataset.catalogue, reflection=True).to(device).eval()
    trie = Trie.build(ids).to(device)
    holdout = sample_users(split_of(dataset).validation, config.users, config.seed)
    histories = torch.from_numpy(holdout.histories.padded(shape.history)).to(device)
    ways: list[tuple[str, Callable[[], None]]] = [
        ("one trajectory at a time", lambda: _sample(model, trie, histories, config.group, each=1, half=half)),
        ("one user at a time", lambda: _sample(model, trie, histories, 1, each=config.group, half=half)),
        ("all users at once", lambda: _sample(model, trie, histories, 1, each=config.group, half=half, together=True)),
    ]
    n_rollouts = len(histories) * config.group
    path = write_result(
        "rollout_speed",
        _rows([name for name, _ in ways], _time(ways, config.rounds, n_rollouts)),
        columns=[
            Column("sampling", "name"),
            Column("trajectories per second", "per_second", ",.0f"),
            Column("times one user at a time", "ratio", "{ratio:.1f} ({ratio_min:.1f} to {ratio_max:.1f})"),
        ],
        protocol=f"{dataset.name}, {config.group} trajectories (draft, reflection, correction) for each of "
        f"{len(histories)} validation histories, the same in each way, in turn for {config.rounds} rounds after one "
        f"that does not count, on {config.device} with {torch.get_num_threads()} threads, "
        f"{'bfloat16' if half else 'float32'} products, fresh weights; the encoder's pass included. Speed is the "
        "median over rounds; the ratio is taken within each round: median (least to most).",
        fingerprints={"data": dataset.fingerprint, "semantic_ids": ids.fingerprint},
        seeds=[config.seed],
        folder=config.results,
    )
    print(f"wrote {path}")


@torch.inference_mode()
def _sample(
    model: GRC, trie: Trie, histories: torch.Tensor, times: int, *, each: int, half: bool, together: bool = False
) -> None:
    """Sample groups of `each` trajectories so many times for every history, which share one batch or stand alone."""
    for history in [histories] if together else histories[:, None]:
        for _ in range(times):
            with torch.autocast(history.device.type, torch.bfloat16, enabled=half):
                drawn = sample_trajectories(model, model.remember(history), trie, len(history), each)
    drawn.corrections.cpu()


def _time(ways: Sequence[tuple[str, Callable[[], None]]], n_rounds: int, n_rollouts: int) -> FloatArray:
    """float64 [rounds, ways], trajectories per second; the ways take turns."""
    return n_rollouts / np.array([[seconds(run) for _, run in ways] for _ in range(n_rounds + 1)])[1:]


def _rows(names: Sequence[str], speed: FloatArray) -> list[dict[str, Any]]:
    ratios = speed / speed[:, [names.index("one user at a time")]]
    return [
        {
            "name": name,
            "per_second": float(np.median(own)),
            "per_second_min": float(own.min()),
            "per_second_max": float(own.max()),
            "ratio": float(np.median(ratio)),
            "ratio_min": float(ratio.min()),
            "ratio_max": float(ratio.max()),
        }
        for name, own, ratio in zip(names, speed.T, ratios.T)
    ]
