from pathlib import Path

from contract import RecommenderContract, make_catalogue

from redraft.baselines import Markov
from redraft.records import Catalogue, Interactions


class TestMarkovContract(RecommenderContract):
    @classmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> Markov:
        return Markov.fit(train, catalogue)

    @classmethod
    def load(cls, path: Path) -> Markov:
        return Markov.load(path)


def test_successors_by_count_then_first_met_then_popularity() -> None:
    train = Interactions.from_lists([[0, 4], [0, 3], [0, 2], [1, 0, 2], [5, 5, 5, 1]])
    lists = Markov.fit(train, make_catalogue(6)).recommend(Interactions.from_lists([[0], [1, 0], []]), 5)
    assert lists.items[:2].tolist() == [[2, 4, 3, 5, 1], [2, 4, 3, 5, -1]]
    *first, last = lists.items[2].tolist()
    assert [first[:2], sorted(first[2:])] == [[0, 5], [1, 2]]
    assert last in (3, 4)


def test_one_users_end_is_not_followed_by_the_next_ones_start() -> None:
    model = Markov.fit(Interactions.from_lists([[0, 1], [2, 3], [], [3, 2]]), make_catalogue(4))
    assert model.transitions.nnz == 3
    assert model.transitions[1, 2] == 0
