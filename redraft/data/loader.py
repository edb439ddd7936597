"""Training batches: seeded, resumable, and the same whatever the number of processes.

An epoch is a pure function of (seed, epoch): a run that stopped after batch n goes on at batch n + 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from redraft.records import Batch, IntArray, Interactions

__all__ = ["Windows", "batches", "count_batches", "every_prefix", "shared_prefixes"]

LENGTH_POOL = 32


@dataclass(frozen=True)
class Windows:
    """Training rows: the history of each ends right before `target`, an index into the events.

    target, start, n_targets: int64 [rows]; the history is events start to target, n_targets as in records.Batch.
    """

    target: IntArray
    start: IntArray
    n_targets: IntArray

    def __len__(self) -> int:
        return len(self.target)


def every_prefix(train: Interactions, history: int) -> Windows:
    """One row for each event but a user's first, predicted from at most `history` events before it."""
    first = np.repeat(train.offsets[:-1], train.lengths)
    target = np.flatnonzero(np.arange(len(first)) > first)
    start = np.maximum(first[target], target - history)
    return Windows(target, start, np.ones(len(target), dtype=np.int64))


def shared_prefixes(train: Interactions, history: int) -> Windows:
    """Rows that predict many events at once: together each event but a user's first, exactly once.

    A user's first row predicts up to `history` events, each from all before it. Further rows move on by half a
    history, so that those events see between half a history and a whole one.
    """
    step = max(history // 2, 1)
    n_predicted = np.maximum(train.lengths - 1, 0)
    n_rows = np.where(n_predicted > 0, 1 + np.ceil(np.maximum(n_predicted - history, 0) / step).astype(np.int64), 0)
    user = np.repeat(np.arange(train.n_users), n_rows)
    row = np.arange(len(user)) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows)
    last = np.minimum(n_predicted[user], history + row * step)
    n_targets = np.where(row == 0, last, last - (history + (row - 1) * step))
    first = train.offsets[:-1][user]
    return Windows(first + last, first + np.maximum(last - history, 0), n_targets)


def count_batches(windows: Windows, batch_size: int, *, seed: int, epochs: int) -> int:
    """How many batches `batches` gives in the first `epochs` epochs of a run, so that its schedule ends with it.

    Rows of several targets fall into batches by their order, so the orders of all epochs are drawn, and nothing else.
    """
    if (windows.n_targets == 1).all():
        return epochs * -(-len(windows) // batch_size)
    drawn = (_cut_epoch(windows, batch_size, np.random.default_rng([seed, epoch])) for epoch in range(epochs))
    return sum(1 + len(cuts) for _, cuts in drawn)


def batches(
    train: Interactions,
    windows: Windows,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    skip: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """The batches of one epoch from batch `skip` on, this process's share of each.

    Rows are shuffled, then sorted by length within pools of 32 batches, so that little is padding. batch_size counts
    the targets of all `world` processes together, not the rows: otherwise a target in a batch of short histories would
    weigh several times one in a batch of long ones. Process `rank` gets every world-th row; all pad to the same length.
    Where there are fewer rows than processes, those without one get a row that carries no loss (n_targets 0).
    """
    for rows in _epoch_order(windows, batch_size, seed, epoch)[skip:]:
        width = int((windows.target[rows] - windows.start[rows]).max())
        mine = rows[rank::world] if rank < len(rows) else rows[:1]
        n_targets = windows.n_targets[mine] * (rank < len(rows))
        target = windows.target[mine]
        places = target[:, None] + np.arange(-width, 0)
        real = places >= windows.start[mine][:, None]
        history = np.where(real, train.items[np.where(real, places, 0)], -1)
        yield Batch(
            torch.from_numpy(history.astype(np.int64)),
            torch.from_numpy(train.items[target].astype(np.int64)),
            torch.from_numpy(n_targets),
            torch.from_numpy(target),
        )


def _epoch_order(windows: Windows, batch_size: int, seed: int, epoch: int) -> list[IntArray]:
    rng = np.random.default_rng([seed, epoch])
    order, cuts = _cut_epoch(windows, batch_size, rng)
    chunks = np.split(order, cuts)
    return [chunks[i] for i in rng.permutation(len(chunks))]


def _cut_epoch(windows: Windows, batch_size: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """The rows of an epoch, those of like length together, and where each batch but the first begins."""
    order = rng.permutation(len(windows))
    lengths = (windows.target - windows.start)[order]
    pool = _group(windows.n_targets[order], batch_size * LENGTH_POOL)
    order = order[np.lexsort((lengths, pool))]
    batch = _group(windows.n_targets[order], batch_size)
    return order, np.flatnonzero(np.diff(batch)) + 1


def _group(sizes: IntArray, total: int) -> IntArray:
    """The number of the group of each row where groups of rows in order add up to about `total`."""
    return (np.cumsum(sizes) - sizes) // total
