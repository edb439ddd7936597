"""Every file that is read again, damaged in every way."""

from dataclasses import replace
from pathlib import Path

import pytest

from redraft.faults import files
from redraft.faults.files import KINDS, try_files
from redraft.faults.world import World


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named_or_does_no_harm(kind: str, world: World, tmp_path: Path) -> None:
    found = try_files(world, tmp_path, [kind])
    assert [each for each in found if each.fault] == []
    assert len(found) > 30


def test_what_passes_quietly_or_ends_in_a_traceback_is_seen(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = KINDS["data set"]

    def read(world: World, folder: Path) -> object:
        if not (folder / "users.parquet").exists():
            raise ZeroDivisionError
        return {path.name: path.stat().st_size for path in folder.iterdir()}

    monkeypatch.setitem(files.KINDS, "data set", replace(whole, read=read))
    faults = {each.fault for each in try_files(world, tmp_path, ["data set"])}
    assert faults == {None, "passed quietly", "ZeroDivisionError: "}
