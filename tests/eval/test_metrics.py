import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from redraft.eval import check_identity, ranking_metrics, ranks_of
from redraft.eval.metrics import GAINS, recall
from redraft.records import InputError

RANKS = arrays(np.int64, st.integers(1, 20), elements=st.sampled_from([-1, *range(1, 31)]))
KS = st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True)


@settings(deadline=None)
@given(st.lists(st.tuples(st.permutations(range(6)), st.integers(0, 8)), min_size=1, max_size=5), st.integers(1, 6))
def test_ranks_equal_a_search_item_by_item(users: list[tuple[list[int], int]], k: int) -> None:
    items = np.array([items[:k] for items, _ in users])
    targets = np.array([target for _, target in users])
    slow = [items[:k].index(target) + 1 if target in items[:k] else -1 for items, target in users]
    assert ranks_of(items, targets).tolist() == slow


def test_padding_is_never_a_hit() -> None:
    assert ranks_of(np.array([[4, -1, -1]]), np.array([2])).tolist() == [-1]


@settings(deadline=None)
@given(RANKS, KS)
def test_metrics_equal_a_loop_over_users(ranks: np.ndarray, ks: list[int]) -> None:
    metrics = ranking_metrics(ranks, ks)
    assert list(metrics) == [f"{name}@{k}" for k in ks for name in "RN"]
    for k in ks:
        found = [rank for rank in ranks.tolist() if 1 <= rank <= k]
        assert metrics[f"R@{k}"] == pytest.approx(len(found) / len(ranks))
        assert metrics[f"N@{k}"] == pytest.approx(sum(1 / math.log2(rank + 1) for rank in found) / len(ranks))


def test_a_new_metric_is_its_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GAINS, "M", lambda ranks, k: recall(ranks, k) / np.maximum(ranks, 1))
    metrics = ranking_metrics(np.array([1, 4, -1, 30]), [5])
    assert metrics == {"R@5": 0.5, "N@5": (1 + 1 / math.log2(5)) / 4, "M@5": (1 + 1 / 4) / 4}


def test_known_values() -> None:
    metrics = ranking_metrics(np.array([1, 3, 7, -1]), (1, 5, 10))
    assert metrics == pytest.approx(
        {"R@1": 0.25, "N@1": 0.25, "R@5": 0.5, "N@5": 0.375, "R@10": 0.75, "N@10": 0.375 + 1 / 12}
    )


@settings(deadline=None)
@given(RANKS, KS)
def test_every_ranking_keeps_the_identity(ranks: np.ndarray, ks: list[int]) -> None:
    metrics = ranking_metrics(ranks, ks)
    check_identity(metrics)
    check_identity({name: round(value, 4) for name, value in metrics.items()}, rounding=5e-5)


@pytest.mark.parametrize(
    ("row", "possible"),
    [
        ((0.0849, 0.0715, 0.1078, 0.0776), False),  # TIGER in table 1 of the GRC paper
        ((0.0912, 0.0771, 0.1148, 0.0812), False),  # GRC_SFT there
        ((0.0946, 0.0794, 0.1208, 0.0873), True),  # GRC_RL there
        ((0.0594, 0.0436, 0.0817, 0.0507), True),
    ],
)
def test_published_rows(row: tuple[float, ...], possible: bool) -> None:
    metrics = dict(zip(("R@5", "N@5", "R@10", "N@10"), row))
    if possible:
        check_identity(metrics, rounding=5e-5)
    else:
        with pytest.raises(InputError, match=r"N@10 - N@5 .* between 0\.289 and 0\.356 times R@10 - R@5"):
            check_identity(metrics, rounding=5e-5)


@pytest.mark.parametrize(
    "metrics",
    [
        {"R@5": 0.2, "N@5": 0.21},
        {"R@5": 0.2, "N@5": 0.07},
        {"R@5": 0.2, "N@5": 0.1, "R@10": 0.19, "N@10": 0.1},
    ],
)
def test_impossible_metrics_are_an_error(metrics: dict[str, float]) -> None:
    with pytest.raises(InputError, match="no ranking gives these numbers"):
        check_identity(metrics)


def test_other_numbers_are_left_alone() -> None:
    check_identity({"R@5": 0.2, "N@5": 0.1, "R@10": 0.9, "loss": 3.0})
