import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from redraft.baselines.ranking import PopularityOrder, recommend_in_batches, tie_keys, top_k
from redraft.records import InputError, Interactions


@settings(deadline=None)
@given(st.data())
def test_top_k_equals_sorting(data: st.DataObject) -> None:
    n_users, n_items = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 8))
    k = data.draw(st.integers(1, n_items))
    scores = data.draw(arrays(np.float64, (n_users, n_items), elements=st.sampled_from([-2.0, 0.0, 1.0, 3.0])))
    allow = data.draw(st.none() | arrays(np.bool_, (n_items,)) | arrays(np.bool_, (n_users, n_items)))
    seen = data.draw(st.lists(st.lists(st.integers(0, n_items - 1), max_size=4), min_size=n_users, max_size=n_users))
    filter_seen = data.draw(st.booleans())
    before = scores.copy()
    lists = top_k(scores, Interactions.from_lists(seen), k, filter_seen=filter_seen, allow=allow)
    np.testing.assert_array_equal(scores, before)
    histories = Interactions.from_lists(seen)
    users, items = tie_keys(histories, n_items)
    order = [sorted(range(n_items), key=lambda i: int(u) * int(items[i]) % 2**64) for u in users]
    masks = np.broadcast_to(True if allow is None else allow, scores.shape)
    for user in range(n_users):
        candidates = [i for i in range(n_items) if masks[user, i] and not (filter_seen and i in seen[user])]
        best = sorted(candidates, key=lambda i: (-scores[user, i], order[user].index(i)))[:k]
        padding = k - len(best)
        assert lists.items[user].tolist() == best + [-1] * padding
        assert lists.scores[user].tolist() == [scores[user, i] for i in best] + [-np.inf] * padding


def test_more_users_than_one_batch_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.baselines.ranking._BATCH_SCORES", 10)
    scores = np.random.default_rng(0).random((7, 5))
    sizes: list[int] = []

    def score(batch: Interactions) -> np.ndarray:
        sizes.append(batch.n_users)
        return scores[batch.items]

    histories = Interactions.from_lists([[u % 5] for u in range(7)])
    allow = np.random.default_rng(1).random((7, 5)) < 0.7
    lists = recommend_in_batches(score, 5, histories, 3, filter_seen=False, allow=allow)
    assert sizes == [2, 2, 2, 1]
    whole = top_k(scores[histories.items], histories, 3, filter_seen=False, allow=allow)
    np.testing.assert_array_equal(lists.items, whole.items)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (5, 2)])
def test_a_mask_of_another_shape_is_an_error(shape: tuple[int, ...]) -> None:
    histories = Interactions.from_lists([[0], [1]])
    with pytest.raises(InputError, match=r"it must be \(5,\) or \(2, 5\)"):
        recommend_in_batches(
            lambda batch: np.zeros((batch.n_users, 5)),
            5,
            histories,
            1,
            filter_seen=True,
            allow=np.ones(shape, dtype=np.bool_),
        )


def test_zero_scores_give_way_to_popularity() -> None:
    order = PopularityOrder.of(np.array([1, 5, 5, 0]))
    assert order.fill(np.array([[0.0, 0.0, 0.0, 0.1]])).tolist() == [[-3.0, -1.0, -1.0, 0.1]]


def test_a_scorer_that_knows_nothing_is_right_as_often_as_chance() -> None:
    """Though the targets are the lowest item numbers; 3 standard deviations of a proportion."""
    n_users, n_items, k = 4000, 500, 10
    rng = np.random.default_rng(0)
    histories = Interactions.from_lists(rng.integers(n_items, size=(n_users, 4)).tolist())
    lists = recommend_in_batches(
        lambda batch: np.zeros((batch.n_users, n_items)), n_items, histories, k, filter_seen=False, allow=None
    )
    chance = k / n_items
    for target in (0, 7, n_items - 1):
        share = (lists.items == target).any(axis=1).mean()
        assert abs(share - chance) < 3 * (chance * (1 - chance) / n_users) ** 0.5
    places = np.bincount(lists.items.ravel(), minlength=n_items)
    assert places.max() < 2 * places.mean()
    first = np.bincount(lists.items[:, 0], minlength=n_items)
    assert first.max() < 6 * first.mean()


def test_ties_do_not_depend_on_the_batch_and_follow_the_history() -> None:
    histories = Interactions.from_lists([[1, 2], [3], [1, 2], []])
    zeros = np.zeros((4, 50))
    together = top_k(zeros, histories, 5, filter_seen=False, allow=None).items.tolist()
    alone = [
        top_k(zeros[:1], histories.take(slice(u, u + 1)), 5, filter_seen=False, allow=None).items[0].tolist()
        for u in range(4)
    ]
    assert together == alone
    assert together[0] == together[2] != together[1]
