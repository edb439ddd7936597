"""New items get semantic IDs by a tokenizer that does not move."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_catalogue, tiny_ids

from redraft.records import InputError, SemanticIds
from redraft.tokenizer.embed import item_texts, tfidf_vectors
from redraft.tokenizer.frozen import appended, extend, read_back
from redraft.train.tokenize import kmeans_ids

TEXTS = ["thing 3", "thing 4", "thing 3", "", "something else", "thing 29 a", "thing 3"]
IDS = tiny_ids(30, 3, 5)
TOKENIZER = read_back(tiny_catalogue(30), IDS)


@settings(max_examples=20)
@given(st.permutations(TEXTS), st.integers(0, len(TEXTS)))
def test_old_ids_stay_new_ones_are_unique_and_come_as_one_by_one(texts: list[str], cut: int) -> None:
    together = extend(TOKENIZER, IDS, texts)
    apart = extend(TOKENIZER, extend(TOKENIZER, IDS, texts[:cut]), texts[cut:])
    assert (together.codes[:30] == IDS.codes).all()
    assert (together.codes == apart.codes).all()
    assert len(np.unique(together.codes, axis=0)) == 30 + len(texts)


def test_an_item_of_the_catalogue_would_get_its_own_codes_again() -> None:
    """For residual k-means what is read back from the ids is what made them."""
    catalogue = tiny_catalogue(60, n_attributes=2)
    vectors = tfidf_vectors(item_texts(catalogue), dim=64, seed=0)
    ids, _ = kmeans_ids(vectors, levels=3, codebook_size=8, seed=0)
    tokenizer = read_back(catalogue, ids)
    fresh = SemanticIds(ids.codes[:1], ids.codebook_size)
    again = extend(tokenizer, fresh, item_texts(catalogue)[1:]).codes[1:]
    assert (again[:, 0] == ids.codes[1:, 0]).mean() > 0.9


def test_a_full_tree_says_so() -> None:
    ids = tiny_ids(27, 3, 3)
    with pytest.raises(InputError, match="28 items do not fit"):
        extend(read_back(tiny_catalogue(27), ids), ids, ["thing"])


def test_a_later_catalogue_in_any_order_keeps_the_ids_of_its_items() -> None:
    known, later = tiny_catalogue(30), tiny_catalogue(33)
    order = np.random.default_rng(0).permutation(33)
    shuffled = replace(
        later,
        ids=later.ids.gather(order),
        titles=later.titles.gather(order),
        descriptions=later.descriptions.gather(order),
        attributes=later.attributes[order],
    )
    found = appended(known, IDS, shuffled)
    old = order < 30
    assert (found.codes[old] == IDS.codes[order[old]]).all()
    assert found.n_items == 33
    assert appended(known, IDS, known).fingerprint == IDS.fingerprint
    lost = replace(later, ids=pl.Series("id", ["other", *later.ids[1:]]))
    with pytest.raises(InputError, match=r"1 items that have semantic IDs are not .* 'item-0'"):
        appended(known, IDS, lost)
