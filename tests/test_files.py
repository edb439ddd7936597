import os
from pathlib import Path

import pytest

from redraft.files import atomic_directory, atomic_file, read_json, write_json
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


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_file_leaves_the_old_one_and_nothing_else(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write() -> None:
        with atomic_file(path) as partial:
            partial.write_text("half")
            raise failure

    with pytest.raises(type(failure)):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("first", "second"):
        with atomic_directory(path) as partial:
            (partial / name).write_text(name)
        assert names(path) == [name]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()

    def write() -> None:
        with atomic_directory(path) as partial:
            (partial / "half").touch()
            raise failure

    with pytest.raises(type(failure)):
        write()
    assert names(path) == ["old"]
    assert names(tmp_path) == ["folder"]


def test_an_old_folder_comes_back_if_the_last_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    rename = os.replace

    def failing(source: Path, destination: Path) -> None:
        if "partial" in Path(source).name:
            raise OSError(5, "Input/output error")
        rename(source, destination)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="Input/output error"), atomic_directory(path):
        pass
    assert names(path) == ["old"]
    assert names(tmp_path) == ["folder"]


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
