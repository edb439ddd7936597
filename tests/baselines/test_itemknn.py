from pathlib import Path

import numpy as np
from contract import RecommenderContract, make_catalogue
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.baselines import ItemKNN
from redraft.records import Catalogue, Interactions

N = 6
HISTORIES = st.lists(st.lists(st.integers(0, N - 1), max_size=8), min_size=1, max_size=6)


class TestItemKNNContract(RecommenderContract):
    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> ItemKNN:
        return ItemKNN.fit(train, catalogue)

    @classmethod
    def load(cls, path: Path) -> ItemKNN:
        return ItemKNN.load(path)


def slow_scores(train: list[list[int]], history: list[int], *, window: int, recent: int) -> list[float]:
    """The equation of the class, event by event."""
    scores = [0.0] * N
    popularity = [sum(h.count(i) for h in train) for i in range(N)]
    for place, item in enumerate(history[::-1][:recent], start=1):
        for events in train:
            for s in range(len(events)):
                for t in range(s + 1, min(s + window, len(events) - 1) + 1):
                    if events[s] == item:
                        scores[events[t]] += 1 / place / (t - s)
                    if events[t] == item:
                        scores[events[s]] += 0.5 / place / (t - s)
    return [score / (popularity[i] + 1) ** 0.25 for i, score in enumerate(scores)]


@settings(deadline=None)
@given(HISTORIES, st.lists(st.integers(0, N - 1), max_size=6), st.integers(1, 3), st.integers(1, 4))
def test_scores_equal_the_equation(train: list[list[int]], history: list[int], window: int, recent: int) -> None:
    model = ItemKNN.fit(Interactions.from_lists(train), make_catalogue(N), window=window, recent=recent)
    lists = model.recommend(Interactions.from_lists([history]), N, filter_seen=False)
    by_item = np.empty(N)
    by_item[lists.items[0]] = lists.scores[0]
    np.testing.assert_allclose(
        np.maximum(by_item, 0), slow_scores(train, history, window=window, recent=recent), rtol=1e-6
    )


def test_items_without_a_score_follow_in_popularity_order() -> None:
    train = Interactions.from_lists([[0, 1], [2], [4, 4], [3, 3, 3]])
    lists = ItemKNN.fit(train, make_catalogue(N)).recommend(Interactions.from_lists([[0]]), N)
    assert lists.items.tolist() == [[1, 3, 4, 2, 5, -1]]
