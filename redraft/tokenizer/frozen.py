"""Semantic IDs for items that came after the tokenizer was made: what is there never changes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.extmath import randomized_svd

from redraft.ids import places_among
from redraft.records import Catalogue, FloatArray, InputError, SemanticIds
from redraft.tokenizer.collisions import check_room, nearest_free, prefix_keys, residual_distances
from redraft.tokenizer.embed import item_texts, words
from redraft.tokenizer.kmeans import nearest_codes

__all__ = ["FrozenTokenizer", "appended", "extend", "read_back"]

DIM = 64
SEED = 0


@dataclass(frozen=True)
class FrozenTokenizer:
    """From texts to codes: TF-IDF as fitted to a catalogue, and the vector that each code stands for.

    directions: [words, D], from weights of words to vectors. codebooks: [L, C, D], residual codes; a code that no item
    has lies infinitely far away.
    """

    weights: TfidfVectorizer
    directions: FloatArray
    codebooks: FloatArray

    def vectors(self, texts: Sequence[str]) -> FloatArray:
        """float32 [n, D], rows of length one; zeros for a text without a known word."""
        return _unit(np.asarray(self.weights.transform(texts) @ self.directions))


def read_back(catalogue: Catalogue, ids: SemanticIds) -> FrozenTokenizer:
    """The tokenizer that semantic IDs of a catalogue imply, however they were made.

    What a code stands for is the mean of what the codes before it leave of its items' vectors: for residual k-means
    that is its centre, for published ids the best linear reading of them. Works from the artifacts of any run.
    """
    texts = item_texts(catalogue, allow_empty=True)
    weights = TfidfVectorizer(sublinear_tf=True, analyzer=words)
    matrix = weights.fit_transform([*texts, "nothing"])[:-1]  # one word there is, even if no item has text
    _, _, right = randomized_svd(matrix, min(DIM, *matrix.shape), n_iter=5, random_state=SEED)
    residual = _unit(np.asarray(matrix @ right.T))
    codebooks = np.full((ids.n_levels, ids.codebook_size, residual.shape[1]), np.inf, dtype=np.float32)
    for level, codes in enumerate(ids.codes.T):
        sums = np.zeros((ids.codebook_size, residual.shape[1]), dtype=np.float64)
        np.add.at(sums, codes, residual)
        counts = np.bincount(codes, minlength=ids.codebook_size)
        used = counts > 0
        codebooks[level, used] = sums[used] / counts[used, None]
        residual = residual - codebooks[level][codes]
    return FrozenTokenizer(weights, right.T.astype(np.float32), codebooks)


def extend(tokenizer: FrozenTokenizer, ids: SemanticIds, texts: Sequence[str]) -> SemanticIds:
    """The same ids with a row for each new text below them; old rows stay as they are, and all are unique.

    Items come one after another: the same texts give the same codes, together or one by one. An item whose codes are
    taken gets the nearest free ones, see resolve_collisions. Raises InputError if there is no room.
    """
    if not texts:
        return ids
    check_room(ids.n_items + len(texts), ids.n_levels, ids.codebook_size)
    finite = np.where(np.isfinite(tokenizer.codebooks), tokenizer.codebooks, np.float32(1e6))
    vectors = tokenizer.vectors(texts)
    wanted = nearest_codes(vectors, finite)
    distances = residual_distances(vectors, finite)
    added, taken = [], np.sort(prefix_keys(ids.codes, ids.codebook_size)[:, -1])
    for item, own in enumerate(wanted):
        key = prefix_keys(own[None], ids.codebook_size)[0, -1]
        at = np.searchsorted(taken, key)
        if at < len(taken) and taken[at] == key:
            own = nearest_free(item, own, ids.codebook_size, taken, Counter(), distances)
            key = prefix_keys(own[None], ids.codebook_size)[0, -1]
            at = np.searchsorted(taken, key)
        taken = np.insert(taken, at, key)
        added.append(own)
    return SemanticIds(np.concatenate([ids.codes, np.array(added, dtype=np.int32)]), ids.codebook_size)


def appended(known: Catalogue, ids: SemanticIds, catalogue: Catalogue) -> SemanticIds:
    """Semantic IDs of a later catalogue, in its order: those of known items stay, new ones get theirs by `extend`.

    Raises InputError if the later catalogue lacks an item that has an ID, and as `extend`.
    """
    lost = known.ids.filter(~known.ids.is_in(catalogue.ids.implode()))
    if len(lost):
        raise InputError(
            f"{len(lost):,} items that have semantic IDs are not in the catalogue any more, the first is {lost[0]!r}; "
            "give the events and items that they came from again"
        )
    places = places_among(known.ids, catalogue.ids)
    new = np.flatnonzero(places < 0)
    texts = item_texts(catalogue, allow_empty=True)
    more = extend(read_back(known, ids), ids, [texts[item] for item in new]) if len(new) else ids
    places[new] = ids.n_items + np.arange(len(new))
    return SemanticIds(more.codes[places], ids.codebook_size)


def _unit(vectors: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: FloatArray = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return unit
