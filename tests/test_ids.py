import re
import unicodedata
from datetime import date
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.ids import id_text, looser_match, normal_id, normal_ids
from redraft.records import InputError

words = st.text(st.characters(codec="utf-8"), max_size=5)
texts = st.lists(words | st.from_regex(r"[ 0]?-?[0-9]{1,2}(\.0)?", fullmatch=True) | st.none(), max_size=8)


def slowly(ids: list[str | None]) -> list[str | None]:
    """The rule of `normal_ids`, one id after another."""
    blank = {"\u200b", "\ufeff"}
    found = []
    for text in ids:
        while text and (text[0].isspace() or text[0] in blank):
            text = text[1:]
        while text and (text[-1].isspace() or text[-1] in blank):
            text = text[:-1]
        found.append(None if text is None else unicodedata.normalize("NFC", text))
    known = [text for text in found if text]
    pointed = bool(known) and all(re.fullmatch(r"-?[0-9]+\.0", text) for text in known)
    return [text[:-2] if pointed and text else text for text in found]


@given(texts)
def test_normal_ids_are_those_of_a_slow_reader(ids: list[str | None]):
    assert normal_ids(pl.Series(ids, dtype=pl.String)).to_list() == slowly(ids)


@given(words)
def test_one_id_is_normalised_like_many(text: str):
    assert normal_ids(pl.Series([text, "other"])).to_list()[0] == normal_id(text)


def test_what_an_id_says_is_kept():
    ids = ["007", "7", "a", "A", "1.50", "b c", "1.0"]
    assert normal_ids(pl.Series(ids)).to_list() == ids


numbers = st.lists(st.integers(-(2**53), 2**53) | st.none(), min_size=1, max_size=8)


@given(numbers)
def test_whole_numbers_are_alike_in_every_type(ids: list[int | None]):
    wanted = [None if number is None else str(number) for number in ids]
    integers = pl.Series(ids, dtype=pl.Int64)
    floats = integers.cast(pl.Float64).fill_null(float("nan"))
    columns = [integers, floats, integers.cast(pl.Decimal(38, 2)), integers.cast(pl.String)]
    columns += [integers.cast(pl.String).cast(pl.Categorical), integers.cast(pl.String).cast(pl.Binary)]
    written = integers.to_frame().select(pl.col("").cast(pl.String) + ".0").to_series()
    for column in [*columns, written]:
        assert normal_ids(id_text(column, "user", str)).to_list() == wanted, column.dtype


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pl.Series([1.0, 2.5]), r"row 1: item id 2\.5 is not an exact whole number"),
        (pl.Series([1.0, float("inf")]), "row 1: item id inf is not"),
        (pl.Series([2.0**60]), "row 0: item id .* is not an exact whole number"),
        (pl.Series([3e7], dtype=pl.Float32), "row 0: item id 30000000.0 is not an exact"),
        (pl.Series([Decimal("1.50")]), r"row 0: item id Decimal\('1\.50'\) is not a whole number"),
        (pl.Series([b"a", b"\xff"]), r"row 1: item id b'\\xff' is not UTF-8"),
        (pl.Series([["a"], ["b"]]), r"row 0: item ids of type List\(String\); give text or whole numbers"),
        (pl.Series([{"a": 1}]), "row 0: item ids of type Struct"),
        (pl.Series([date(2020, 1, 1)]), "row 0: item ids of type Date"),
        (pl.Series([True]), "row 0: item ids of type Boolean"),
    ],
)
def test_what_cannot_be_an_id_names_its_row(column: pl.Series, message: str):
    with pytest.raises(InputError, match=message):
        id_text(column, "item", lambda row: f"row {row}")


@pytest.mark.parametrize(
    ("ids", "others", "answer"),
    [
        (["007", "012"], ["7", "12"], "leading zeros"),
        (["Ab", "C"], ["ab", "c"], "upper and lower case"),
        (["\uff21\uff22", "\uff23"], ["AB", "C"], "wide and narrow characters"),
        (["a-1", "b-2"], ["a_1", "b_2"], "what is no letter or digit"),
        (["x", "y"], ["a", "b"], None),
    ],
)
def test_what_stands_between_ids(ids: list[str], others: list[str], answer: str | None):
    assert looser_match(pl.Series(ids), pl.Series(others)) == answer
