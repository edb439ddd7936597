"""Interactions on disk: CSR arrays as .npy files, opened memory-mapped so that a billion events cost no RAM."""

from pathlib import Path

import numpy as np

from redraft.records import Interactions

__all__ = ["open_interactions", "save_interactions"]


def save_interactions(interactions: Interactions, folder: Path) -> None:
    """Write items.npy (int32 [nnz]), offsets.npy (int64 [U + 1]) and, where known, times.npy (int64 [nnz])."""
    np.save(folder / "items.npy", interactions.items.astype(np.int32, copy=False))
    np.save(folder / "offsets.npy", interactions.offsets.astype(np.int64, copy=False))
    if interactions.times is not None:
        np.save(folder / "times.npy", interactions.times.astype(np.int64, copy=False))


def open_interactions(folder: Path) -> Interactions:
    """Open what `save_interactions` wrote; the arrays are read-only and memory-mapped."""
    times = folder / "times.npy"
    return Interactions(
        np.load(folder / "items.npy", mmap_mode="r"),
        np.load(folder / "offsets.npy", mmap_mode="r"),
        np.load(times, mmap_mode="r") if times.exists() else None,
    )
