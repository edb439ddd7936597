import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from redraft.records import InputError, SemanticIds
from redraft.tokenizer.semantic_ids import load_semantic_ids, read_published, read_published_codes, save_semantic_ids

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
IDS = SemanticIds(np.array([[0, 1], [2, 3], [2, 1]], dtype=np.int32), 4)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 4), st.integers(3, 9), st.integers(0, 99))
def test_saved_and_loaded_ids_are_identical(tmp_path_factory, n_items, levels, codebook_size, seed):
    n_items = min(n_items, codebook_size**levels)
    keys = np.random.default_rng(seed).permutation(codebook_size**levels)[:n_items]
    codes = np.stack(np.unravel_index(keys, (codebook_size,) * levels), axis=1)
    ids = SemanticIds(codes.astype(np.int32), codebook_size)
    path = tmp_path_factory.mktemp("ids") / "semantic_ids.safetensors"
    save_semantic_ids(ids, path, source={"method": "test", "config": {"levels": levels}})
    loaded = load_semantic_ids(path)
    np.testing.assert_array_equal(loaded.codes, ids.codes)
    assert (loaded.codes.dtype, loaded.codebook_size) == (np.int32, codebook_size)
    assert loaded.fingerprint == ids.fingerprint
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    before = path.read_bytes()
    save_semantic_ids(loaded, path, source={"method": "test", "config": {"levels": levels}})
    assert path.read_bytes() == before


def rewrite(path, codes=None, **changes):
    """The same file with other codes or metadata."""
    about = {"format_version": 1, "codebook_size": 4, "fingerprint": IDS.fingerprint, "source": {}} | changes
    save_file({"codes": IDS.codes if codes is None else codes}, path, metadata={"redraft": json.dumps(about)})


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b""), "not a readable file of semantic IDs|no readable .redraft."),
        (
            lambda path: path.write_bytes(b"hello, world " * 9),
            "not a readable file of semantic IDs|no readable .redraft.",
        ),
        (
            lambda path: save_file({"codes": IDS.codes}, path),
            "not a readable file of semantic IDs|no readable .redraft.",
        ),
        (
            lambda path: save_file({"codes": IDS.codes}, path, metadata={"redraft": "{"}),
            "not a readable file of semantic IDs|no readable .redraft.",
        ),
        (lambda path: rewrite(path, format_version=2), "format version 2, this program reads 1"),
        (lambda path: rewrite(path, codebook_size=5), "the codes have fingerprint"),
        (lambda path: rewrite(path, codes=IDS.codes[::-1].copy()), "the codes have fingerprint"),
        (lambda path: rewrite(path, codebook_size=3), "outside the codebook of 3"),
    ],
)
def test_a_file_that_is_not_ours_is_an_input_error(tmp_path, write, message):
    path = tmp_path / "semantic_ids.safetensors"
    write(path)
    with pytest.raises(InputError, match=message) as error:
        load_semantic_ids(path)
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_an_input_error(tmp_path):
    path = tmp_path / "semantic_ids.safetensors"
    save_semantic_ids(IDS, path, source={})
    content = path.read_bytes()
    assert load_file(path)["codes"].tolist() == IDS.codes.tolist()
    for size in (4, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match="not a readable file of semantic IDs"):
            load_semantic_ids(path)


