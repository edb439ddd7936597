import numpy as np
import torch

from redraft.records import Interactions
from redraft.tokenizer.collaborative import log_vectors


def two_shelves() -> Interactions:
    """40 users who buy from items 0 to 9 alone, and 40 from items 10 to 19 alone; nobody buys item 20."""
    rng = np.random.default_rng(0)
    return Interactions.from_lists([(rng.permutation(10) + 10 * (user % 2)).tolist() for user in range(80)])


def test_items_bought_together_lie_together() -> None:
    vectors = torch.from_numpy(log_vectors(two_shelves(), 21, 2, seed=0))
    assert vectors.shape == (21, 2)
    cosines = vectors[:20] @ vectors[:20].T
    assert float(cosines[:10, :10].min()) > 0.5
    assert float(cosines[:10, 10:].abs().max()) < 0.2
    assert not vectors[20].any()


def test_the_information_is_that_of_a_count_by_hand() -> None:
    """Histories 0 1 and 0 2: 0 meets each of the others with weight 1, so P(0, 1) = 1/4, P(0) = 1/2, P(1) = 1/4.

    The information of a pair is log(1/4 / (1/2 * 1/4)) = log 2; the matrix has rank 2.
    """
    vectors = log_vectors(Interactions.from_lists([[0, 1], [0, 2]]), 3, 2, seed=0)
    left, values, _ = np.linalg.svd(np.log(2) * np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]]))
    expected = left[:, :2] * values[:2] ** 0.5
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors @ vectors.T, expected @ expected.T, atol=1e-5)


def test_the_same_seed_gives_the_same_vectors() -> None:
    one, other = (log_vectors(two_shelves(), 21, 4, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one, other)
