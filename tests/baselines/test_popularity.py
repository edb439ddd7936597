from pathlib import Path

import pytest
from contract import RecommenderContract, make_catalogue

from redraft.baselines import Popularity
from redraft.records import Catalogue, InputError, Interactions


class TestPopularityContract(RecommenderContract):
    least_on_colour = 0.4  # everybody gets the same items

    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> Popularity:
        return Popularity.fit(train, catalogue)

    @classmethod
    def load(cls, path: Path) -> Popularity:
        return Popularity.load(path)


def test_most_events_first_and_equals_in_an_order_of_their_own() -> None:
    model = Popularity.fit(Interactions.from_lists([[3, 1, 3], [1, 2], [3]]), make_catalogue(5))
    lists = model.recommend(Interactions.from_lists([[], [1]]), 4)
    assert lists.items[:, 0].tolist() == [3, 3]
    assert lists.items[0, :3].tolist() == [3, 1, 2]
    assert lists.items[1, 1] == 2
    assert lists.scores.tolist() == [[3, 2, 1, 0], [3, 1, 0, 0]]


def test_training_on_an_unknown_item_is_an_error() -> None:
    with pytest.raises(InputError, match="history 1 names item 7, but items are 0 to 4"):
        Popularity.fit(Interactions.from_lists([[0], [1, 7]]), make_catalogue(5))