def test_a_damaged_file_is_refused_or_holds_the_same_ids(tmp_path):
    path, other = tmp_path / "semantic_ids.safetensors", tmp_path / "other.safetensors"
    save_semantic_ids(IDS, path, source={"method": "test"})
    content, rng = path.read_bytes(), np.random.default_rng(0)
    said = []
    flips = [
        content[:place] + bytes([content[place] ^ int(rng.integers(1, 256))]) + content[place + 1 :]
        for place in rng.integers(len(content), size=300).tolist()
    ]
    foreign = []
    about = {"format_version": 1, "codebook_size": 4, "fingerprint": IDS.fingerprint, "source": {}}
    for codes in (IDS.codes.astype(np.float32) * np.nan, IDS.codes.astype(np.int64), IDS.codes[0], IDS.codes[:0]):
        save_file({"codes": codes}, other, metadata={"redraft": json.dumps(about)})
        foreign.append(other.read_bytes())
    for changes in (
        {"codebook_size": True},
        {"codebook_size": float("nan")},
        {"source": 3},
        {"more": 1},
        {"fingerprint": 1},
    ):
        save_file({"codes": IDS.codes}, other, metadata={"redraft": json.dumps(about | changes)})
        foreign.append(other.read_bytes())
    save_file({"codes": IDS.codes, "weights": IDS.codes}, other, metadata={"redraft": json.dumps(about)})
    foreign.append(other.read_bytes())
    for n, mutated in enumerate([*foreign, *flips, b"PAR1", b"{}", content + b"0"]):
        path.write_bytes(mutated)
        try:
            assert load_semantic_ids(path).fingerprint == IDS.fingerprint
            assert n >= len(foreign)
        except InputError as error:
            said.append(str(error))
    assert len(said) > 200
    assert not [line for line in said if "\n" in line or str(path) not in line]


def index_file(tmp_path, content):
    path = tmp_path / "shop.index.json"
    path.write_text(json.dumps(content))
    return path


def test_published_tokens_become_codes_and_collisions_are_resolved(tmp_path):
    path = index_file(tmp_path, {"1": ["<a_0>", "<b_7>"], "0": ["<a_0>", "<b_7>"], "2": ["<a_3>", "<b_0>"]})
    codes, size = read_published_codes(path, 3)
    assert (codes.tolist(), size) == ([[0, 7], [0, 7], [3, 0]], 8)
    assert read_published(path, 3, 256).codes.tolist() == [[0, 7], [0, 8], [3, 0]]
    assert read_published(path, 3).codes.tolist() == [[0, 7], [0, 0], [3, 0]]


GOOD = {"0": ["<a_1>", "<b_2>"], "1": ["<a_1>", "<b_3>"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "not a JSON object"),
        ({"0": GOOD["0"]}, "item 1 is missing"),
        (GOOD | {"2": GOOD["0"]}, "item '2' is not in the catalogue of 2"),
        (GOOD | {"01": GOOD["0"]}, "item '01' is not in the catalogue of 2"),
        (GOOD | {"1": ["<a_1>", "b_3"]}, "item 1 has the token 'b_3'"),
        (GOOD | {"1": ["<a_1>", "<b_-3>"]}, "item 1 has the token '<b_-3>'"),
        (GOOD | {"1": ["<a_1>", 3]}, "item 1 has the token 3"),
        (GOOD | {"1": "<a_1><b_3>"}, "item 1 has '<a_1><b_3>', not a list"),
        (GOOD | {"0": []}, r"item 0 has \[\], not a list"),
        (GOOD | {"1": ["<a_1>"]}, "item 1 has 1 tokens where item 0 has 2"),
        (GOOD | {"1": ["<a_1>", "<b_4>"]}, "item 1 has code 4 at level 2, outside the codebook of 4"),
    ],
)
def test_a_bad_published_file_is_an_input_error(tmp_path, content, message):
    with pytest.raises(InputError, match=rf"shop\.index\.json: {message}") as error:
        read_published(index_file(tmp_path, content), 2, 4)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "n_items", "levels", "moved"),
    [("Beauty", 12_101, 4, 13), ("Instruments", 9_922, 4, 25), ("Scientific", 3_527, 3, 14)],
)
def test_the_published_ids_of_the_benchmarks(name, n_items, levels, moved):
    path = DATA / name / f"{name}.index.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    codes, size = read_published_codes(path, n_items)
    ids = read_published(path, n_items)
    assert (ids.n_items, ids.n_levels, size) == (n_items, levels, 256)
    assert (ids.codes != codes).any(axis=1).sum() == moved
    assert (ids.codes[:, :-1] == codes[:, :-1]).all()
