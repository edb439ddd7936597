"""What somebody got wrong, and the checks of numbers that say so."""

import math
from numbers import Integral
from typing import Any

__all__ = ["MAX_COUNT", "MAX_SEED", "InputError", "check_above", "check_between", "check_least", "check_whole"]

MAX_COUNT = 2**31 - 1
MAX_SEED = 2**63 - 1
"""What every random generator that we seed can be given."""


class InputError(ValueError):
    """Something the user gave cannot be used: the message names what, where, and the fix, in one line.

    The command line prints it without a traceback and exits with 2.
    """


def check_least(least: int, **numbers: float) -> None:
    """Raise InputError for the first of some settings, given by name, that is below `least` or not a finite number."""
    for name, number in numbers.items():
        if not least <= number < math.inf:
            raise InputError(f"{name} is {number}; it must be >= {least}{' and finite' * (number > 0)}")


def check_above(bound: int, **numbers: float) -> None:
    """Raise InputError for the first of some settings, given by name, that is not a finite number above `bound`."""
    for name, number in numbers.items():
        if not bound < number < math.inf:
            raise InputError(f"{name} is {number}; it must be > {bound}")


def check_between(least: float, most: float, **numbers: float) -> None:
    """Raise InputError for the first of some settings, given by name, that is not within `least` and `most`."""
    for name, number in numbers.items():
        if not number >= least:
            raise InputError(f"{name} is {number}; it must be >= {least}")
        if number > most:
            raise InputError(f"{name} is {number}; it must be <= {most}")


def check_whole(**numbers: Any) -> None:
    """Raise InputError for the first of some settings, given by name, that is no whole number."""
    for name, number in numbers.items():
        if not isinstance(number, Integral) or isinstance(number, bool):
            raise InputError(f"{name} is {number!r}; it must be a whole number")
