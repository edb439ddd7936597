"""Lists out of several: whose item is whose, and how probable each is where."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.experiment.traffic.mixing import draw, team_draft

LISTS = st.lists(st.integers(0, 12), unique=True, max_size=8)


@given(LISTS, LISTS, st.integers(1, 10), st.integers(0, 99))
def test_a_draft_takes_each_teams_best_in_turns(one: list[int], other: list[int], k: int, seed: int) -> None:
    items, teams = team_draft(one, other, k, Random(seed))
    assert len(items) == len(set(items)) == len(teams) == min(k, len({*one, *other}))
    for place, (item, team) in enumerate(zip(items, teams)):
        assert item == next(each for each in (one, other)[team] if each not in items[:place])
    if len(one) == len(other) >= k and not set(one) & set(other):
        assert abs(teams.count(0) - teams.count(1)) <= 1


def test_either_team_begins_as_often() -> None:
    first = Counter(team_draft([1, 2], [3, 4], 2, Random(seed))[0][0] for seed in range(2000))
    assert first[1] == pytest.approx(1000, abs=100)
    alike = Counter(tuple(team_draft([1, 2], [1, 2], 2, Random(seed))[0]) for seed in range(50))
    assert set(alike) == {(1, 2)}


def test_every_item_is_as_probable_as_it_says_at_every_position() -> None:
    found = [draw([[1, 2, 3], [3, 4, 5]], 3, Random(seed)) for seed in range(5000)]
    assert {tuple(p) for _, p in found} == {(0.2, 0.2, 0.2)}
    for position in range(3):
        counts = Counter(items[position] for items, _ in found)
        assert all(counts[item] == pytest.approx(1000, abs=120) for item in range(1, 6))
    assert draw([[1], [1]], 3, Random(0)) == ([1], [1.0])
