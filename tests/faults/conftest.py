from pathlib import Path

import pytest

from redraft.faults.world import World, build


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A data set with ids, a run, and one that corrects itself, made by the command line."""
    found = World(Path(tmp_path_factory.mktemp("world")))
    build(found)
    return found
