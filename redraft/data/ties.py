"""Events that share their moment: which came first is not known, and the order of a file may tell what comes next."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redraft.records import BoolArray, IntArray, Interactions

__all__ = ["count_ties", "in_tie", "random_order", "with_previous"]


def with_previous(users: IntArray, moments: Sequence[NDArray[Any]]) -> BoolArray:
    """bool [nnz], whether each event is at the moment of the event before it and of the same user.

    users: [nnz]. moments: arrays [nnz] that together say when; all sorted by user and moments.
    """
    same = np.zeros(len(users), dtype=np.bool_)
    same[1:] = users[1:] == users[:-1]
    for moment in moments:
        same[1:] &= moment[1:] == moment[:-1]
    return same


def in_tie(same: BoolArray) -> BoolArray:
    """bool [nnz], whether each event shares its moment with another; same: see `with_previous`."""
    tied = same.copy()
    tied[:-1] |= same[1:]
    return tied


def random_order(same: BoolArray, users: IntArray, items: IntArray, *, seed: int, first_tie: int = 0) -> IntArray:
    """int64 [nnz], an order of the events in which those that share their moment stand at random, the others stay.

    same: see `with_previous`. users, items: [nnz]. Every order of a tie is as likely as any other; it follows from the
    seed and the events alone, not from the order in which they are given. first_tie: how many moments of users come
    before these events, where they are a part of more.
    """
    rows = np.flatnonzero(in_tie(same))
    tie = first_tie + np.cumsum(~same, dtype=np.int64)[rows]
    keys = _random_keys(seed, users[rows], tie, items[rows])
    order = np.arange(len(same))
    order[rows] = rows[np.lexsort((items[rows], keys, tie))]
    return order


def count_ties(interactions: Interactions) -> tuple[int, int]:
    """How many events share their second with another of the user, and for how many users the last event does."""
    if interactions.times is None:
        return 0, 0
    lengths = interactions.lengths
    users = np.repeat(np.arange(interactions.n_users), lengths)
    same = with_previous(users, [interactions.times])
    return int(in_tie(same).sum()), int(same[interactions.offsets[1:][lengths > 0] - 1].sum())


def _random_keys(seed: int, *columns: IntArray) -> IntArray:
    """uint64 [n]: a random number for each row, the same for the same values (SplitMix64, Steele et al. 2014)."""
    key = np.full(len(columns[0]), seed, dtype=np.uint64)
    for column in columns:
        key = (key ^ column.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key ^= key >> np.uint64(31)
    return key
