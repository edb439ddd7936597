"""What every recommender must keep, on a checkerboard whose right answer is known.

Even users meet even items only, odd users odd items only, so that a recommendation must stay on the user's colour.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest

from redraft.records import Catalogue, InputError, Interactions, Recommendations, Recommender

N_ITEMS = 24
N_USERS = 240
LENGTH = 6


def make_catalogue(n_items: int = N_ITEMS) -> Catalogue:
    """Items without text whose one attribute is their colour."""
    names = pl.Series([f"item {i}" for i in range(n_items)])
    blank = pl.Series([""] * n_items)
    colours = (np.arange(n_items, dtype=np.int32) % 2)[:, None]
    return Catalogue(names, blank, blank, colours, ("colour",), (pl.Series(["even", "odd"]),))


def checkerboard() -> Interactions:
    """Each user's LENGTH different items of their own colour, in random order."""
    rng = np.random.default_rng(0)
    places = rng.permuted(np.tile(np.arange(N_ITEMS // 2), (N_USERS, 1)), axis=1)[:, :LENGTH]
    items = 2 * places + np.arange(N_USERS)[:, None] % 2
    return Interactions.from_lists(items.tolist())


def queries() -> Interactions:
    """Histories of 1 to LENGTH items, both colours of every length."""
    board = checkerboard()
    return Interactions.from_lists([board.history(u)[-(1 + u // 2 % LENGTH) :].tolist() for u in range(4 * LENGTH)])


def assert_same(first: Recommendations, second: Recommendations) -> None:
    np.testing.assert_array_equal(first.items, second.items)
    np.testing.assert_allclose(first.scores, second.scores, rtol=1e-5, atol=1e-6)


class RecommenderContract(ABC):
    """Inherit as `class TestMine(RecommenderContract)` and give `make` and `load`."""

    least_on_colour: ClassVar[float] = 1.0
    """Share of the recommended items that must have the user's colour; below 1 only for what is not personal (chance
    is 0.5) or is learnt by gradient descent."""

    model: ClassVar[Recommender]

    @classmethod
    @abstractmethod
    def make(cls, train: Interactions, catalogue: Catalogue) -> Recommender:
        """A recommender fitted to these events, the same one each time."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Recommender:
        """The recommender that was saved there."""

    @classmethod
    def setup_class(cls) -> None:
        cls.model = cls.make(checkerboard(), make_catalogue())

    def test_stays_on_the_users_colour(self) -> None:
        lists = self.model.recommend(queries(), 5)
        colours = np.array([history[0] % 2 for history in map(queries().history, range(queries().n_users))])
        assert (lists.items % 2 == colours[:, None]).mean() >= self.least_on_colour

    @pytest.mark.parametrize("filter_seen", [True, False])
    def test_lists_are_sorted_without_duplicates_and_marked_where_short(self, filter_seen: bool) -> None:
        lists = self.model.recommend(queries(), N_ITEMS, filter_seen=filter_seen)
        assert lists.items.shape == lists.scores.shape == (queries().n_users, N_ITEMS)
        assert (lists.scores[:, :-1] >= lists.scores[:, 1:]).all()
        np.testing.assert_array_equal(lists.items == -1, np.isneginf(lists.scores))
        for items in lists.items:
            real = items[items >= 0]
            assert len(set(real.tolist())) == len(real)

    def test_seen_items_are_left_out_and_all_others_are_there(self) -> None:
        lists = self.model.recommend(queries(), N_ITEMS, filter_seen=True)
        for user, items in enumerate(lists.items):
            unseen = set(range(N_ITEMS)) - set(queries().history(user).tolist())
            assert set(items[: len(unseen)].tolist()) == unseen
            assert (items[len(unseen) :] == -1).all()

    def test_a_list_is_not_short_because_of_filtering(self) -> None:
        assert (self.model.recommend(queries(), N_ITEMS - LENGTH, filter_seen=True).items >= 0).all()

    def test_seen_items_may_come_back_when_not_filtered(self) -> None:
        lists = self.model.recommend(queries(), N_ITEMS, filter_seen=False)
        np.testing.assert_array_equal(np.sort(lists.items, axis=1), np.tile(np.arange(N_ITEMS), (len(lists.items), 1)))

    def test_a_shorter_list_is_the_head_of_a_longer_one(self) -> None:
        short, full = (self.model.recommend(queries(), k) for k in (3, 10))
        assert_same(short, Recommendations(full.items[:, :3], full.scores[:, :3]))

    def test_one_mask_for_all_users(self) -> None:
        allow = np.zeros(N_ITEMS, dtype=np.bool_)
        allow[::3] = True
        lists = self.model.recommend(queries(), N_ITEMS, filter_seen=False, allow=allow)
        n_allowed = int(allow.sum())
        assert (np.sort(lists.items[:, :n_allowed], axis=1) == np.flatnonzero(allow)).all()
        assert (lists.items[:, n_allowed:] == -1).all()

    def test_a_mask_for_each_user(self) -> None:
        allow = np.random.default_rng(1).random((queries().n_users, N_ITEMS)) < 0.5
        lists = self.model.recommend(queries(), N_ITEMS, filter_seen=True, allow=allow)
        for user, items in enumerate(lists.items):
            wanted = set(np.flatnonzero(allow[user]).tolist()) - set(queries().history(user).tolist())
            assert set(items[: len(wanted)].tolist()) == wanted
            assert (items[len(wanted) :] == -1).all()

    def test_more_items_than_the_catalogue_holds_is_an_error(self) -> None:
        with pytest.raises(InputError, match=str(N_ITEMS + 1)):
            self.model.recommend(queries(), N_ITEMS + 1)

    @pytest.mark.parametrize("unknown", [N_ITEMS, -1])
    def test_an_unknown_item_in_a_history_is_an_error(self, unknown: int) -> None:
        with pytest.raises(InputError, match=str(unknown)):
            self.model.recommend(Interactions.from_lists([[0, 2], [1, unknown]]), 5)

    def test_an_empty_history_gets_a_full_list(self) -> None:
        lists = self.model.recommend(Interactions.from_lists([[], [0, 2]]), N_ITEMS)
        assert sorted(lists.items[0].tolist()) == list(range(N_ITEMS))

    def test_no_users_get_no_lists(self) -> None:
        assert self.model.recommend(Interactions.from_lists([]), 5).items.shape == (0, 5)

    def test_saved_and_loaded_it_recommends_the_same(self, tmp_path: Path) -> None:
        self.model.save(tmp_path / "model")
        loaded = self.load(tmp_path / "model")
        first, second = (model.recommend(queries(), 10) for model in (self.model, loaded))
        np.testing.assert_array_equal(first.items, second.items)
        np.testing.assert_array_equal(first.scores, second.scores)

    def test_a_batch_equals_one_by_one(self) -> None:
        together = self.model.recommend(queries(), 10)
        alone = [self.model.recommend(queries().take(slice(u, u + 1)), 10) for u in range(queries().n_users)]
        assert_same(
            together,
            Recommendations(np.concatenate([a.items for a in alone]), np.concatenate([a.scores for a in alone])),
        )

    def test_fitted_twice_it_recommends_the_same(self) -> None:
        again = self.make(checkerboard(), make_catalogue())
        assert_same(self.model.recommend(queries(), 10), again.recommend(queries(), 10))
