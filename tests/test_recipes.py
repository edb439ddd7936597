from pathlib import Path

import pytest

from redraft.recipes import RECIPES, paper, small


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_trains_what_it_is_given(name: str) -> None:
    config = RECIPES[name](Path("data"), Path("run"))
    assert (config.data, config.out) == (Path("data"), Path("run"))
    assert config.model.width % config.model.heads == 0


def test_the_papers_preset_differs_from_small_in_what_it_says() -> None:
    wide, narrow = paper(Path(), Path()), small(Path(), Path())
    assert (wide.model.width, narrow.model.width) == (640, 128)
    assert (wide.epochs, wide.learning_rate) == (narrow.epochs, narrow.learning_rate)
