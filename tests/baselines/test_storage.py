from pathlib import Path

import numpy as np
import pytest

from redraft.baselines import Markov, Popularity
from redraft.baselines.storage import load_arrays, save_arrays
from redraft.records import InputError


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {"a": np.arange(3), "b": np.array([[0.5, -1.0]]), "number": np.array(7)}
    save_arrays(tmp_path / "model", "mine", arrays)
    loaded = load_arrays(tmp_path / "model", "mine")
    assert loaded.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(loaded[name], values)
        assert loaded[name].dtype == values.dtype


def test_another_baseline_is_an_error(tmp_path: Path) -> None:
    Popularity(np.arange(3)).save(tmp_path / "model")
    with pytest.raises(InputError, match="holds popularity, not markov"):
        Markov.load(tmp_path / "model")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Popularity.load(tmp_path / "model")


def test_a_file_cut_off_is_an_error(tmp_path: Path) -> None:
    Popularity(np.arange(3)).save(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="not a readable model"):
        Popularity.load(tmp_path / "model")
