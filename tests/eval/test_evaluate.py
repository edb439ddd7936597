from pathlib import Path

import numpy as np
import polars as pl
import pytest

from redraft.eval import evaluate, save_ranks
from redraft.records import BoolArray, Holdout, InputError, Interactions, Recommendations


class Countdown:
    """Recommends item N - 1, N - 2, ... to everybody, and remembers how many users it was asked for at a time."""

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items
        self.batches: list[int] = []

    def recommend(
        self, histories: Interactions, k: int, *, filter_seen: bool = True, allow: BoolArray | None = None
    ) -> Recommendations:
        if k > self.n_items:
            raise InputError(f"k = {k} of {self.n_items} items")
        self.batches.append(histories.n_users)
        items = np.full((histories.n_users, k), -1)
        for user in range(histories.n_users):
            seen = set(histories.history(user).tolist()) if filter_seen else set()
            left = [i for i in range(self.n_items - 1, -1, -1) if i not in seen][:k]
            items[user, : len(left)] = left
        return Recommendations(items, np.where(items >= 0, items.astype(np.float32), -np.inf).astype(np.float32))

    def save(self, path: Path) -> None:
        raise NotImplementedError


HOLDOUT = Holdout(Interactions.from_lists([[9, 8], [], [7], [1, 7]]), np.array([7, 9, 7, 2]))


@pytest.mark.parametrize("batch_users", [1, 3, 100])
def test_ranks_and_metrics_do_not_depend_on_the_batch(batch_users: int) -> None:
    result = evaluate(Countdown(10), HOLDOUT, ks=(1, 5), filter_seen=True, batch_users=batch_users)
    assert result.ranks.tolist() == [1, 1, -1, -1]
    assert result.metrics == {"R@1": 0.5, "N@1": 0.5, "R@5": 0.5, "N@5": 0.5}
    assert result.filter_seen
    assert result.n_unreachable == 1


def test_without_filtering_every_target_can_be_reached() -> None:
    result = evaluate(Countdown(10), HOLDOUT, ks=(10,), filter_seen=False)
    assert result.ranks.tolist() == [3, 1, 3, 8]
    assert result.n_unreachable == 0


def test_progress_counts_users() -> None:
    done: list[int] = []
    model = Countdown(10)
    evaluate(model, HOLDOUT, ks=(5,), filter_seen=True, batch_users=3, progress=done.append)
    assert done == [3, 4]
    assert model.batches == [3, 1]


def test_a_k_beyond_the_catalogue_is_an_error() -> None:
    with pytest.raises(InputError, match="k = 200 of 10 items"):
        evaluate(Countdown(10), HOLDOUT, filter_seen=True)


def test_no_users_is_an_error() -> None:
    with pytest.raises(InputError, match="no users"):
        evaluate(Countdown(10), Holdout(Interactions.from_lists([]), np.array([], dtype=int)), filter_seen=True)


def test_saved_ranks(tmp_path: Path) -> None:
    path = tmp_path / "ranks.parquet"
    save_ranks(path, HOLDOUT, evaluate(Countdown(10), HOLDOUT, ks=(5,), filter_seen=True).ranks)
    assert pl.read_parquet(path).to_dict(as_series=False) == {
        "user": [0, 1, 2, 3],
        "target": [7, 9, 7, 2],
        "rank": [1, 1, None, None],
        "history_length": [2, 0, 1, 2],
    }
    assert list(tmp_path.iterdir()) == [path]
