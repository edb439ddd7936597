"""Items to vectors: by their words (TF-IDF), by a sentence-transformers model, or read from a file.

Every way ends in rows of length one, so that the settings of the quantisers carry over from one to another.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.extmath import randomized_svd

from redraft.arrays import read_array
from redraft.records import Catalogue, FloatArray, InputError

__all__ = ["check_distinct", "item_texts", "load_vectors", "sentence_vectors", "tfidf_vectors", "words"]

# Scripts that put no space between words: Thai, Lao, Burmese, Khmer, Japanese kana, Chinese characters.
UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
# Accents and vowel signs, which belong to the word they stand in: combining, Hebrew, Arabic, of India.
MARKS = r"\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
_WORD = re.compile(rf"([{UNSPACED}]+)|((?:[^\W{UNSPACED}]|[{MARKS}])+)")
ROUNDING = 1e-6
"""Unit rows in float32 that differ by no more than this differ by rounding."""


def item_texts(catalogue: Catalogue, *, allow_empty: bool = False, source: Path | str = "catalogue") -> list[str]:
    """One text an item: title, description, then "name: value" for each attribute that is known.

    source: where the catalogue was read from, for messages.
    Raises InputError for an item with none of them, unless allow_empty: its text is then "".
    """
    parts = {"title": catalogue.titles, "description": catalogue.descriptions}
    for k, name in enumerate(catalogue.attribute_names):
        codes = pl.Series(catalogue.attributes[:, k])
        values = catalogue.attribute_values[k].cast(pl.String).gather(codes.set(codes < 0, None))
        parts[f"attribute {k}"] = f"{name}: " + values
    stripped = pl.DataFrame(parts).select(pl.all().str.strip_chars().replace("", None))
    texts = stripped.select(pl.concat_str(pl.all(), separator="\n", ignore_nulls=True)).to_series()
    empty = (texts == "").arg_true()
    if len(empty) and not allow_empty:
        raise InputError(
            f"{source}, item {catalogue.ids[empty[0]]!r} (row {empty[0]}): no title, description or attribute to "
            f"make a vector from, nor for {len(empty) - 1} others; add text, or pass --allow-empty"
        )
    return texts.to_list()


def tfidf_vectors(texts: Sequence[str], *, dim: int, seed: int) -> FloatArray:
    """float32 [N, min(dim, N, words)]: sublinear TF-IDF over `words`, reduced by truncated SVD, rows of length one.

    An item without a word gets zeros. Raises InputError if no text holds a word.
    """
    try:
        weights = TfidfVectorizer(sublinear_tf=True, analyzer=words).fit_transform(texts)
    except ValueError:
        raise InputError(f"item texts: no word in any of {len(texts)} texts; add text or give vectors") from None
    left, singular_values, _ = randomized_svd(weights, min(dim, *weights.shape), n_iter=5, random_state=seed % 2**32)
    return _unit_rows(left * singular_values)


def words(text: str) -> list[str]:
    """The words of a text in lower case; of scripts without spaces, every character and every pair of neighbours."""
    parts = []
    for run, word in _WORD.findall(text.lower()):
        parts += [word] if word else [*run, *map("".join, pairwise(run))]
    return parts


def sentence_vectors(texts: Sequence[str], model: str, *, batch_size: int = 32) -> FloatArray:
    """float32 [N, D] from a sentence-transformers model, given by name or local folder; rows of length one.

    Raises InputError if sentence-transformers is not installed or the model cannot be loaded.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise InputError(
            f"vectors {model!r}: sentence-transformers is not installed; run: pip install 'redraft[text]'"
        ) from None
    try:
        encoder = SentenceTransformer(model)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"vectors {model!r}: not a model name or folder that sentence-transformers can load ({reason}); "
            "check the spelling, or use tfidf"
        ) from None
    return _unit_rows(encoder.encode(list(texts), batch_size=batch_size, convert_to_numpy=True))


def load_vectors(path: Path, n_items: int) -> FloatArray:
    """float32 [N, D] from a .npy file whose row n belongs to item n, scaled to rows of length one.

    Raises InputError if the file is not a numeric [N, D] array of finite numbers.
    """
    vectors = read_array(path)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or not vectors.shape[1]:
        raise InputError(f"{path}: not one array of numbers with a row per item; write it with numpy.save")
    if len(vectors) != n_items:
        raise InputError(
            f"{path}: {len(vectors)} rows for a catalogue of {n_items} items; write one row per item, in item order"
        )
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise InputError(
            f"{path}, row {broken[0]}: NaN or infinite, as in {len(broken) - 1} other rows; replace those vectors"
        )
    return _unit_rows(vectors)


def check_distinct(vectors: FloatArray, source: object) -> None:
    """Raise InputError if all rows of length one, float32 [N, D], are equal up to rounding: no code tells them apart.

    So also for a single row. source: what they were made from, for messages.
    """
    if len(vectors) < 2:
        raise InputError(f"{source}: one item, and nothing to choose from; give more items")
    if not (np.ptp(vectors, axis=0) > ROUNDING).any():
        raise InputError(f"{source}: all item vectors are equal; give each item a text or a vector of its own")


def _unit_rows(vectors: FloatArray) -> FloatArray:
    """Scaled by powers of two first, which changes no digit: else the squares of a row may overflow or vanish."""
    wide = vectors.astype(np.promote_types(vectors.dtype, np.float32))
    largest = np.abs(wide).max(axis=1, keepdims=True)
    scaled = np.ldexp(wide, -np.frexp(largest)[1])
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    return (scaled / np.where(lengths > 0, lengths, 1)).astype(np.float32)
