"""Histories as people have them: every form means the same, and what cannot be meant is named."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_catalogue

from redraft.data.store import make_dataset
from redraft.frames import lists_frame, read_histories
from redraft.records import Catalogue, InputError, Interactions, Recommendations

SHOP = tiny_catalogue(12)
LISTS = [["item-3", "item-11", "item-3"], ["item-0"]]
EVENTS = {
    "user_id": ["eve", "adam", "eve", "eve"],
    "item_id": ["item-3", "item-0", "item-3", "item-11"],
    "timestamp": [30, 5, 10, 20],
}


def lists_of(found: Interactions) -> list[list[int]]:
    return [found.history(user).tolist() for user in range(found.n_users)]


def numbered() -> Catalogue:
    """A catalogue whose ids are numbers, none of which is its item's number."""
    catalogue = tiny_catalogue(12)
    return Catalogue(
        pl.Series("id", [str(i + 100) for i in range(12)]),
        catalogue.titles,
        catalogue.descriptions,
        catalogue.attributes,
        catalogue.attribute_names,
        catalogue.attribute_values,
    )


@pytest.mark.parametrize(
    ("histories", "users"),
    [
        (LISTS, ["0", "1"]),
        (tuple(map(tuple, LISTS)), ["0", "1"]),
        ([np.array(row) for row in LISTS], ["0", "1"]),
        (np.array([LISTS[0], ["", "item-0", ""]]), ["0", "1"]),
        (np.array([LISTS[0], [None, None, "item-0"]], dtype=object), ["0", "1"]),
        ({"eve": LISTS[0], "adam": LISTS[1]}, ["eve", "adam"]),
        (pl.DataFrame(EVENTS).sort("timestamp"), ["adam", "eve"]),
        (pa.table(EVENTS), ["adam", "eve"]),
        (Interactions.from_lists([[3, 11, 3], [0]]), ["0", "1"]),
    ],
)
def test_every_form_means_the_same(histories: object, users: list[str]) -> None:
    found, names = read_histories(histories, SHOP)
    expected = {"eve": [3, 11, 3], "adam": [0], "0": [3, 11, 3], "1": [0]}
    assert names.to_list() == users
    assert lists_of(found) == [expected[name] for name in users]


@pytest.mark.parametrize(
    "moments",
    [
        [30, 5, 100, 20],
        ["30", "5", "100", "20"],
        ["1970-01-01T00:00:30", "1970-01-01T00:00:05", "1970-01-01T00:01:40", "1970-01-01T00:00:20"],
    ],
)
def test_a_table_keeps_the_times_of_its_events_and_their_order(moments: list[object]) -> None:
    items = ["item-3", "item-0", "item-3", "item-11"]
    frame = pl.DataFrame({"user_id": ["eve", "adam", "eve", "eve"], "item_id": items, "timestamp": moments})
    found, names = read_histories(frame, SHOP)
    assert names.to_list() == ["adam", "eve"]
    assert lists_of(found) == [[0], [11, 3, 3]]
    assert found.times.tolist() == [5, 20, 30, 100]
    gap = frame.with_columns(pl.Series("item_id", ["item-3", "item-0", "", "item-11"]))
    assert read_histories(gap, SHOP)[0].times.tolist() == [5, 20, 30]
    close = frame.with_columns(timestamp=pl.Series([7.2, 0.0, 7.3, 7.1]))
    assert lists_of(read_histories(close, SHOP)[0]) == [[0], [11, 3, 3]]
    assert read_histories(LISTS, SHOP)[0].times is None


@pytest.mark.parametrize(
    "history", [LISTS[0], np.array(LISTS[0]), pl.Series(LISTS[0]), pl.DataFrame({"item_id": LISTS[0]})]
)
def test_one_history_needs_no_second_bracket(history: object) -> None:
    found, names = read_histories(history, SHOP)
    assert lists_of(found) == [[3, 11, 3]]
    assert names.to_list() == ["0"]


def test_a_new_user_has_an_empty_history() -> None:
    assert lists_of(read_histories([[], ["item-1"]], SHOP)[0]) == [[], [1]]
    assert lists_of(read_histories([], SHOP)[0]) == [[]]


@given(st.lists(st.lists(st.integers(0, 11), max_size=5), min_size=1, max_size=4))
def test_numbers_are_ids_and_never_item_numbers(rows: list[list[int]]) -> None:
    catalogue = numbered()
    for make in (int, float, np.int32, np.float64, str):
        ids = [[make(item + 100) for item in row] + [float("nan")] for row in rows]
        assert lists_of(read_histories(ids, catalogue)[0]) == rows


def test_a_data_set_brings_its_users() -> None:
    events = Interactions.from_lists([[1, 2, 3], [4, 5, 6]])
    found, names = read_histories(make_dataset("shop", events, SHOP, pl.Series(["a", "b"])), SHOP)
    assert found is events
    assert names.to_list() == ["a", "b"]
    with pytest.raises(InputError, match="data set 'shop' has other items than the model"):
        read_histories(make_dataset("shop", events, SHOP, pl.Series(["a", "b"])), numbered())


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        (["item-1", "item-99"], r"^history: item 'item-99' at position 2 is not in the catalogue; leave it out$"),
        ([["item-1"], ["", "item-2", "x"]], "history 2: item 'x' at position 2"),
        ({"eve": ["item-1"], "adam": ["y"]}, "user 'adam': item 'y' at position 1"),
        ([["item-1"], "item-2"], r"item \"\['item-1'\]\" at position 1"),
        (["item-1", True], "item 'True'"),
        (
            pl.DataFrame({"user_id": ["a"], "product": ["x"]}),
            "no column 'item_id'; name it with item=: user_id, product",
        ),
        (
            pl.DataFrame({"item_id": ["item-1"], "timestamp": [1_700_000_000_000]}),
            r"row 1: bad timestamp 1700000000000; give seconds since 1970",
        ),
        ("item-1", "histories are a str"),
        (7, "histories are a int"),
    ],
)
def test_what_cannot_be_meant_is_named(histories: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_histories(histories, SHOP)


def test_columns_may_have_other_names() -> None:
    frame = pl.DataFrame(EVENTS).rename({"user_id": "u", "item_id": "i", "timestamp": "t"})
    found, names = read_histories(frame, SHOP, user="u", item="i", time="t")
    assert names.to_list() == ["adam", "eve"]
    assert lists_of(found) == [[0], [3, 11, 3]]


def test_lists_have_a_row_per_item_and_no_row_where_they_are_short() -> None:
    found = Recommendations(np.array([[4, 2], [1, -1]]), np.array([[0.5, 0.25], [1.0, -np.inf]], dtype=np.float32))
    assert lists_frame(pl.Series(["eve", "adam"]), SHOP, found).rows() == [
        ("eve", 1, "item-4", "thing 4", 0.5),
        ("eve", 2, "item-2", "thing 2", 0.25),
        ("adam", 1, "item-1", "thing 1", 1.0),
    ]
