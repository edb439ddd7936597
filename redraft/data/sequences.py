"""Interactions on disk: CSR arrays as .npy files, opened memory-mapped so that a billion events cost no RAM."""

import mmap
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from redraft.arrays import read_array
from redraft.records import InputError, IntArray, Interactions

__all__ = ["in_blocks", "join_interactions", "open_interactions", "save_interactions"]

BLOCK = 1 << 22


def save_interactions(interactions: Interactions, folder: Path) -> None:
    """Write items.npy (int32 [nnz]), offsets.npy (int64 [U + 1]) and, where known, times.npy (int64 [nnz])."""
    np.save(folder / "items.npy", interactions.items.astype(np.int32, copy=False))
    np.save(folder / "offsets.npy", interactions.offsets.astype(np.int64, copy=False))
    if interactions.times is not None:
        np.save(folder / "times.npy", interactions.times.astype(np.int64, copy=False))


def join_interactions(shards: Sequence[Path], folder: Path) -> None:
    """Write the files of `save_interactions` from shards, one after another.

    Each shard is a folder with items.npy, times.npy where they are known, and lengths.npy (int64, events per user).
    """
    for name in ("items.npy", "times.npy"):
        if (shards[0] / name).exists():
            _join([shard / name for shard in shards], folder / name)
    lengths = np.concatenate([read_array(shard / "lengths.npy") for shard in shards])
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def _join(paths: Sequence[Path], out: Path) -> None:
    """One .npy file of the rows of several, copied without being held in memory."""
    arrays = [read_array(path, memory_mapped=True) for path in paths]
    n_bytes = [array.nbytes for array in arrays]
    about = {"descr": arrays[0].dtype.str, "fortran_order": False, "shape": (sum(map(len, arrays)),)}
    del arrays
    with out.open("wb") as whole:
        np.lib.format.write_array_header_1_0(whole, about)
        for path, size in zip(paths, n_bytes):
            with path.open("rb") as file:
                file.seek(-size, os.SEEK_END)
                shutil.copyfileobj(file, whole, BLOCK)


def in_blocks(array: IntArray, rows: int = 1 << 20) -> Iterator[IntArray]:
    """An array [n] bit by bit; of one that is mapped into memory, no more than a block is there at a time."""
    path = array.filename if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) else None
    for start in range(0, len(array), rows):
        if path is None:
            yield array[start : start + rows]
        else:
            n_before, n = array.offset + start * array.itemsize, min(rows, len(array) - start)
            yield np.memmap(str(path), array.dtype, "r", n_before, (n,))


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
