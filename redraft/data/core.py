"""The k-core of the events: what is left when rare users and rare items are taken out until nothing changes."""

import numpy as np

from redraft.records import BoolArray, IntArray

__all__ = ["k_core"]


def k_core(users: IntArray, items: IntArray, k: int) -> BoolArray:
    """bool [nnz], the events of the largest set in which every user and every item has at least k events.

    users, items: int [nnz], the numbers of each event's user and item, counting from 0.
    """
    rows = np.arange(len(users))
    while len(rows):
        enough = (np.bincount(users[rows])[users[rows]] >= k) & (np.bincount(items[rows])[items[rows]] >= k)
        if enough.all():
            break
        rows = rows[enough]
    kept = np.zeros(len(users), dtype=np.bool_)
    kept[rows] = True
    return kept
