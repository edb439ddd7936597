"""`redraft bench precision`: what products in bfloat16 change in the lists of a trained run, and what they cost."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from redraft.bench.columns import Column
from redraft.bench.results import RESULTS, check_result, seeds_of, write_result
from redraft.checkpoint import check_same_items
from redraft.data.split import sample_users, split_of
from redraft.data.store import load_dataset
from redraft.decode.correction import Correction
from redraft.eval.metrics import ranking_metrics, ranks_of
from redraft.options import check_counts
from redraft.recommender import load
from redraft.records import IntArray
from redraft.train.settings import fitted

__all__ = ["PrecisionConfig", "main", "overlap"]

TOP = 10


@dataclass(frozen=True)
class PrecisionConfig:
    """Make every test user's list in float32 and in bfloat16 and compare."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder."""
    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    beams: int = 200
    """Beam budget."""
    correction: Correction = field(default_factory=Correction)
    """For a run that corrects itself."""
    users: int | None = None
    """Users drawn by seed 0 [all]."""
    device: str = "cpu"
    """Where to compute: cpu, cuda."""
    results: Path = RESULTS
    """The folder for decode_precision.json."""


def main(config: PrecisionConfig) -> None:
    """Compare and write results/decode_precision.json."""
    check_counts(config)
    check_result("decode_precision", config.results)
    dataset = load_dataset(config.data)
    config = fitted(config, dataset.catalogue.n_items, "beams")
    holdout = split_of(dataset).test
    if config.users is not None:
        holdout = sample_users(holdout, config.users, 0)
    rows: list[dict[str, Any]] = []
    lists: list[IntArray] = []
    for half in (False, True):
        model = load(config.run, beams=config.beams, half=half, device=config.device, correction=config.correction)
        check_same_items(config.run, model.catalogue, config.data, dataset.catalogue)
        start = time.perf_counter()
        recommended = model.recommend(holdout.histories, config.beams, filter_seen=False)
        lists.append(recommended.items)
        rows.append(
            {
                "products": "bfloat16" if half else "float32",
                "seconds": time.perf_counter() - start,
                "overlap": overlap(lists[0], recommended.items, TOP),
                **ranking_metrics(ranks_of(recommended.items, holdout.targets), (TOP,)),
            }
        )
    for row in rows:
        row["change"] = 100 * (row[f"R@{TOP}"] / rows[0][f"R@{TOP}"] - 1)
    path = write_result(
        "decode_precision",
        rows,
        columns=[
            Column("products", "products"),
            Column("seconds", "seconds", ",.0f"),
            Column(f"overlap of the top {TOP}", "overlap", ".4f"),
            Column(f"R@{TOP}", f"R@{TOP}", ".4f"),
            Column(f"N@{TOP}", f"N@{TOP}", ".4f"),
            Column(f"R@{TOP}, change (%)", "change", "+.2f"),
        ],
        protocol=f"{dataset.name}, test, {len(holdout.targets):,} users, run {config.run.name}, {config.beams} beams, "
        f"seen items kept, on {config.device} with {torch.get_num_threads()} threads. Overlap is the share of items "
        "that the lists have in common with those in float32, averaged over users. Scores are float32 in both.",
        fingerprints={"data": dataset.fingerprint, "semantic_ids": model.ids.fingerprint},
        seeds=seeds_of([config.run]),
        folder=config.results,
    )
    print(f"wrote {path}")


def overlap(first: IntArray, second: IntArray, k: int) -> float:
    """Mean share of each user's top k items of [U, R] that the other list's top k holds; -1 is no item."""
    common = (first[:, :k, None] == second[:, None, :k]) & (first[:, :k, None] >= 0)
    real = (first[:, :k] >= 0).sum(axis=1)
    return float(np.mean(common.any(axis=2).sum(axis=1) / np.maximum(real, 1)))
