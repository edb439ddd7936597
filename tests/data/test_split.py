import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.data.split import later_share, leave_one_out, temporal
from redraft.records import InputError, Interactions


def lists(events: Interactions) -> list[list[int]]:
    return [events.items[a:b].tolist() for a, b in zip(events.offsets, events.offsets[1:])]


@given(histories=st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=8), min_size=1, max_size=6))
def test_leave_one_out(histories: list[list[int]]):
    split = leave_one_out(Interactions.from_lists(histories))
    assert lists(split.train) == [h[:-2] for h in histories]
    assert lists(split.validation.histories) == [h[:-2] for h in histories]
    assert split.validation.targets.tolist() == [h[-2] for h in histories]
    assert lists(split.test.histories) == [h[:-1] for h in histories]
    assert split.test.targets.tolist() == [h[-1] for h in histories]
    assert split.test.targets.dtype == np.int64


def test_leave_one_out_keeps_times_beside_items():
    events = Interactions.from_lists([[5, 6, 7], [8, 9, 5, 6]])
    split = leave_one_out(Interactions(events.items, events.offsets, events.items.astype(np.int64) * 10))
    for part in (split.train, split.validation.histories, split.test.histories):
        np.testing.assert_array_equal(part.times, part.items * 10)


@given(histories=st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=6))
def test_short_users_are_for_training_alone(histories: list[list[int]]):
    events, asked = Interactions.from_lists(histories), [h for h in histories if len(h) >= 3]
    if not asked:
        with pytest.raises(InputError, match="no user has the 3 events"):
            leave_one_out(events)
        return
    split = leave_one_out(events)
    assert lists(split.train) == [h[:-2] if len(h) >= 3 else h for h in histories]
    assert lists(split.validation.histories) == [h[:-2] for h in asked]
    assert split.validation.targets.tolist() == [h[-2] for h in asked]
    assert lists(split.test.histories) == [h[:-1] for h in asked]
    assert split.test.targets.tolist() == [h[-1] for h in asked]


def test_what_leaks_across_users_by_hand():
    events = Interactions.from_lists([[1, 2, 3], [4, 5, 6], [7, 8]])
    times = np.array([1, 2, 3, 10, 11, 12, 4, 5])
    assert later_share(events) == 0
    assert later_share(Interactions(events.items, events.offsets, times)) == pytest.approx((3 / 4 + 0) / 2)


timed = st.lists(st.lists(st.integers(0, 30), max_size=6).map(sorted), min_size=1, max_size=6)


@given(moments=timed, validation_from=st.integers(1, 15), window=st.integers(1, 15))
def test_temporal(moments: list[list[int]], validation_from: int, window: int):
    test_from = validation_from + window
    histories = [[100 * u + n for n in range(len(times))] for u, times in enumerate(moments)]
    events = Interactions.from_lists(histories)
    events = Interactions(
        events.items, events.offsets, np.array([t for times in moments for t in times], dtype=np.int64)
    )

    def questions(start: int, stop: float) -> list[tuple[list[int], int]]:
        pairs = [
            ([i for i, t in zip(items, times) if t < start], [i for i, t in zip(items, times) if start <= t < stop])
            for items, times in zip(histories, moments)
        ]
        return [(before, after[0]) for before, after in pairs if before and after]

    wanted = questions(validation_from, test_from), questions(test_from, np.inf)
    if not all(wanted):
        with pytest.raises(InputError, match="no user with a history"):
            temporal(events, validation_from, test_from)
        return
    split = temporal(events, validation_from, test_from)
    train = [[i for i, t in zip(h, times) if t < validation_from] for h, times in zip(histories, moments)]
    assert lists(split.train) == train
    for holdout, pairs in zip((split.validation, split.test), wanted):
        assert list(zip(lists(holdout.histories), holdout.targets.tolist())) == pairs


def test_temporal_needs_times_and_order():
    events = Interactions.from_lists([[1, 2, 3]])
    with pytest.raises(InputError, match="needs timestamps"):
        temporal(events, 1, 2)
    with pytest.raises(InputError, match="swap the two"):
        temporal(Interactions(events.items, events.offsets, np.arange(3)), 2, 2)
