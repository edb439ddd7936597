"""Ids as text, made alike wherever they are read: an event meets its item whatever a program did to either file.

What an id says is kept: case, leading zeros and anything inside it. What programs add to it goes: a decimal point after
whole numbers, blanks around it, and the way in which Unicode writes an accent.
"""

import unicodedata
from collections.abc import Callable

import numpy as np
import polars as pl

from redraft.records import InputError, IntArray

__all__ = ["all_pointed", "id_text", "looser_match", "normal_id", "normal_ids", "places_among"]

BLANKS = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
EXACT: dict[pl.DataType, int] = {pl.Float32(): 2**24, pl.Float64(): 2**53}
"""Whole numbers up to these are floats of their own; above, a float may stand for several."""

LOOSER: dict[str, Callable[[pl.Series], pl.Series]] = {
    "leading zeros": lambda ids: ids.str.strip_chars_start("0"),
    "upper and lower case": lambda ids: ids.str.to_lowercase(),
    "wide and narrow characters": lambda ids: ids.str.normalize("NFKC"),
    "what is no letter or digit": lambda ids: ids.str.replace_all(r"[^\p{L}\p{N}]", ""),
}


def id_text(column: pl.Series, what: str, locate: Callable[[int], str]) -> pl.Series:
    """A column of ids of any type as text, null where there is none.

    what: whose ids they are. locate: says where a row stands, for messages.
    Raises InputError, naming the place, for a number that is not whole or too large to be exact, for bytes that are not
    UTF-8, and for a column of anything but text, bytes and numbers.
    """
    kind = column.dtype
    if kind == pl.String or kind.is_integer() or kind in (pl.Categorical, pl.Enum, pl.Null):
        return column.cast(pl.String)
    if kind.is_float():
        bound = EXACT.get(kind, 2**11)
        known = column.fill_nan(None)
        inexact = (known != known.floor()) | (known.abs() > bound)
        _refuse(inexact, column, f"{what} id {{}} is not an exact whole number; give ids as text", locate)
        return known.cast(pl.Int64).cast(pl.String)
    if kind.is_decimal():
        text = column.cast(pl.String).str.replace(r"\.0+$", "")
        _refuse(text.str.contains(".", literal=True), column, f"{what} id {{}} is not a whole number", locate)
        return text
    if kind == pl.Binary:
        text = pl.Series(column.name, [_decoded(value) for value in column], dtype=pl.String)
        _refuse(text.is_null() & column.is_not_null(), column, f"{what} id {{}} is not UTF-8; give text", locate)
        return text
    raise InputError(f"{locate(0)}: {what} ids of type {kind}; give text or whole numbers")


def normal_ids(ids: pl.Series, *, pointed: bool | None = None) -> pl.Series:
    """Ids as text in their normal form: no blanks around them, composed accents (NFC).

    Where all of them are whole numbers with a decimal point, such as 12.0, they lose it. pointed: whether that is so of
    the ids that these are a part of; by default these are all.
    """
    text = ids.str.strip_chars(BLANKS)
    if (text.str.len_bytes() != text.str.len_chars()).any():
        text = text.str.normalize("NFC")
    return text.str.strip_suffix(".0") if (all_pointed(text) if pointed is None else pointed) else text


def all_pointed(ids: pl.Series) -> bool:
    """Whether all ids that there are, blanks aside, are whole numbers with a decimal point."""
    text = ids.drop_nulls().str.strip_chars(BLANKS)
    known = text.filter(text != "")
    return len(known) > 0 and bool(known.str.contains(r"^-?\d+\.0$").all())


def normal_id(text: str) -> str:
    """One id in the normal form of `normal_ids`, which alone can tell a decimal point from a part of the id."""
    return unicodedata.normalize("NFC", text.strip(BLANKS))


def looser_match(ids: pl.Series, others: pl.Series) -> str | None:
    """What one would have to pass over to find most of these distinct ids among the others, if anything helps."""
    for name, loosen in LOOSER.items():
        if loosen(ids).is_in(loosen(others).implode()).mean() > 0.5:  # type: ignore[operator]
            return name
    return None


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _refuse(bad: pl.Series, column: pl.Series, message: str, locate: Callable[[int], str]) -> None:
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise InputError(f"{locate(row)}: {message.format(repr(column[row]))}")


def places_among(known: pl.Series, ids: pl.Series) -> IntArray:
    """int64 [n], where each of n ids stands among known ones, which are all different; -1 for one that is not there."""
    numbered = pl.DataFrame({"id": known}).with_row_index("place")
    found = pl.DataFrame({"id": ids}).join(numbered, on="id", how="left", maintain_order="left")
    return found["place"].cast(pl.Int64).fill_null(-1).to_numpy().astype(np.int64)
