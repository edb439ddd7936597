"""One list out of several: team-draft interleaving, and lists drawn at random with known probabilities."""

from collections.abc import Sequence
from random import Random

__all__ = ["draw", "team_draft"]


def team_draft(one: Sequence[int], other: Sequence[int], k: int, random: Random) -> tuple[list[int], list[int]]:
    """At most k items of two lists, and the team of each: 0 for the first list, 1 for the other.

    The teams pick in turns, who begins is drawn each round, and each picks its best item that is not there yet
    (Radlinski, Kurup and Joachims 2008).
    """
    lists = one, other
    items: list[int] = []
    teams: list[int] = []
    while len(items) < k:
        first = random.randrange(2)
        before = len(items)
        for team in (first, 1 - first):
            pick = next((item for item in lists[team] if item not in items), None)
            if pick is not None and len(items) < k:
                items.append(pick)
                teams.append(team)
        if len(items) == before:
            break
    return items, teams


def draw(lists: Sequence[Sequence[int]], k: int, random: Random) -> tuple[list[int], list[float]]:
    """At most k different items of several lists, all equally probable at every position, and that probability."""
    pool = list(dict.fromkeys(item for each in lists for item in each))
    items = random.sample(pool, min(k, len(pool)))
    return items, [1 / len(pool)] * len(items)
