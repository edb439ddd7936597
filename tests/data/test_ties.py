from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from redraft.data.ties import count_ties, in_tie, random_order, with_previous
from redraft.records import Interactions

logs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 5)), max_size=30).map(sorted)


def arrays(log: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(np.array(log, dtype=np.int64).reshape(-1, 3).T)


@given(logs, st.integers(0, 2**63 - 1), st.randoms())
def test_a_slow_reader_finds_the_same_events_at_each_moment_and_one_order_of_them(log, seed, random):
    users, moments, items = arrays(log)
    same = with_previous(users, [moments])
    order = random_order(same, users, items, seed=seed)
    found = [log[row] for row in order]
    assert [event[:2] for event in found] == [event[:2] for event in log]
    assert sorted(found) == log
    at = Counter(event[:2] for event in log)
    assert in_tie(same).tolist() == [at[event[:2]] > 1 for event in log]
    mixed = sorted(random.sample(log, len(log)), key=lambda event: event[:2])  # another order within ties
    users, moments, items = arrays(mixed)
    again = random_order(with_previous(users, [moments]), users, items, seed=seed)
    assert [mixed[row] for row in again] == found


def test_every_order_of_a_tie_is_as_likely_as_any_other():
    users, items = np.repeat(np.arange(6000), 3), np.tile(np.arange(3), 6000)
    same = with_previous(users, [np.zeros(len(users))])
    for seed in (0, 1):
        orders = items[random_order(same, users, items, seed=seed)].reshape(-1, 3)
        shares = np.array(list(Counter(map(tuple, orders.tolist())).values())) / 6000
        assert len(shares) == 6
        assert abs(shares - 1 / 6).max() < 0.02


def test_the_seed_decides():
    users, items = np.zeros(20, dtype=int), np.arange(20)
    same = with_previous(users, [])
    drawn = {tuple(random_order(same, users, items, seed=seed)) for seed in (0, 0, 1)}
    assert len(drawn) == 2


@given(st.lists(st.lists(st.integers(0, 4).map(int), max_size=6).map(sorted), max_size=5))
def test_counts_are_those_of_a_slow_reader(times: list[list[int]]):
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in times])]).astype(np.int64)
    flat = np.array([moment for row in times for moment in row], dtype=np.int64)
    events = Interactions(np.zeros(len(flat), dtype=np.int32), offsets, flat)
    shared = sum(row.count(moment) > 1 for row in times for moment in row)
    last = sum(len(row) > 1 and list(pairwise(row))[-1][0] == row[-1] for row in times)
    assert count_ties(events) == (shared, last)


def test_without_times_nothing_is_tied():
    assert count_ties(Interactions.from_lists([[0, 1, 2]])) == (0, 0)
