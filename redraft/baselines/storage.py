"""A fitted baseline on disk: a folder with one safetensors file, marked with the kind of baseline it holds."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.sparse import csr_array

from redraft.folders import BASELINE, new_folder
from redraft.records import InputError, IntArray
from redraft.stored import check_finite, parsed, read_tensors

__all__ = [
    "FIX",
    "MATRIX",
    "counts_from_arrays",
    "kind_of",
    "load_arrays",
    "load_settings",
    "matrix_from_arrays",
    "matrix_to_arrays",
    "save_arrays",
]

FIX = "fit it and save it again"
MATRIX = ("data", "indices", "indptr")
Arrays = Mapping[str, NDArray[Any]]


def save_arrays(path: Path | str, kind: str, arrays: Arrays, *, settings: str = "", replace: bool = False) -> None:
    """Write a baseline's arrays, and its settings as JSON, as the folder `path`, whole or not at all.

    replace: lose the baseline that is there. Raises InputError as `redraft.folders.check_replace`.
    """
    with new_folder(Path(path), BASELINE, replace=replace) as partial:
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        about = {"baseline": kind, "settings": settings, "content": _content(tensors)}
        save_file(tensors, partial / "model.safetensors", about)


def load_arrays(path: Path | str, kind: str, names: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Read the arrays that `save_arrays` wrote.

    names: which there must be; any if none is named.
    Raises InputError if there are none, if they belong to another kind of baseline, or if they are damaged.
    """
    file = Path(path) / "model.safetensors"
    if not file.is_file():
        raise InputError(f"{file}: no such file; fit the baseline and save it there")
    metadata, tensors = read_tensors(file, "model", FIX)
    held = metadata.get("baseline")
    if held != kind:
        raise InputError(f"{file}: holds {held or 'no baseline'}, not {kind}; give the folder of a {kind}")
    if "content" in metadata and metadata["content"] != _content(tensors):
        raise InputError(f"{file}: was changed after it was written; {FIX}")
    check_finite(file, tensors, FIX)
    if names and tensors.keys() != set(names):
        raise InputError(f"{file}: holds {', '.join(sorted(tensors))}, not {', '.join(sorted(names))}; {FIX}")
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def kind_of(path: Path) -> str:
    """The kind of baseline that `save_arrays` wrote. Raises InputError if there is none."""
    metadata, _ = read_tensors(path / "model.safetensors", "model", FIX)
    return str(metadata.get("baseline"))


def load_settings(path: Path | str) -> Any:
    """The settings that `save_arrays` wrote beside arrays that `load_arrays` can read."""
    file = Path(path) / "model.safetensors"
    return parsed(file, read_tensors(file, "model", FIX)[0], "settings", FIX)


def counts_from_arrays(path: Path | str, arrays: Arrays) -> IntArray:
    """The counts int64 [N] among the arrays of a baseline; raises InputError for anything else of that name."""
    counts = arrays["counts"]
    if counts.ndim != 1 or counts.dtype != np.int64 or not len(counts) or counts.min() < 0:
        raise InputError(f"{path}: its counts are no numbers of events of items; {FIX}")
    return counts


def matrix_to_arrays(matrix: csr_array) -> dict[str, NDArray[Any]]:
    """A square sparse matrix as the arrays of its compressed rows."""
    return {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}


def matrix_from_arrays(path: Path | str, arrays: Arrays, n: int) -> csr_array:
    """The inverse of `matrix_to_arrays`, for a matrix [n, n]; raises InputError if it is none."""
    data, columns, starts = (arrays[name] for name in MATRIX)
    whole = all(array.ndim == 1 and array.dtype.kind == "i" for array in (columns, starts)) and data.dtype.kind == "f"
    if (
        not (whole and data.shape == columns.shape and len(starts) == n + 1)
        or not (starts[0] == 0 and starts[-1] == len(data) and (np.diff(starts) >= 0).all())
        or not (columns.min(initial=0) >= 0 and columns.max(initial=0) < n)
    ):
        raise InputError(f"{path}: its matrix is not one of {n} by {n} items; {FIX}")
    return csr_array((data, columns, starts), shape=(n, n))


def _content(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
