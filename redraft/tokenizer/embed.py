"""Items to vectors: by their words (TF-IDF), by a sentence-transformers model, or read from a file.

Every way ends in rows of length one, so that the settings of the quantisers carry over from one to another.
"""

from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np
import polars as pl
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.extmath import randomized_svd

from redraft.records import Catalogue, FloatArray, InputError

__all__ = ["item_texts", "load_vectors", "sentence_vectors", "tfidf_vectors"]


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
    """float32 [N, min(dim, N, words)]: sublinear TF-IDF over words, reduced by truncated SVD, rows of length one.

    An item without a word gets zeros. Raises InputError if no text holds a word.
    """
    try:
        words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit_transform(texts)
    except ValueError:
        raise InputError(f"item texts: no word in any of {len(texts)} texts; add text or give vectors") from None
    left, singular_values, _ = randomized_svd(words, min(dim, *words.shape), n_iter=5, random_state=seed)
    return _unit_rows(left * singular_values)


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
    try:
        vectors = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (ValueError, EOFError, TokenError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a .npy array ({reason}); write it with numpy.save") from None
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise InputError(f"{path}: not one array of numbers with a row an item; write it with numpy.save")
    if len(vectors) != n_items:
        raise InputError(
            f"{path}: {len(vectors)} rows for a catalogue of {n_items} items; write one row an item, in item order"
        )
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise InputError(
            f"{path}, row {broken[0]}: NaN or infinite, as in {len(broken) - 1} other rows; replace those vectors"
        )
    return _unit_rows(vectors)


def _unit_rows(vectors: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
