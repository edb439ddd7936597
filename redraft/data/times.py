"""Times as microseconds since 1970, from whatever logs write them in."""

from collections.abc import Callable
from typing import Literal

import polars as pl

from redraft.records import InputError

__all__ = ["YEAR_1980", "TimeUnit", "form_of_times", "to_microseconds"]

TimeUnit = Literal["s", "ms", "us"]
TICK: dict[TimeUnit, int] = {"s": 1_000_000, "ms": 1_000, "us": 1}
YEAR_1980, YEAR_2100, YEAR_2200 = 315_532_800_000_000, 4_102_444_800_000_000, 7_258_118_400_000_000  # microseconds
DIGITS = {(19_700_101, 22_001_231): "%Y%m%d", (19_700_101_000000, 22_001_231_235959): "%Y%m%d%H%M%S"}
"""Numbers that all lie between these are dates in digits: as seconds or microseconds they would lie in one month."""


def to_microseconds(column: pl.Series, unit: TimeUnit, locate: Callable[[int], str]) -> pl.Series:
    """int64 microseconds since 1970 from numbers in `unit`, dates also as in 20240131, or text that holds either.

    Raises InputError, naming the place, for a value that is not a time between 1970 and 2200, and for a unit that puts
    all times before 1980 where another would not.
    """
    moments = column
    if column.dtype == pl.String:
        numbers = column.cast(pl.Float64, strict=False)
        moments = numbers if numbers.is_not_null().any() else _parse_dates(column, locate)
    if moments.dtype.is_numeric():
        moments = moments.cast(pl.Int64 if moments.dtype.is_integer() else pl.Float64, strict=False)
        form = _digits_of_dates(moments)
        microseconds = _in_unit(moments, unit) if form is None else _in_digits(moments, form)
        if form is None and unit != "s":
            _check_unit(microseconds, moments, unit, locate)
    elif isinstance(moments.dtype, pl.Date | pl.Datetime):
        microseconds = moments.cast(pl.Datetime("us")).cast(pl.Int64)
    else:
        raise InputError(f"{locate(0)}: a time column of {moments.dtype}; give numbers, dates or text")
    bad = ~microseconds.is_between(0, YEAR_2200).fill_null(False)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise InputError(
            f"{locate(row)}: bad timestamp {column[row]!r}; correct it, or say with --time-unit whether numbers are "
            "s, ms or us"
        )
    return microseconds.alias("time")


def form_of_times(column: pl.Series) -> str:
    """How times are written, in words: alike in all parts of a log whose times are of one kind."""
    moments = column
    if column.dtype == pl.String:
        moments = column.cast(pl.Float64, strict=False)
        if not moments.is_not_null().any():
            return "dates in words"
    if not moments.dtype.is_numeric():
        return "moments"
    return "numbers" if _digits_of_dates(moments) is None else "dates in digits"


def _in_unit(numbers: pl.Series, unit: TimeUnit) -> pl.Series:
    """Microseconds from numbers in a unit; null for what is no time between 1970 and 2200."""
    in_range = numbers.is_between(0, YEAR_2200 // TICK[unit]).fill_null(False)
    known = numbers.to_frame("x").select(pl.when(in_range).then("x")).to_series()
    return (known * TICK[unit]).cast(pl.Int64)


def _digits_of_dates(numbers: pl.Series) -> str | None:
    """How dates are written in these numbers, such as 20240131 or 20240131235959, if that is what they are."""
    least, most = numbers.min(), numbers.max()
    for (first, last), form in DIGITS.items():
        if least is not None and first <= least <= most <= last:  # type: ignore[operator]
            return form
    return None


def _in_digits(numbers: pl.Series, form: str) -> pl.Series:
    """Microseconds from dates in digits; null for what is no date."""
    whole = numbers.cast(pl.Int64).cast(pl.String)
    return whole.str.to_datetime(form, time_unit="us", strict=False).cast(pl.Int64)


def _check_unit(microseconds: pl.Series, numbers: pl.Series, unit: TimeUnit, locate: Callable[[int], str]) -> None:
    """Raise InputError if the unit puts all times before 1980 and a larger one puts them between 1980 and 2100."""
    least, most = microseconds.min(), microseconds.max()
    if least is None or most >= YEAR_1980:  # type: ignore[operator]
        return
    for other in TICK:
        larger = TICK[other] // TICK[unit]
        if larger > 1 and least * larger >= YEAR_1980 and most * larger <= YEAR_2100:  # type: ignore[operator]
            raise InputError(
                f"{locate(0)}: {numbers[0]} in {unit} lies in 1970, as do all times; pass --time-unit {other}"
            )


def _parse_dates(column: pl.Series, locate: Callable[[int], str]) -> pl.Series:
    try:
        return column.str.to_datetime(time_unit="us", strict=False)
    except pl.exceptions.ComputeError:
        raise InputError(
            f"{locate(0)}: bad timestamp {column[0]!r}; give seconds since 1970 or ISO 8601 dates"
        ) from None
