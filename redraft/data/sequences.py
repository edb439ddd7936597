"""Interactions on disk: CSR arrays as .npy files, opened memory-mapped so that a billion events cost no RAM."""

from pathlib import Path
from typing import Any

import numpy as np

from redraft.arrays import read_array
from redraft.records import InputError, IntArray, Interactions

__all__ = ["open_interactions", "save_interactions"]


def save_interactions(interactions: Interactions, folder: Path) -> None:
    """Write items.npy (int32 [nnz]), offsets.npy (int64 [U + 1]) and, where known, times.npy (int64 [nnz])."""
    np.save(folder / "items.npy", interactions.items.astype(np.int32, copy=False))
    np.save(folder / "offsets.npy", interactions.offsets.astype(np.int64, copy=False))
    if interactions.times is not None:
        np.save(folder / "times.npy", interactions.times.astype(np.int64, copy=False))


def open_interactions(folder: Path) -> Interactions:
    """Open what `save_interactions` wrote; the arrays are read-only and memory-mapped.

    Raises InputError for a file that is missing, damaged or of another type, and for arrays that do not go together.
    """
    items = _open_array(folder / "items.npy", np.int32)
    offsets = _open_array(folder / "offsets.npy", np.int64)
    times_path = folder / "times.npy"
    times = _open_array(times_path, np.int64) if times_path.exists() else None
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(items) or (np.diff(offsets) < 0).any():
        raise InputError(f"{folder / 'offsets.npy'}: not the offsets of {len(items)} events; import them again")
    if times is not None and len(times) != len(items):
        raise InputError(f"{times_path}: {len(times)} times for {len(items)} events; import them again")
    return Interactions(items, offsets, times)


def _open_array(path: Path, kind: type[np.integer[Any]]) -> IntArray:
    array = read_array(path, memory_mapped=True)
    if array.ndim != 1 or array.dtype != kind:
        raise InputError(
            f"{path}: {array.dtype} {list(array.shape)}, not one row of {np.dtype(kind)}; import the events again"
        )
    return array
