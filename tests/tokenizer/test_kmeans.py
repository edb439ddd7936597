import numpy as np
import pytest

from redraft.records import InputError
from redraft.tokenizer.kmeans import nearest_codes, residual_kmeans
from redraft.tokenizer.report import relative_errors


def test_as_many_codes_as_items_leave_nothing_over():
    vectors = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    codebooks = residual_kmeans(vectors, levels=2, codebook_size=20, seed=0)
    codes = nearest_codes(vectors, codebooks)
    assert len(np.unique(codes[:, 0])) == 20
    np.testing.assert_allclose(codebooks[0][codes[:, 0]], vectors, atol=1e-6)


def test_each_level_leaves_less_than_the_one_before():
    vectors = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    codebooks = residual_kmeans(vectors, levels=4, codebook_size=16, seed=0)
    errors = relative_errors(vectors, nearest_codes(vectors, codebooks), codebooks, lambda latents: latents)
    assert (np.diff(errors, prepend=1.0) < 0).all()
    np.testing.assert_allclose(
        errors[0],
        np.square(vectors - codebooks[0][nearest_codes(vectors, codebooks)[:, 0]]).sum()
        / np.square(vectors - vectors.mean(axis=0)).sum(),
        rtol=1e-5,
    )


def test_nearest_codes_equal_an_exhaustive_search():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(50, 4)).astype(np.float32)
    codebooks = rng.normal(size=(3, 7, 4)).astype(np.float32)
    residual = vectors
    for level, codes in enumerate(nearest_codes(vectors, codebooks).T):
        distances = ((residual[:, None] - codebooks[level]) ** 2).sum(axis=-1)
        np.testing.assert_array_equal(codes, distances.argmin(axis=1))
        residual = residual - codebooks[level][codes]


def test_same_seed_same_codebooks():
    vectors = np.random.default_rng(2).normal(size=(200, 8)).astype(np.float32)
    once, again = (residual_kmeans(vectors, levels=3, codebook_size=16, seed=5) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_fewer_items_than_codes_is_an_input_error():
    with pytest.raises(InputError, match="300 codes cannot be fitted to 40 items; set codebook_size to 40 or less"):
        residual_kmeans(np.zeros((40, 4), dtype=np.float32), levels=4, codebook_size=300, seed=0)
