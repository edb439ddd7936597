import dataclasses
from pathlib import Path

import pytest

from redraft.recipes import RECIPES, paper, tiger


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_trains_what_it_is_given(name: str) -> None:
    config = RECIPES[name](Path("data"), Path("run"))
    assert (config.data, config.out) == (Path("data"), Path("run"))


@pytest.mark.parametrize("name", ["paper", "small", "tiny"])
def test_heads_share_the_width(name: str) -> None:
    model = RECIPES[name](Path("data"), Path("run")).model
    assert model.width % model.heads == 0


def test_the_ablation_differs_from_grc_in_the_labels_alone() -> None:
    with_labels, without = RECIPES["grc"](Path("d"), Path("o")), RECIPES["gc"](Path("d"), Path("o"))
    assert with_labels.reflection
    assert without == dataclasses.replace(with_labels, reflection=False)


def test_the_papers_preset_differs_from_tiger_in_what_it_says() -> None:
    wide, narrow = paper(Path(), Path()), tiger(Path(), Path())
    assert (wide.model.width, narrow.model.width) == (640, 128)
    assert (wide.epochs, wide.learning_rate) == (narrow.epochs, narrow.learning_rate)
