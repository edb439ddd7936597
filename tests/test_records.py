import re

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_catalogue, tiny_ids

from redraft.data.store import make_dataset
from redraft.records import Batch, Catalogue, InputError, Interactions, Recommendations, SemanticIds

histories_of_users = st.lists(st.lists(st.integers(0, 50), max_size=8), max_size=8)


@given(histories_of_users)
def test_from_lists_keeps_every_history(histories) -> None:
    packed = Interactions.from_lists(histories)
    assert packed.n_users == len(histories)
    assert packed.lengths.tolist() == [len(h) for h in histories]
    assert [packed.history(u).tolist() for u in range(len(histories))] == histories
    assert (packed.items.dtype, packed.offsets.dtype) == (np.int32, np.int64)


@given(histories_of_users, st.integers(0, 10))
def test_padded_holds_the_most_recent_items_on_the_right(histories, length: int) -> None:
    expected = [([-1] * length + h)[len(h) :] for h in histories]
    padded = Interactions.from_lists(histories).padded(length)
    assert padded.shape == (len(histories), length)
    assert padded.tolist() == expected


@given(st.data())
def test_take_picks_users_in_the_order_given(data) -> None:
    histories = data.draw(histories_of_users)
    packed = Interactions.from_lists(histories)
    timed = Interactions(packed.items, packed.offsets, np.arange(len(packed.items)))
    chosen = data.draw(st.lists(st.integers(0, len(histories) - 1), max_size=6)) if histories else []
    taken = timed.take(np.array(chosen, dtype=np.int64))
    assert [taken.history(u).tolist() for u in range(taken.n_users)] == [histories[u] for u in chosen]
    assert taken.times is not None
    assert taken.times.tolist() == [t for u in chosen for t in range(packed.offsets[u], packed.offsets[u + 1])]
    part = packed.take(slice(1, 3))
    assert [part.history(u).tolist() for u in range(part.n_users)] == histories[1:3]
    assert part.times is None


@given(st.integers(1, 4), st.integers(2, 9), st.integers(0, 99), st.data())
def test_lookup_is_the_inverse_of_codes_and_knows_no_other(n_levels: int, size: int, seed: int, data) -> None:
    n_items = data.draw(st.integers(1, min(size**n_levels, 60)))
    ids = tiny_ids(n_items, n_levels, size, seed)
    assert (ids.lookup(ids.codes) == np.arange(n_items)).all()
    known = {tuple(row): item for item, row in enumerate(ids.codes.tolist())}
    code = st.tuples(*[st.integers(-1, size)] * n_levels)
    asked = data.draw(st.lists(code, min_size=1, max_size=20))
    assert ids.lookup(np.array(asked)).tolist() == [known.get(codes, -1) for codes in asked]
    assert ids.lookup(np.array(asked)[None]).shape == (1, len(asked))


@given(st.integers(1, 3), st.integers(2, 6), st.integers(0, 99))
def test_keys_order_as_the_codes_do(n_levels: int, size: int, seed: int) -> None:
    ids = tiny_ids(min(size**n_levels, 40), n_levels, size, seed)
    by_key = ids.codes[np.argsort(ids.keys(ids.codes))].tolist()
    assert by_key == sorted(ids.codes.tolist())


@pytest.mark.parametrize("code", [-1, 3])
def test_a_code_outside_the_codebook_is_named(code: int) -> None:
    with pytest.raises(InputError, match=rf"item 1 has code {code} at level 2, outside the codebook of 3"):
        SemanticIds(np.array([[0, 1], [2, code]], dtype=np.int32), 3)


def test_two_items_with_the_same_codes_are_named() -> None:
    with pytest.raises(InputError, match=r"items 1 and 3 share the codes \[2, 1\]"):
        SemanticIds(np.array([[0, 1], [2, 1], [1, 1], [2, 1]], dtype=np.int32), 3)


