from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from redraft.options import check_counts, fits
from redraft.records import InputError


@pytest.mark.parametrize(
    ("value", "hint", "does"),
    [
        (1, int, True),
        (np.int64(1), int, True),
        (True, int, False),
        (1.0, int, False),
        (1, float, True),
        (np.float32(1), float, True),
        ("1", float, False),
        (None, int | None, True),
        ("x", int | None, False),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        (np.zeros(2), Literal["a"], False),
        ((1, 2), tuple[int, ...], True),
        ((), tuple[int, ...], True),
        ((1, "2"), tuple[int, ...], False),
        ((1, 2), tuple[int, int], True),
        ((1,), tuple[int, int], False),
        ([1], tuple[int, ...], False),
        (Path("x"), Path, True),
        ("x", Path, False),
        (3, Any, True),
    ],
)
def test_a_value_fits_its_type(value, hint, does):
    assert fits(value, hint) == does


@dataclass
class Sizes:
    users: int | None = None
    lengths: tuple[int, ...] = (1,)
    minutes: float = 1.0
    seed: int = 0
    on: bool = False


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"users": 0}, "users is 0; it must be >= 1"),
        ({"lengths": (3, -1)}, "lengths is -1; it must be >= 1"),
        ({"minutes": -1.0}, "minutes is -1.0; it must be >= 0"),
        ({"minutes": float("nan")}, "minutes is nan"),
        ({"seed": -1}, "seed is -1; it must be >= 0"),
        ({"users": 2**31}, "it must be <= 2147483647"),
    ],
)
def test_sizes_that_cannot_be(changes, said):
    check_counts(Sizes())
    with pytest.raises(InputError, match=said):
        check_counts(Sizes(**changes))
