from datetime import date, datetime

import polars as pl
import pytest

from redraft.data.raw import clean_text
from redraft.data.times import to_microseconds
from redraft.records import InputError


@pytest.mark.parametrize(
    ("scraped", "clean"),
    [
        ("L&#39;Oreal", "L'Oreal"),
        ("Tools &amp; Accessories", "Tools & Accessories"),
        ("<p>Soft<br/>and <b>warm</b></p>", "Soft and warm"),
        ("&lt;b&gt;bold&lt;/b&gt;", "bold"),
        ("a <script>var x = '<b>';</script> lamp <!-- note -->", "a lamp"),
        ("for 3 < age and age > 1", "for 3 < age and age > 1"),
        ("  two\n lines ", "two lines"),
    ],
)
def test_clean_text(scraped: str, clean: str):
    assert clean_text(scraped) == clean


SECOND = 1_600_000_000


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([SECOND], "s"),
        ([float(SECOND)], "s"),
        ([SECOND * 1_000], "ms"),
        ([SECOND * 1_000_000], "us"),
        ([str(SECOND)], "s"),
        ([f"{SECOND}.0"], "s"),
        (["2020-09-13 12:26:40"], "s"),
        (["2020-09-13T12:26:40Z"], "s"),
        (["2020-09-13T14:26:40+02:00"], "s"),
        ([datetime(2020, 9, 13, 12, 26, 40)], "ms"),
    ],
)
def test_times(values: list[object], unit: str):
    microseconds = to_microseconds(pl.Series(values), unit, str)
    assert (microseconds.dtype, microseconds.to_list()) == (pl.Int64, [SECOND * 1_000_000])


def test_narrow_integers_do_not_overflow():
    assert to_microseconds(pl.Series([SECOND], dtype=pl.Int32), "s", str).to_list() == [SECOND * 1_000_000]


def test_dates_and_fractions():
    assert to_microseconds(pl.Series([date(1970, 1, 2)]), "s", str).to_list() == [86_400_000_000]
    assert to_microseconds(pl.Series([0.25]), "s", str).to_list() == [250_000]


@pytest.mark.parametrize(
    "values",
    [
        [SECOND, None],
        [SECOND, -1],
        [SECOND, SECOND * 1_000],  # milliseconds among seconds
        [1.0, float("nan")],
        [1.0, float("inf")],
        ["1600000000", "yesterday"],
        ["2020-09-13", "yesterday"],
        [datetime(2020, 1, 1), datetime(1969, 1, 1)],
    ],
)
def test_bad_times_name_the_row(values: list[object]):
    with pytest.raises(InputError, match="row 1: bad timestamp"):
        to_microseconds(pl.Series(values), "s", lambda row: f"row {row}")


@pytest.mark.parametrize("values", [["soon", "later"], [True, False]])
def test_columns_without_any_time(values: list[object]):
    with pytest.raises(InputError, match=r"row 0: .*time"):
        to_microseconds(pl.Series(values), "s", lambda row: f"row {row}")
