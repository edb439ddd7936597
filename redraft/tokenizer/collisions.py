"""One code sequence, one item: give every item that shares its codes with another a free sequence of its own."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from redraft.records import FloatArray, InputError, IntArray

__all__ = [
    "Distances",
    "check_room",
    "nearest_free",
    "prefix_keys",
    "residual_distances",
    "resolve_collisions",
    "sharing",
]

Distances = Callable[[int, IntArray], FloatArray]
"""From an item and the codes [l] it has so far: [C], how far each code of the next level lies from what is left."""


def check_room(n_items: int, n_levels: int, codebook_size: int) -> None:
    """Raise InputError if there are more items than code sequences, or more sequences than 63 bits can number."""
    n_sequences = codebook_size ** min(n_levels, 63)  # more levels are too many with any codes
    if n_items > n_sequences:
        raise InputError(
            f"semantic IDs: {n_items} items do not fit {n_levels} levels of {codebook_size} codes "
            f"({n_sequences} sequences); raise levels or codebook_size"
        )
    if n_sequences >= 2**63:
        raise InputError(
            f"semantic IDs: {n_levels} levels of {codebook_size} codes make 2^63 sequences or more; "
            "lower levels or codebook_size"
        )


def prefix_keys(codes: IntArray, codebook_size: int) -> IntArray:
    """int64 [N, L] from codes [N, L]: each prefix read as one number in base C, so equal prefixes have equal keys."""
    assert codebook_size ** codes.shape[1] < 2**63, "a key must fit 63 bits"
    keys = codes.astype(np.int64)
    for before, level in pairwise(range(codes.shape[1])):
        keys[:, level] += keys[:, before] * codebook_size
    return keys


def sharing(codes: IntArray, codebook_size: int) -> IntArray:
    """int64 [L]: how many items share their first 1, 2, ... L codes with another item; the last are the collisions."""
    counts = (np.unique(keys, return_counts=True)[1] for keys in prefix_keys(codes, codebook_size).T)
    return np.array([count[count > 1].sum() for count in counts], dtype=np.int64)


def residual_distances(latents: FloatArray, codebooks: FloatArray) -> Distances:
    """Squared distances between what the chosen codes leave of a vector and the next level's codes.

    latents: [N, D]. codebooks: [L, C, D].
    """

    def distances(item: int, prefix: IntArray) -> FloatArray:
        residual = latents[item] - codebooks[np.arange(len(prefix)), prefix].sum(axis=0)
        squared: FloatArray = np.square(codebooks[len(prefix)] - residual).sum(axis=-1)
        return squared

    return distances


def resolve_collisions(codes: IntArray, codebook_size: int, distances: Distances | None = None) -> IntArray:
    """int32 [N, L] without two equal rows; the same input always gives the same output.

    Of the items that share a code sequence the lowest item number keeps it. Each of the others, in item order, takes
    the nearest last code that is free under its prefix; where that prefix is full, the nearest code with room one
    level up, and so on. Items that share their codes with nobody never change.
    codes: [N, L], each in [0, C). distances: what "nearest" means; without it, the next code in numeric order (cyclic).
    Raises InputError as `check_room`.
    """
    n_items, n_levels = codes.shape
    check_room(n_items, n_levels, codebook_size)
    if distances is None:
        distances = _numeric_order(codes, codebook_size)
    taken, keepers = np.unique(prefix_keys(codes, codebook_size)[:, -1], return_index=True)
    moves = np.ones(n_items, dtype=bool)
    moves[keepers] = False
    resolved = codes.astype(np.int32)
    moved: Counter[tuple[int, int]] = Counter()
    for item in np.flatnonzero(moves):
        resolved[item] = nearest_free(int(item), resolved[item], codebook_size, taken, moved, distances)
        keys = prefix_keys(resolved[item : item + 1], codebook_size)[0]
        moved.update(enumerate(keys.tolist(), start=1))
    return resolved


def _numeric_order(codes: IntArray, codebook_size: int) -> Distances:
    def distances(item: int, prefix: IntArray) -> FloatArray:
        steps: IntArray = (np.arange(codebook_size) - codes[item, len(prefix)]) % codebook_size
        return steps.astype(np.float64)

    return distances


def nearest_free(
    item: int, own: IntArray, codebook_size: int, taken: IntArray, moved: Counter[tuple[int, int]], distances: Distances
) -> IntArray:
    """The free code sequence [L] that keeps most of the item's own prefix, and below it the nearest codes with room.

    taken: int64, sorted keys of the sequences that are kept. moved: items moved so far under each (depth, prefix key).
    """
    n_levels = len(own)

    def children(prefix: IntArray) -> tuple[int, IntArray]:
        """Key of the prefix's first child; [C] items kept below each child."""
        first = sum(int(code) * codebook_size ** (len(prefix) - i) for i, code in enumerate(prefix))
        edges = (first + np.arange(codebook_size + 1, dtype=np.int64)) * codebook_size ** (n_levels - len(prefix) - 1)
        return first, np.diff(np.searchsorted(taken, edges))

    for kept in reversed(range(n_levels)):
        prefix = own[:kept]
        while len(prefix) < n_levels:
            depth = len(prefix) + 1
            capacity = codebook_size ** (n_levels - depth)
            first, kept_below = children(prefix)
            nearest = np.argsort(distances(item, prefix), kind="stable")
            open_codes = (c for c in nearest if kept_below[c] + moved[depth, first + int(c)] < capacity)
            code = next(open_codes, None)
            if code is None:
                break
            prefix = np.append(prefix, code).astype(np.int32)
        else:
            return prefix
    raise AssertionError("N <= C^L leaves a free sequence")
