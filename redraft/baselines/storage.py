"""A fitted baseline on disk: a folder with one safetensors file, marked with the kind of baseline it holds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.sparse import csr_array

from redraft.folders import BASELINE, new_folder
from redraft.records import InputError

__all__ = ["load_arrays", "load_settings", "matrix_from_arrays", "matrix_to_arrays", "save_arrays"]

Arrays = Mapping[str, NDArray[Any]]


def save_arrays(path: Path, kind: str, arrays: Arrays, *, settings: str = "", replace: bool = False) -> None:
    """Write a baseline's arrays, and its settings as JSON, as the folder `path`, whole or not at all.

    replace: lose the baseline that is there. Raises InputError as `redraft.folders.check_replace`.
    """
    with new_folder(path, BASELINE, replace=replace) as partial:
        save_file(dict(arrays), partial / "model.safetensors", {"baseline": kind, "settings": settings})


def load_arrays(path: Path, kind: str) -> dict[str, NDArray[Any]]:
    """Read the arrays that `save_arrays` wrote.

    Raises InputError if there are none, or if they belong to another kind of baseline.
    """
    file_path = path / "model.safetensors"
    try:
        with safe_open(file_path, "np") as file:
            found = (file.metadata() or {}).get("baseline")
            if found != kind:
                raise InputError(
                    f"{file_path}: holds {found or 'no baseline'}, not {kind}; give the folder of a {kind}"
                )
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except FileNotFoundError:
        raise InputError(f"{file_path}: no such file; fit the baseline and save it there") from None
    except SafetensorError as error:
        raise InputError(f"{file_path}: not a readable model ({error}); save it again") from None


def load_settings(path: Path) -> dict[str, Any]:
    """The settings that `save_arrays` wrote beside arrays that `load_arrays` can read."""
    with safe_open(path / "model.safetensors", "np") as file:
        found: dict[str, Any] = json.loads(file.metadata()["settings"])
    return found


def matrix_to_arrays(matrix: csr_array) -> dict[str, NDArray[Any]]:
    """A square sparse matrix as the arrays of its compressed rows."""
    return {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}


def matrix_from_arrays(arrays: Arrays) -> csr_array:
    """The inverse of `matrix_to_arrays`."""
    n = len(arrays["indptr"]) - 1
    return csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(n, n))
