"""A recommender's answers to a holdout: full ranking over the whole catalogue, no sampled negatives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from redraft.arrays import parquet_columns
from redraft.eval.metrics import KS, check_identity, ranking_metrics, ranks_of
from redraft.files import atomic_file
from redraft.folders import Kind
from redraft.records import BoolArray, Holdout, InputError, IntArray, Recommender

__all__ = ["RANKS", "Evaluation", "evaluate", "save_ranks"]

COLUMNS = ("user", "target", "rank", "history_length")
RANKS = Kind("ranks of users", lambda path: tuple(parquet_columns(path)) == COLUMNS)


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured, with the protocol beside it.

    metrics: {"R@5": ..., "N@5": ..., ...}, means over all users. ranks: int64 [U], from 1; -1 = not in the list.
    filter_seen: whether seen items were left out of the lists.
    n_unreachable: users whose target stands in their own history while seen items are left out; each is a miss.
    """

    metrics: dict[str, float]
    ranks: IntArray
    filter_seen: bool
    n_unreachable: int


def evaluate(
    recommender: Recommender,
    holdout: Holdout,
    *,
    ks: Sequence[int] = KS,
    longest: int | None = None,
    filter_seen: bool,
    batch_users: int = 1024,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Recall and NDCG at every K of `ks` from lists of length max(ks), `batch_users` users at a time.

    longest: the longest list there can be [max(ks)]; in a catalogue of fewer items a K takes the whole list.
    progress: called with the number of users done after each batch.
    Raises InputError if the holdout is empty or if max(ks) exceeds the catalogue, where a Recall would say nothing.
    """
    histories, targets = holdout.histories, holdout.targets
    assert len(targets) == histories.n_users, "one target a history"
    if not len(targets):
        raise InputError("the holdout has no users; import more events or split elsewhere")
    ranks = np.empty(len(targets), dtype=np.int64)
    k = max(ks) if longest is None else min(longest, max(ks))
    for start in range(0, len(targets), batch_users):
        users = slice(start, min(start + batch_users, len(targets)))
        lists = recommender.recommend(histories.take(users), k, filter_seen=filter_seen)
        ranks[users] = ranks_of(lists.items, targets[users])
        if progress is not None:
            progress(users.stop)
    metrics = ranking_metrics(ranks, ks)
    check_identity(metrics)
    return Evaluation(metrics, ranks, filter_seen, int(_target_seen(holdout).sum()) if filter_seen else 0)


def save_ranks(path: Path, holdout: Holdout, ranks: IntArray) -> None:
    """Write one Parquet row per user, whole or not at all, for paired tests and breakdowns later.

    Columns: user (row of the holdout), target (item number), rank (from 1; null if not in the list), history_length.
    """
    columns = {
        "user": np.arange(len(ranks)),
        "target": holdout.targets,
        "rank": ranks,
        "history_length": holdout.histories.lengths,
    }
    frame = pl.DataFrame(columns).with_columns(pl.when(pl.col("rank") > 0).then("rank").alias("rank"))
    with atomic_file(path) as partial:
        frame.write_parquet(partial)


def _target_seen(holdout: Holdout) -> BoolArray:
    """bool [U]: whether the target stands in the user's own history."""
    lengths = holdout.histories.lengths
    users = np.repeat(np.arange(len(lengths)), lengths)
    first, last = holdout.histories.offsets[[0, -1]]
    repeats = users[holdout.histories.items[first:last] == holdout.targets[users]]
    return np.bincount(repeats, minlength=len(lengths)) > 0