def test_the_fingerprint_tells_ids_apart_and_nothing_else() -> None:
    codes = np.array([[0, 1], [1, 0]], dtype=np.int32)
    ids = SemanticIds(codes, 3)
    assert ids.fingerprint == SemanticIds(np.asfortranarray(codes.astype(np.int64)), 3).fingerprint
    others = [SemanticIds(codes, 4), SemanticIds(codes[::-1], 3), SemanticIds(codes.reshape(1, 4), 3)]
    assert len({ids.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_describe_gives_title_or_id_and_the_known_attributes() -> None:
    catalogue = Catalogue(
        ids=pl.Series(["B1", "B2"]),
        titles=pl.Series(["Red kayak", ""]),
        descriptions=pl.Series(["", ""]),
        attributes=np.array([[0, -1], [-1, 1]], dtype=np.int32),
        attribute_names=("category", "brand"),
        attribute_values=(pl.Series(["Paddling"]), pl.Series(["Alder", "Fern"])),
    )
    assert catalogue.n_items == 2
    assert catalogue.describe(0) == "Red kayak | Paddling"
    assert catalogue.describe(1) == "#B2 | Fern"
    assert catalogue.attribute(0, 0) == "Paddling"
    assert catalogue.attribute(0, 1) is None
    assert tiny_catalogue(4, 0).describe(2) == "thing 2"


def test_a_batch_moves_as_a_whole() -> None:
    moved = Batch(torch.zeros(2, 3), torch.zeros(2), torch.ones(2), torch.ones(2)).to(torch.device("meta"))
    assert {moved.history.device.type, moved.target.device.type, moved.n_targets.device.type} == {"meta"}


def test_records_say_what_they_hold_in_one_line() -> None:
    events = Interactions.from_lists([[0, 1, 2]] * 1200)
    ids = tiny_ids(30, 3, 5)
    shop = make_dataset("shop", events, tiny_catalogue(30, 2), pl.Series([str(u) for u in range(1200)]))
    assert repr(shop) == (
        "Dataset('shop', Interactions(1,200 users, 3,600 events in order), "
        "Catalogue(30 items, attributes: attribute0, attribute1))"
    )
    assert repr(Interactions(events.items, events.offsets, events.items)).endswith("3,600 events with times)")
    assert repr(tiny_catalogue(30, 0)) == "Catalogue(30 items, attributes: none)"
    assert repr(ids) == f"SemanticIds(30 items, 3 codes of 5 each, fingerprint {ids.fingerprint[:12]})"
    assert repr(Recommendations(np.zeros((2, 5)), np.zeros((2, 5)))) == "Recommendations(2 lists of 5)"


def test_the_first_unknown_item_is_named_with_its_history() -> None:
    histories = Interactions.from_lists([[], [1, 2], [], [4, 5]])
    histories.check_items(6)
    with pytest.raises(InputError, match="history 3 names item 5, but items are 0 to 4; remove it"):
        histories.check_items(5)
    with pytest.raises(InputError, match="history 0 names item -1"):
        Interactions.from_lists([[-1]]).check_items(5)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_each_row_predicts_its_last_items_and_short_rows_drop_only_padding(n_targets: list[int]) -> None:
    U, T = len(n_targets), 5
    history = torch.arange(U * T).view(U, T)
    batch = Batch(history, 100 + torch.arange(U), torch.tensor(n_targets), torch.arange(U))
    targets, predicted = batch.predictions()
    for row, n in enumerate(n_targets):
        following = [*history[row, 1:].tolist(), 100 + row]
        assert targets[row].tolist() == following
        assert targets[row][predicted[row]].tolist() == following[T - n :]
    short, asked = batch.predictions(short=True)
    assert short.shape[1] == (1 if max(n_targets) == 1 else T)
    assert torch.equal(short[asked], targets[predicted])


@given(st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=5))
def test_distinct_items_of_each_user(histories: list[list[int]]) -> None:
    events = Interactions.from_lists(histories)
    found = events.distinct()
    assert [found.history(u).tolist() for u in range(found.n_users)] == [sorted(set(h)) for h in histories]


@pytest.mark.parametrize("wrong", [2.0, 1.7, np.float32(3), "4", None, 2**40, -(2**40), float("nan")])
def test_what_is_no_item_number_is_named_and_never_cut_to_one(wrong):
    with pytest.raises(InputError, match=rf"history 1 has {re.escape(repr(wrong))}, which is no item number"):
        Interactions.from_lists([[1, np.int64(2)], [0, wrong]])


def test_times_are_one_for_each_item():
    assert Interactions.from_lists([[1, 2], [], [3]], [[7, 9], [], [8]]).times.tolist() == [7, 9, 8]
    with pytest.raises(InputError, match="not one for each item"):
        Interactions.from_lists([[1, 2], [3]], [[7], [9, 8]])


def test_histories_of_floats_are_no_item_numbers():
    with pytest.raises(InputError, match="histories hold float64; give item numbers"):
        Interactions(np.array([0.5, 1.5]), np.array([0, 2])).check_items(3)
