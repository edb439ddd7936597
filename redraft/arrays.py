"""Arrays on disk, checked where they are opened."""

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redraft.records import InputError

__all__ = ["read_array"]


def read_array(path: Path, *, memory_mapped: bool = False) -> NDArray[Any]:
    """The array of a .npy file; memory-mapped, it stays on disk and is read-only.

    Raises InputError, naming the file, if it is missing, cut off or anything but one array of plain values.
    """
    try:
        array = np.load(path, mmap_mode="r" if memory_mapped else None, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (ValueError, EOFError, OverflowError, MemoryError, SyntaxError, TokenError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: not a readable .npy array ({reason}); write it again with numpy.save") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: not one array; write it again with numpy.save")
    return array
