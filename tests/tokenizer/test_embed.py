import json
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from redraft.records import Catalogue, InputError
from redraft.tokenizer.embed import check_distinct, item_texts, load_vectors, sentence_vectors, tfidf_vectors, words

TEXTS = ["red lipstick", "red nail polish", "steel hammer", "steel nails", "brown lipstick"]


def catalogue(titles, descriptions, brands):
    values = pl.Series(sorted({b for b in brands if b}), dtype=pl.String)
    codes = [[-1 if b is None else values.to_list().index(b)] for b in brands]
    ids = pl.Series([f"B{i}" for i in range(len(titles))])
    text = pl.Series(titles, dtype=pl.String), pl.Series(descriptions, dtype=pl.String)
    return Catalogue(ids, *text, np.array(codes, dtype=np.int32), ("brand",), (values,))


def test_texts_hold_title_description_and_attributes_by_name():
    items = catalogue(["Hammer", "", "Nails "], ["of steel", "shiny", ""], ["Stanley", None, "Acme"])
    assert item_texts(items) == ["Hammer\nof steel\nbrand: Stanley", "shiny", "Nails\nbrand: Acme"]


def test_an_item_without_text_is_an_input_error_unless_allowed():
    items = catalogue(["Hammer", " ", ""], ["", "", ""], ["Acme", None, None])
    with pytest.raises(InputError, match=r"item 'B1' \(row 1\).*1 others.*--allow-empty") as error:
        item_texts(items)
    assert "\n" not in str(error.value)
    assert item_texts(items, allow_empty=True) == ["Hammer\nbrand: Acme", "", ""]


def test_tfidf_rows_have_length_one_and_similar_texts_are_near():
    vectors = tfidf_vectors(TEXTS, dim=3, seed=0)
    assert vectors.shape == (5, 3)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    similar = vectors @ vectors.T
    assert similar[0, 4] > similar[0, 2]
    np.testing.assert_array_equal(vectors, tfidf_vectors(TEXTS, dim=3, seed=0))


@pytest.mark.parametrize("texts", [TEXTS, ["one"], ["one", "two words"], ["word", ""]])
def test_tfidf_width_shrinks_to_a_small_catalogue(texts):
    vectors = tfidf_vectors(texts, dim=256, seed=0)
    assert vectors.shape[0] == len(texts)
    assert vectors.shape[1] <= 8
    assert np.isfinite(vectors).all()


def test_tfidf_without_a_word_is_an_input_error():
    with pytest.raises(InputError, match="no word in any of 2 texts"):
        tfidf_vectors(["", "!!"], dim=4, seed=0)


@given(st.text(st.characters(max_codepoint=0x2FF, exclude_characters="İ"), max_size=40))
def test_words_of_spaced_scripts_are_those_of_scikit_learn(text: str):
    assert words(text) == TfidfVectorizer(token_pattern=r"(?u)\b\w+\b").build_analyzer()(text)


def test_scripts_without_spaces_are_read_by_characters_and_pairs():
    assert words("红色 iPhone15 手机壳") == ["红", "色", "红色", "iphone15", "手", "机", "壳", "手机", "机壳"]
    assert words("हिन्दी Cafe\u0301") == ["हिन्दी", "cafe\u0301"]
    titles = ["红色手机壳", "蓝色手机壳", "红色连衣裙", "蓝色连衣裙"]
    similar = np.dot(vectors := tfidf_vectors(titles, dim=4, seed=0), vectors.T)
    assert similar[0, 1] > 0.3
    assert similar[0, 1] > similar[0, 2] > similar[0, 3]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A folder that sentence-transformers loads: a random one-layer BERT with the words of TEXTS."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("sentence_transformers")
    folder = tmp_path_factory.mktemp("tiny-bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({word for text in TEXTS for word in text.split()})]
    (folder / "vocab.txt").write_text("\n".join(words))
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    transformers.set_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


def test_sentence_vectors_from_a_local_folder(tiny_model):
    vectors = sentence_vectors(TEXTS, str(tiny_model), batch_size=2)
    assert vectors.shape == (5, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(sentence_vectors(TEXTS[::-1], str(tiny_model)), vectors[::-1], atol=1e-5)
    assert len(np.unique(vectors.round(4), axis=0)) == 5


def test_a_folder_that_holds_no_model_is_an_input_error(tmp_path):
    pytest.importorskip("sentence_transformers")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="not a model name or folder") as error:
        sentence_vectors(TEXTS, str(tmp_path))
    assert "\n" not in str(error.value)


def test_sentence_transformers_missing_is_an_input_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"pip install 'redraft\[text\]'"):
        sentence_vectors(TEXTS, "any/model")


def test_load_vectors_gives_rows_of_length_one(tmp_path):
    np.save(tmp_path / "v.npy", np.array([[3, 4], [0, 0], [0, 2]]))
    np.testing.assert_allclose(load_vectors(tmp_path / "v.npy", 3), [[0.6, 0.8], [0, 0], [0, 1]])


@pytest.mark.parametrize("factor", [1, 1e-30, 1e30])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_of_any_size_and_precision_keep_their_direction(tmp_path, dtype, factor):
    rng = np.random.default_rng(0)
    exact = (rng.normal(size=(40, 1024)) * 10).astype(dtype)
    exact = exact if dtype == np.float16 else exact * dtype(factor)  # float16 overflows by itself, at a norm of 256
    np.save(tmp_path / "v.npy", exact)
    directions = exact.astype(np.longdouble)
    directions /= np.sqrt(np.square(directions).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(load_vectors(tmp_path / "v.npy", 40), directions, atol=1e-6)


@pytest.mark.parametrize("vectors", [np.ones((4, 3)), np.zeros((4, 3)), np.outer([1, 2, 3, 7], [0.1, 0.7, 1.3])])
def test_equal_vectors_are_an_input_error(tmp_path, vectors):
    np.save(tmp_path / "v.npy", vectors)
    with pytest.raises(InputError, match=r"v\.npy: all item vectors are equal; give each item"):
        check_distinct(load_vectors(tmp_path / "v.npy", 4), tmp_path / "v.npy")
    vectors[2, 1] += 0.01
    np.save(tmp_path / "v.npy", vectors)
    check_distinct(load_vectors(tmp_path / "v.npy", 4), "v.npy")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((3, 0)), "not one array of numbers"),
        (np.array([[1.0, 2], [np.nan, 1], [1, 1]]), "row 1: NaN or infinite"),
        (np.array([[1.0, 2], [1, 1], [np.inf, 1]]), "row 2: NaN or infinite"),
        (np.ones((2, 4)), "2 rows for a catalogue of 3 items"),
        (np.ones(3), "not one array of numbers"),
        (np.array([["a"], ["b"], ["c"]]), "not one array of numbers"),
    ],
)
def test_a_bad_vector_file_is_an_input_error(tmp_path, array, message):
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(InputError, match=rf"v\.npy.*{message}"):
        load_vectors(tmp_path / "v.npy", 3)


def test_a_file_that_is_no_npy_is_an_input_error(tmp_path):
    broken_header = b"\x93NUMPY\x01\x00" + (64).to_bytes(2, "little") + b"{'descr': (".ljust(64)
    for content in (b"", b"text", b"\x93NUMPY\x01\x00", broken_header):
        (tmp_path / "v.npy").write_bytes(content)
        with pytest.raises(InputError, match=r"v\.npy: not "):
            load_vectors(tmp_path / "v.npy", 3)
    with pytest.raises(InputError, match="no such file"):
        load_vectors(tmp_path / "none.npy", 3)
