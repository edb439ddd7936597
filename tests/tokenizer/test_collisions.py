from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from redraft.records import InputError, SemanticIds
from redraft.tokenizer.collisions import prefix_keys, residual_distances, resolve_collisions, sharing


@st.composite
def crowded_codes(draw):
    """Codes [N, L] that fit C^L sequences, often with little or no room to spare, and C."""
    codebook_size, levels = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    n_items = draw(st.integers(1, min(40, codebook_size**levels)))
    elements = st.integers(0, draw(st.integers(0, codebook_size - 1)))
    return draw(hnp.arrays(np.int32, (n_items, levels), elements=elements)), codebook_size


def geometry(codes, codebook_size, seed):
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(len(codes), 3))
    codebooks = rng.normal(size=(codes.shape[1], codebook_size, 3))
    return residual_distances(latents, codebooks)


@pytest.mark.parametrize("with_distances", [False, True])
@settings(deadline=None)
@given(case=crowded_codes(), seed=st.integers(0, 9))
def test_result_is_unique_in_range_idempotent_and_moves_only_colliders(with_distances, case, seed):
    codes, size = case
    distances = geometry(codes, size, seed) if with_distances else None
    resolved = resolve_collisions(codes, size, distances)
    SemanticIds(resolved, size)  # raises if a code is out of range or shared
    np.testing.assert_array_equal(resolve_collisions(resolved, size, distances), resolved)
    np.testing.assert_array_equal(resolve_collisions(codes, size, distances), resolved)
    _, first = np.unique(codes, axis=0, return_index=True)
    np.testing.assert_array_equal(resolved[first], codes[first])


@settings(deadline=None)
@given(case=crowded_codes(), seed=st.integers(0, 9))
def test_equals_the_plain_search_over_all_sequences(case, seed):
    """Oracle: try every sequence in order of (longest own prefix kept, then distance level by level)."""
    codes, size = case
    distances = geometry(codes, size, seed)
    levels = codes.shape[1]
    taken = {tuple(row) for row in codes.tolist()}
    seen, expected = set(), codes.copy()
    for item, own in enumerate(codes.tolist()):
        if tuple(own) not in seen:
            seen.add(tuple(own))
            continue

        def cost(sequence, item=item, own=own):
            kept = next((i for i in range(levels) if sequence[i] != own[i]), levels)
            return -kept, [distances(item, np.array(sequence[:i], dtype=int))[sequence[i]] for i in range(levels)]

        expected[item] = min((s for s in product(range(size), repeat=levels) if s not in taken), key=cost)
        taken.add(tuple(expected[item].tolist()))
    np.testing.assert_array_equal(resolve_collisions(codes, size, distances), expected)


def test_numeric_order_takes_the_next_free_code_and_wraps():
    codes = np.array([[0, 2], [0, 2], [0, 3], [0, 2], [1, 0]])
    assert resolve_collisions(codes, 4).tolist() == [[0, 2], [0, 0], [0, 3], [0, 1], [1, 0]]


def test_a_full_prefix_sends_the_item_to_the_next_prefix_with_room():
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [0, 0]])
    with pytest.raises(InputError, match="5 items do not fit 2 levels of 2 codes"):
        resolve_collisions(codes, 2)
    assert resolve_collisions(codes[[0, 1, 0, 2]], 2).tolist() == [[0, 0], [0, 1], [1, 1], [1, 0]]


def test_the_nearest_free_code_is_measured_from_the_residual():
    codebooks = np.array([[[10.0], [0.0]], [[1.0], [-1.0]]])
    codes = np.array([[0, 0], [0, 0]])
    assert resolve_collisions(codes, 2, residual_distances(np.array([[11.0], [10.9]]), codebooks))[1].tolist() == [0, 1]


@settings(deadline=None)
@given(case=crowded_codes())
def test_prefix_keys_are_equal_exactly_for_equal_prefixes(case):
    codes, size = case
    keys = prefix_keys(codes, size)
    for level in range(codes.shape[1]):
        same = (codes[:, None, : level + 1] == codes[None, :, : level + 1]).all(axis=-1)
        np.testing.assert_array_equal(keys[:, None, level] == keys[None, :, level], same)
        assert sharing(codes, size)[level] == (same.sum(axis=1) > 1).sum()
