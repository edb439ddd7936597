import math
import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from polars.exceptions import ComputeError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from redraft.files import atomic_directory, atomic_file, measured, partial_of, place_of, read_json, write_json
from redraft.records import InputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with atomic_file(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["file"]


FAILURES = [
    (OSError(28, "No space left on device"), InputError, r"it: cannot be written \(No space left on device\); free"),
    (OSError("99 requested and 5 written"), InputError, r"it: cannot be written \(99 requested and 5 written\)"),
    (SafetensorError("I/O error: No space left on device (os error 28)"), InputError, r"it: cannot .*os error 28"),
    (ComputeError("parquet: File too large (os error 27)\nand more"), InputError, r"it: cannot .*os error 27\)\);"),
    (ComputeError("no such column"), ComputeError, "no such column"),
    (KeyboardInterrupt("stopped"), KeyboardInterrupt, "stopped"),
]


@pytest.mark.parametrize(("failure", "seen", "message"), FAILURES)
def test_a_failed_file_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, failure: BaseException, seen: type[BaseException], message: str
) -> None:
    path = tmp_path / "it"
    path.write_text("old")

    def write() -> None:
        with atomic_file(path) as partial:
            partial.write_text("half")
            raise failure

    with pytest.raises(seen, match=message) as error:
        write()
    assert seen is not InputError or "\n" not in str(error.value)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["it"]


def test_others_may_read_what_safetensors_writes(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_file(tmp_path / "file") as partial:
        save_file({"x": np.zeros(3)}, partial)
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (load_file(tmp_path / "file")["x"] == 0).all()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for atomic in (atomic_file, atomic_directory):
        with pytest.raises(InputError, match=r"file/new: cannot be written"), atomic(tmp_path / "file" / "new"):
            pass
    assert names(tmp_path) == ["file"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("first", "second"):
        with atomic_directory(path) as partial:
            (partial / name).write_text(name)
        assert names(path) == [name]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize(("failure", "seen", "message"), FAILURES)
def test_a_failed_folder_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, failure: BaseException, seen: type[BaseException], message: str
) -> None:
    path = tmp_path / "it"
    path.mkdir()
    (path / "old").touch()

    def write() -> None:
        with atomic_directory(path) as partial:
            (partial / "half").touch()
            raise failure

    with pytest.raises(seen, match=message):
        write()
    assert names(path) == ["old"]
    assert names(tmp_path) == ["it"]


@pytest.fixture(params=["at once", "by renames"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How folders are swapped."""
    if request.param == "by renames":
        monkeypatch.setattr("ctypes.CDLL", lambda name: None)
    return request.param


def test_folders_are_exchanged(tmp_path: Path, exchange: str) -> None:
    path = tmp_path / "folder"
    for name in ("first", "second"):
        with atomic_directory(path) as partial:
            (partial / name).touch()
    assert names(path) == ["second"]
    assert names(tmp_path) == ["folder"]


def test_an_old_folder_comes_back_if_the_last_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    rename = os.replace

    def failing(source: Path, destination: Path) -> None:
        if destination == path and not Path(source).name.endswith("-old"):
            raise OSError(5, "Input/output error")
        rename(source, destination)

    monkeypatch.setattr("ctypes.CDLL", lambda name: None)
    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(InputError, match="Input/output error"), atomic_directory(path):
        pass
    assert names(path) == ["old"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("there", [True, False])
def test_links_are_followed(tmp_path: Path, there: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name, atomic in (("file", atomic_file), ("folder", atomic_directory)):
        if there and name == "folder":
            (tmp_path / "elsewhere" / name).mkdir()
        elif there:
            (tmp_path / "elsewhere" / name).touch()
        (tmp_path / name).symlink_to(Path("elsewhere") / name)
        with atomic(tmp_path / name) as partial:
            (partial.write_text("new") if name == "file" else (partial / "new").touch())
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_text() == "new"
    assert names(tmp_path / "elsewhere" / "folder") == ["new"]
    assert names(tmp_path) == ["elsewhere", "file", "folder"]
    assert names(tmp_path / "elsewhere") == ["file", "folder"]


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that runs no more."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize("name", ["it", "it [1]"])
def test_what_dead_processes_left_is_swept(tmp_path: Path, name: str, dead: int) -> None:
    node, path = platform.node(), tmp_path / name
    stays = [f".{name}.partial-{node}-{os.getppid()}", f".{name}.partial-elsewhere-{dead}", f".{name}2.partial-{dead}"]
    goes = [f".{name}.partial-{node}-{dead}", f".{name}.partial-{dead}"]
    for each in (*stays, *goes):
        (tmp_path / each).mkdir()
        (tmp_path / each / "half").touch()
    with atomic_directory(path):
        assert {*names(tmp_path)} == {partial_of(path).name, *stays}
    (tmp_path / goes[0]).touch()
    with atomic_file(tmp_path / f"{name}3"):
        assert goes[0] in names(tmp_path)
    path.rmdir()
    with atomic_file(path):
        pass
    assert {*names(tmp_path)} == {name, f"{name}3", *stays}


def test_an_old_folder_comes_back_if_its_process_died_between_two_renames(tmp_path: Path, dead: int) -> None:
    (tmp_path / f".it.partial-{dead}-old").mkdir()
    (tmp_path / f".it.partial-{dead}-old" / "old").touch()
    with pytest.raises(KeyError), atomic_directory(tmp_path / "it"):
        raise KeyError
    assert names(tmp_path / "it") == ["old"]
    assert names(tmp_path) == ["it"]


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    content = {"name": "Ærø 品", "numbers": [1, 0.1], "none": None}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert "Ærø 品" in (tmp_path / "a.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a\.json: no such file; "),
        (b"", r"a\.json: the file is empty; "),
        (b" \n", r"a\.json: the file is empty; "),
        (b'{"a": 1,\n "b": \xff}', r"a\.json, line 2: byte 0xff is not UTF-8; "),
        (b'{"a": 1,\n\n "b": ', r"a\.json, line 3: not JSON \(.*\); "),
    ],
)
def test_bad_json_is_named_with_file_line_and_fix(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_json(path)
    assert "\n" not in str(error.value)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"0": [1]}')
    assert read_json(tmp_path / "a.json") == {"0": [1]}
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{\n"\xff"}')
    with pytest.raises(InputError, match="line 2: byte 0xff is not UTF-8"):
        read_json(tmp_path / "a.json")


def test_a_link_to_itself_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "it").symlink_to("it")
    with pytest.raises(InputError, match="leads to itself"):
        place_of(tmp_path / "it")


def test_json_without_numbers_that_json_does_not_have(tmp_path):
    for content, place in [({"a": {"b": [1, math.nan]}}, r"a\.b\.1 is nan"), ({"c": (math.inf,)}, r"c\.0 is inf")]:
        with pytest.raises(InputError, match=rf"x\.json: {place}, which JSON has no number for"):
            write_json(tmp_path / "x.json", content)
        assert not list(tmp_path.iterdir())
        write_json(tmp_path / "y" / "x.json", measured(content))
        assert "null" in (tmp_path / "y" / "x.json").read_text()
        shutil.rmtree(tmp_path / "y")
