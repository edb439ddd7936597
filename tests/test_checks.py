import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft import records
from redraft.checks import InputError, check_above, check_between, check_least, check_whole

numbers = st.one_of(st.integers(-5, 5), st.floats(-5, 5), st.sampled_from([math.nan, math.inf, -math.inf]))


def refused(check, *bounds, **settings) -> str | None:
    try:
        check(*bounds, **settings)
    except InputError as error:
        return str(error)
    return None


@given(st.integers(-3, 3), numbers, numbers)
def test_what_is_refused_is_outside_the_bounds_or_no_finite_number(least: int, first, second) -> None:
    said = refused(check_least, least, a=first, b=second)
    bad = [(name, x) for name, x in (("a", first), ("b", second)) if not (math.isfinite(x) and x >= least)]
    assert (said is None) == (not bad)
    assert said is None or said.startswith(f"{bad[0][0]} is {bad[0][1]}; it must be >= {least}")
    above = refused(check_above, least, a=first)
    assert (above is None) == (math.isfinite(first) and first > least)
    assert above is None or above == f"a is {first}; it must be > {least}"
    between = refused(check_between, least, least + 2, a=first)
    assert (between is None) == (least <= first <= least + 2)
    assert between is None or between.endswith((f">= {least}", f"<= {least + 2}"))


@pytest.mark.parametrize("number", [3, -1, np.int64(2)])
def test_whole_numbers_pass(number) -> None:
    check_whole(k=number)


@pytest.mark.parametrize("number", [2.0, True, "3", None])
def test_what_is_no_whole_number_is_named(number) -> None:
    assert refused(check_whole, k=number) == f"k is {number!r}; it must be a whole number"


def test_records_offer_the_same_error() -> None:
    assert records.InputError is InputError
