"""Histories and lists as users of the Python API have them: external ids in lists, arrays and data frames."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from redraft.data.times import to_microseconds
from redraft.records import Catalogue, Dataset, InputError, Interactions, Recommendations

__all__ = ["Histories", "is_frame", "lists_frame", "read_histories"]

Histories = Any
"""What `read_histories` takes."""


def read_histories(
    histories: Histories, catalogue: Catalogue, *, user: str = "user_id", item: str = "item_id", time: str = "timestamp"
) -> tuple[Interactions, pl.Series]:
    """Item numbers and names of the users of histories, oldest item first.

    histories: one sequence of item ids; a sequence of such sequences; a mapping from user to sequence; an array [T] or
    [U, T]; a data frame (polars, pandas, pyarrow) with a row per event and the columns that `user`, `item` and `time`
    name, of which `item` alone is needed, times in seconds since 1970, dates or text; a `Dataset`; or `Interactions`,
    which hold item numbers already. Of frames and data sets the events keep their times. An id is matched by its text,
    so 5, 5.0 and "5" are the same; None, NaN and "" are padding and left out. Users without a name are called "0", "1",
    ... in their order.
    Raises InputError for an item that is not in the catalogue, for what is no time, and for anything else.
    """
    if isinstance(histories, Interactions):
        return histories, _numbered(histories.n_users)
    if isinstance(histories, Dataset):
        if not histories.catalogue.ids.equals(catalogue.ids):
            raise InputError(f"data set {histories.name!r} has other items than the model; use the one it learnt from")
        return histories.interactions, histories.user_ids
    names: list[Any] | None = None
    times: list[list[int]] | None = None
    if is_frame(histories):
        names, rows, times = _from_frame(pl.DataFrame(histories), user, item, time)
    elif isinstance(histories, Mapping):
        names, rows = list(histories), list(histories.values())
    elif _is_row(histories):
        rows = list(histories)
        rows = rows if rows and all(map(_is_row, rows)) else [rows]
    else:
        raise InputError(
            f"histories are a {type(histories).__name__}; give lists of item ids, an array or a data frame"
        )
    packed = _numbers_of(rows, names, times, catalogue)
    return packed, _numbered(len(rows)) if names is None else pl.Series("user", list(map(str, names)), dtype=pl.String)


def lists_frame(users: pl.Series, catalogue: Catalogue, lists: Recommendations) -> pl.DataFrame:
    """One row per recommended item: user, rank from 1, item (external id), title, score; short lists have fewer."""
    n_users, k = lists.items.shape
    frame = pl.DataFrame(
        {
            "user": users.gather(np.repeat(np.arange(n_users), k)),
            "rank": np.tile(np.arange(1, k + 1), n_users),
            "number": lists.items.ravel(),
            "score": lists.scores.ravel(),
        }
    ).filter(pl.col("number") >= 0)
    return frame.select(
        "user",
        "rank",
        catalogue.ids.gather(frame["number"]).alias("item"),
        catalogue.titles.gather(frame["number"]).alias("title"),
        "score",
    )


def is_frame(value: object) -> bool:
    """Whether this is a data frame of any library that speaks Arrow (polars, pandas, pyarrow)."""
    return hasattr(value, "__arrow_c_stream__") and not isinstance(value, pl.Series)


def _from_frame(
    frame: pl.DataFrame, user: str, item: str, time: str
) -> tuple[list[Any] | None, list[Any], list[list[int]] | None]:
    """Names of users, their items, and the seconds of these, as far as there are any."""
    if item not in frame.columns:
        raise InputError(f"histories have no column {item!r}; name it with item=: {', '.join(frame.columns)}")
    timed = time in frame.columns
    if timed:
        frame = frame.with_columns(_microseconds(frame[time])).sort(time, maintain_order=True)
        frame = frame.with_columns(pl.col(time) // 1_000_000)
    if user not in frame.columns:
        return None, [frame[item].to_list()], [frame[time].to_list()] if timed else None
    rows = frame.group_by(user, maintain_order=True).agg(pl.exclude(user))
    return rows[user].to_list(), rows[item].to_list(), rows[time].to_list() if timed else None


def _microseconds(column: pl.Series) -> pl.Series:
    try:
        times = to_microseconds(column, "s", lambda row: f"histories, row {row + 1}")
    except InputError as error:
        fault = str(error).partition(";")[0]
        raise InputError(f"{fault}; give seconds since 1970, dates or text in ISO 8601") from None
    return times.alias(column.name)


def _numbers_of(
    rows: Sequence[Any], names: Sequence[Any] | None, times: list[list[int]] | None, catalogue: Catalogue
) -> Interactions:
    texts = [[text for text in map(_text, row) if text] for row in rows]
    if times is not None:
        times = [[moment for one, moment in zip(*both) if _text(one)] for both in zip(rows, times)]
    lengths = [len(row) for row in texts]
    flat = pl.DataFrame({"id": [text for row in texts for text in row]}, schema={"id": pl.String})
    known = catalogue.ids.to_frame("id").with_row_index("number")
    numbers = flat.join(known, on="id", how="left", maintain_order="left")["number"]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    if numbers.null_count():
        first = int(numbers.is_null().arg_max() or 0)
        row = int(np.searchsorted(offsets, first, side="right")) - 1
        whose = f"user {names[row]!r}" if names else f"history {row + 1}" if len(rows) > 1 else "history"
        raise InputError(
            f"{whose}: item {flat['id'][first]!r} at position {first - offsets[row] + 1} is not in the catalogue; "
            "leave it out"
        )
    moments = None if times is None else np.array([each for row in times for each in row], dtype=np.int64)
    return Interactions(numbers.to_numpy().astype(np.int32), offsets, moments)


def _is_row(value: object) -> bool:
    return isinstance(value, Sequence | np.ndarray | pl.Series) and not isinstance(value, str)


def _numbered(n: int) -> pl.Series:
    return pl.Series("user", [str(u) for u in range(n)], dtype=pl.String)


def _text(value: Any) -> str:
    """An id as text: whole numbers without a decimal point, "" for None and NaN."""
    if value is None or value != value:
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
