from itertools import product

import numpy as np
import pytest

from redraft.eval import holm, paired_test
from redraft.eval.metrics import ndcg, recall
from redraft.records import InputError


def random_ranks(n: int, seed: int) -> np.ndarray:
    ranks = np.random.default_rng(seed).integers(1, 40, n)
    return np.where(ranks > 20, -1, ranks)


def test_a_recommender_does_not_beat_itself() -> None:
    ranks = random_ranks(100, 0)
    result = paired_test(ranks, ranks, 10, n_resamples=200)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_swapped_recommenders_swap_the_sign() -> None:
    a, b = random_ranks(200, 1), random_ranks(200, 2)
    forth, back = paired_test(a, b, 10), paired_test(b, a, 10)
    assert forth.difference == -back.difference == pytest.approx(ndcg(a, 10).mean() - ndcg(b, 10).mean())
    assert forth.p_value == pytest.approx(back.p_value, abs=0.02)
    assert forth.low < forth.difference < forth.high


def test_p_value_equals_trying_every_sign() -> None:
    a, b = random_ranks(10, 3), random_ranks(10, 4)
    differences = ndcg(a, 10) - ndcg(b, 10)
    signs = np.array(list(product([-1, 1], repeat=10)))
    exact = (np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9).mean()
    assert paired_test(a, b, 10, n_resamples=40_000).p_value == pytest.approx(exact, abs=0.015)


def test_interval_equals_resampling_users() -> None:
    a, b = random_ranks(300, 5), random_ranks(300, 6)
    differences = ndcg(a, 10) - ndcg(b, 10)
    means = differences[np.random.default_rng(0).integers(0, 300, (5_000, 300))].mean(axis=1)
    result = paired_test(a, b, 10, n_resamples=5_000)
    assert [result.low, result.high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.003)


def test_a_clear_win_is_significant_and_recall_sees_only_the_cut_off() -> None:
    a, b = np.full(50, 2), np.full(50, 4)
    assert paired_test(a, b, 10, n_resamples=999).p_value == pytest.approx(0.001)
    assert paired_test(a, b, 10, gain=recall, n_resamples=999).p_value == 1
    assert paired_test(a, b, 3, gain=recall, n_resamples=999).difference == 1


def test_the_seed_repeats_the_test() -> None:
    a, b = random_ranks(100, 7), random_ranks(100, 8)
    first, second, other = (paired_test(a, b, 10, n_resamples=500, seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_blocks_of_draws_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.eval.significance._BLOCK_DRAWS", 50)
    a, b = random_ranks(100, 7), random_ranks(100, 8)
    result = paired_test(a, b, 10, n_resamples=501)
    assert result.low < result.difference < result.high
    assert (result.p_value * 502) % 1 == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("a", "b"), [([1, 2], [1]), ([], [])])
def test_other_users_are_an_error(a: list[int], b: list[int]) -> None:
    with pytest.raises(InputError, match="the same users twice"):
        paired_test(np.array(a), np.array(b), 10)


def test_holm() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    assert holm([]).shape == (0,)
