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


def test_most_events_first_then_lower_numbers() -> None:
    model = Popularity.fit(Interactions.from_lists([[3, 1, 3], [1, 2], [3]]), make_catalogue(5))
    lists = model.recommend(Interactions.from_lists([[], [1]]), 4)
    assert lists.items.tolist() == [[3, 1, 2, 0], [3, 2, 0, 4]]
    assert lists.scores[0].tolist() == [3, 2, 1, 0]


def test_training_on_an_unknown_item_is_an_error() -> None:
    with pytest.raises(InputError, match="history 1 names item 7, but items are 0 to 4"):
        Popularity.fit(Interactions.from_lists([[0], [1, 7]]), make_catalogue(5))
