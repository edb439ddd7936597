import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from redraft.data.core import k_core


def naive(events: list[tuple[int, int]], k: int) -> list[bool]:
    kept = [True] * len(events)
    changed = True
    while changed:
        changed = False
        for n, (user, item) in enumerate(events):
            alive = [event for event, keep in zip(events, kept) if keep]
            if kept[n] and (sum(u == user for u, _ in alive) < k or sum(i == item for _, i in alive) < k):
                kept[n], changed = False, True
    return kept


@given(events=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=25), k=st.integers(1, 4))
def test_equals_one_event_at_a_time(events: list[tuple[int, int]], k: int):
    pairs = np.array(events, dtype=np.int64).reshape(-1, 2)
    assert k_core(pairs[:, 0], pairs[:, 1], k).tolist() == naive(events, k)


def test_goes_on_to_the_fixed_point():
    """A chain that loses one user at each pass: only its dense end stays."""
    users = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    items = np.array([0, 1, 1, 2, 2, 3, 8, 9, 8, 9])
    np.testing.assert_array_equal(k_core(users, items, 2), users >= 3)
