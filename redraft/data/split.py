"""What is for training and what is to be predicted: leave-one-out or a split in time. Pure functions of events."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redraft.data.sequences import in_blocks
from redraft.records import Dataset, Holdout, InputError, IntArray, Interactions

__all__ = [
    "Split",
    "check_temporal",
    "later_share",
    "leave_one_out",
    "sample_users",
    "split_of",
    "temporal",
    "time_quantiles",
]

USERS = 1 << 16
BITS = 16
"""Of a time, those that are left out where times are first counted."""


@dataclass(frozen=True)
class Split:
    """Events to learn from and the questions to ask.

    train: Interactions of all U users. validation, test: Holdouts, each with its own rows.
    """

    train: Interactions
    validation: Holdout
    test: Holdout


def split_of(dataset: Dataset) -> Split:
    """The split that a data set was imported with."""
    if dataset.split is None:
        return leave_one_out(dataset.interactions)
    return temporal(dataset.interactions, *dataset.split)


def leave_one_out(interactions: Interactions) -> Split:
    """Each user's last item is the test target, the second-last the validation target, the rest is for training.

    All events of users with fewer than 3 are for training; they have no row in the holdouts, which are those of the
    other users in their order. The test history holds all but the last item, the validation history all but the last
    two: what is for training.
    Raises InputError if no user has 3 events.
    """
    enough = interactions.lengths >= 3
    if not enough.any():
        raise InputError("no user has the 3 events that leave-one-out needs; import more events, or `--split time`")
    train = _first(interactions, interactions.lengths - 2 * enough)
    enough_events, histories = interactions, train
    if not enough.all():
        enough_events, histories = (events.take(np.flatnonzero(enough)) for events in (interactions, train))
    last = enough_events.offsets[1:] - 1
    return Split(
        train,
        Holdout(histories, enough_events.items[last - 1].astype(np.int64)),
        Holdout(_first(enough_events, enough_events.lengths - 1), enough_events.items[last].astype(np.int64)),
    )


def later_share(interactions: Interactions) -> float:
    """How much leave-one-out leaks across users: the mean share of the training events that came after a test target.

    A split in time has none. 0 where the times are not known.
    """
    if interactions.times is None:
        return 0.0
    times = leave_one_out(interactions).train.times
    assert times is not None
    learnt = np.sort(times)
    moments = interactions.times[interactions.offsets[1:][interactions.lengths >= 3] - 1]
    return float(1 - np.searchsorted(learnt, moments, side="right").mean() / len(learnt))


def sample_users(holdout: Holdout, n_users: int, seed: int) -> Holdout:
    """The questions of at most n_users users drawn by seed, in their order."""
    users = np.sort(np.random.default_rng(seed).permutation(holdout.histories.n_users)[:n_users])
    return Holdout(holdout.histories.take(users), holdout.targets[users])


def temporal(interactions: Interactions, validation_from: int, test_from: int) -> Split:
    """Learn from the events before one moment, ask about the time after it.

    validation_from, test_from: seconds since 1970, the first second of each window. Train keeps a row for every user,
    empty for those who came later. A user's first event in a window is the question and all their events before it
    the history; users without a history or without an event in the window are not asked.
    Raises InputError if the events have no times, if the windows are out of order, or if one of them asks nobody.
    """
    _check_moments(interactions, validation_from, test_from)
    to_validation = _count_before(interactions, validation_from)
    to_test = _count_before(interactions, test_from)
    validation, test = _windows(validation_from, test_from)
    return Split(
        _first(interactions, to_validation),
        _questions(interactions, to_validation, to_test, validation),
        _questions(interactions, to_test, interactions.lengths, test),
    )


def check_temporal(interactions: Interactions, validation_from: int, test_from: int) -> None:
    """Raise InputError as `temporal`, without holding more than the events of some users."""
    _check_moments(interactions, validation_from, test_from)
    has_targets = np.zeros(2, dtype=np.bool_)
    for first in range(0, interactions.n_users, USERS):
        some = interactions.take(slice(first, first + USERS))
        to_validation, to_test = _count_before(some, validation_from), _count_before(some, test_from)
        has_targets |= [
            ((to_validation > 0) & (to_validation < to_test)).any(),
            ((to_test > 0) & (to_test < some.lengths)).any(),
        ]
    for any_target, window in zip(has_targets, _windows(validation_from, test_from)):
        if not any_target:
            raise _nobody(window)


def time_quantiles(interactions: Interactions, shares: Sequence[float]) -> list[int]:
    """The whole seconds of `numpy.quantile` over the times, without holding them: counted twice, in blocks.

    Raises InputError without times.
    """
    if interactions.times is None:
        raise InputError("a split in time needs timestamps and this data set has none; use leave-one-out")
    times, quantiles = interactions.times, []
    coarse = np.zeros(0, dtype=np.int64)
    for block in in_blocks(times):
        counts = np.bincount(block >> BITS, minlength=len(coarse))
        counts[: len(coarse)] += coarse
        coarse = counts
    for share in shares:
        position = (len(times) - 1) * share
        low = int(position)
        pair = [_order_statistic(times, coarse, rank) for rank in (low, min(low + 1, len(times) - 1))]
        quantiles.append(int(np.quantile(pair, position - low)))
    return quantiles


def _order_statistic(times: IntArray, coarse: IntArray, rank: int) -> int:
    """The time of a rank from 0. coarse: how many times there are of each value without its last bits."""
    passed = np.cumsum(coarse)
    high = int(np.searchsorted(passed, rank, side="right"))
    fine = np.zeros(1 << BITS, dtype=np.int64)
    for block in in_blocks(times):
        fine += np.bincount(block[block >> BITS == high] & ((1 << BITS) - 1), minlength=1 << BITS)
    before = int(passed[high] - coarse[high])
    return (high << BITS) + int(np.searchsorted(np.cumsum(fine), rank - before, side="right"))


def _check_moments(interactions: Interactions, validation_from: int, test_from: int) -> None:
    if interactions.times is None:
        raise InputError("a split in time needs timestamps and this data set has none; use leave-one-out")
    if validation_from >= test_from:
        raise InputError(f"validation starts at {validation_from}, not before test at {test_from}; swap the two")


def _windows(validation_from: int, test_from: int) -> tuple[str, str]:
    return f"validation window from {validation_from} to {test_from}", f"test window from {test_from}"


def _nobody(window: str) -> InputError:
    return InputError(f"no user with a history has an event in the {window}; move its start")


def _first(interactions: Interactions, lengths: IntArray) -> Interactions:
    """The first lengths[u] events of each user."""
    kept = np.arange(len(interactions.items)) < np.repeat(interactions.offsets[:-1] + lengths, interactions.lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = None if interactions.times is None else interactions.times[kept]
    return Interactions(interactions.items[kept], offsets, times)


def _count_before(interactions: Interactions, moment: int) -> IntArray:
    """int64 [U], each user's number of events before a moment."""
    assert interactions.times is not None
    before = np.concatenate([[0], np.cumsum(interactions.times < moment)])
    return np.diff(before[interactions.offsets])


def _questions(interactions: Interactions, start: IntArray, stop: IntArray, window: str) -> Holdout:
    """One row for each user with events on both sides of `start`, the first of them before `stop` the target."""
    users = np.flatnonzero((start > 0) & (start < stop))
    if not len(users):
        raise _nobody(window)
    targets = interactions.items[interactions.offsets[users] + start[users]].astype(np.int64)
    return Holdout(_first(interactions.take(users), start[users]), targets)
