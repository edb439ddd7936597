import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_backbone, tiny_catalogue, tiny_config, tiny_ids

from redraft.checkpoint import build_backbone, load_backbone, save_backbone
from redraft.model.backbone import Backbone
from redraft.records import Catalogue, InputError, SemanticIds


@pytest.fixture
def world() -> tuple[Backbone, SemanticIds, Catalogue]:
    ids, catalogue = tiny_ids(12, 2, 5), tiny_catalogue(12, 2)
    return tiny_backbone(tiny_config(positions="code", encoder="bidirectional"), ids, catalogue), ids, catalogue


def test_a_model_comes_back_identical(world, tmp_path: Path) -> None:
    model, ids, catalogue = world
    save_backbone(model, tmp_path / "model", ids, catalogue)
    again = load_backbone(tmp_path / "model", ids, catalogue).eval()
    assert again.config == model.config
    assert again.state_dict().keys() == model.state_dict().keys()
    history, target = torch.tensor([[0, 3, 5]]), torch.tensor([[1]])
    assert torch.equal(again(history, target), model(history, target))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_code_table_is_not_among_the_weights(world, tmp_path: Path) -> None:
    model, ids, catalogue = world
    save_backbone(model, tmp_path / "model", ids, catalogue)
    assert not {"codes", "attributes"} & load_file(tmp_path / "model").keys()


def test_other_semantic_ids_are_refused(world, tmp_path: Path) -> None:
    model, ids, catalogue = world
    save_backbone(model, tmp_path / "model", ids, catalogue)
    other = tiny_ids(12, 2, 5, seed=1)
    with pytest.raises(InputError, match=f"trained with semantic IDs {ids.fingerprint[:12]}.*load it with the ids"):
        load_backbone(tmp_path / "model", other, catalogue)


def renamed(catalogue: Catalogue) -> Catalogue:
    return dataclasses.replace(catalogue, attribute_names=("brand", "colour"))


def revalued(catalogue: Catalogue) -> Catalogue:
    return dataclasses.replace(catalogue, attribute_values=(pl.Series(["a", "b", "x"]), catalogue.attribute_values[1]))


def reassigned(catalogue: Catalogue) -> Catalogue:
    return dataclasses.replace(catalogue, attributes=np.roll(catalogue.attributes, 1, axis=0))


@pytest.mark.parametrize("change", [renamed, revalued, reassigned])
def test_other_attributes_are_refused(world, tmp_path: Path, change) -> None:
    model, ids, catalogue = world
    save_backbone(model, tmp_path / "model", ids, catalogue)
    with pytest.raises(InputError, match="trained with other item attributes; load it with the data set"):
        load_backbone(tmp_path / "model", ids, change(catalogue))


def test_other_titles_are_no_obstacle(world, tmp_path: Path) -> None:
    model, ids, catalogue = world
    save_backbone(model, tmp_path / "model", ids, catalogue)
    retitled = dataclasses.replace(catalogue, titles=pl.Series([f"new {i}" for i in range(12)]))
    load_backbone(tmp_path / "model", ids, retitled)


def test_a_missing_a_foreign_and_a_damaged_file_are_named(world, tmp_path: Path) -> None:
    model, ids, catalogue = world
    path = tmp_path / "model"
    with pytest.raises(InputError, match="no such checkpoint; train one with `redraft train`"):
        load_backbone(path, ids, catalogue)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="not a checkpoint of this version of redraft; train again"):
        load_backbone(path, ids, catalogue)
    path.write_bytes(b"not safetensors")
    with pytest.raises(InputError, match=r"not a readable checkpoint .*train again"):
        load_backbone(path, ids, catalogue)
    save_backbone(model, path, ids, catalogue)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"not a readable checkpoint .*train again"):
        load_backbone(path, ids, catalogue)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="no such checkpoint"):
        load_backbone(path, ids, catalogue)


def test_ids_of_another_catalogue_are_refused(world) -> None:
    _, ids, _ = world
    with pytest.raises(InputError, match="semantic IDs of 12 items, but a catalogue of 13"):
        build_backbone(tiny_config(), ids, tiny_catalogue(13, 2))
