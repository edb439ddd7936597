import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from redraft.files import write_json
from redraft.folders import (
    BASELINE,
    BASELINE_RUN,
    DATASET,
    DRAFTS,
    EXPORT,
    KINDS,
    MODEL,
    ORACLE,
    RQVAE,
    RUN,
    Kind,
    alone_in,
    check_file,
    check_place,
    check_replace,
    new_folder,
)
from redraft.records import InputError


def of_kind(kind: Kind, path: Path) -> Path:
    """A folder with the least that makes it of a kind."""
    path.mkdir(parents=True)
    for name in MODEL.files if kind is MODEL else ("metrics.jsonl",) if kind is RQVAE else ():
        (path / name).touch()
    match kind.name:
        case DATASET.name:
            write_json(path / "meta.json", {"format": "redraft-dataset"})
        case RUN.name:
            write_json(path / "config.json", {"config": {}, "fingerprints": {}})
        case EXPORT.name:
            write_json(path / "export.json", {"format": "redraft-export 1"})
        case BASELINE.name:
            save_file({"x": np.zeros(1)}, path / "model.safetensors", {"baseline": "popularity"})
        case BASELINE_RUN.name:
            (path / "fitted").mkdir()
        case ORACLE.name:
            (path / "process.npz").touch()
        case DRAFTS.name:
            (path / "drafts.json").touch()
    return path


def make(kind: Kind, folder: Path) -> Path:
    return of_kind(kind, folder / ("it.rqvae" if kind is RQVAE else "it"))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("other", KINDS, ids=lambda kind: kind.name)
def test_a_folder_of_another_kind_is_refused(kind: Kind, other: Kind, tmp_path: Path) -> None:
    path = make(other, tmp_path)
    if kind is other or (kind is RUN and other is MODEL):
        check_place(path, kind)
        return
    with pytest.raises(InputError, match=f"it.*: holds {other.name}, not {kind.name}; give a new or empty folder"):
        check_place(path, kind)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_folder_is_replaced_when_asked(kind: Kind, tmp_path: Path) -> None:
    path = make(kind, tmp_path)
    held = sorted(entry.name for entry in path.iterdir())
    with pytest.raises(InputError, match=rf"holds {kind.name}; pass --replace .* to lose its .*{held[-1]}.*, or give"):
        check_replace(path, kind, replace=False)
    with new_folder(path, kind, replace=True) as partial:
        (partial / "new").touch()
    assert [entry.name for entry in path.iterdir()] == ["new"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_is_not_ours_in_a_folder_is_not_replaced(kind: Kind, tmp_path: Path) -> None:
    path = make(kind, tmp_path)
    (path / "notes.txt").touch()
    with pytest.raises(InputError, match=rf"beside {kind.name} it holds notes\.txt; move that elsewhere"):
        check_replace(path, kind, replace=True)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_appears_while_a_folder_is_made_is_not_lost(kind: Kind, tmp_path: Path) -> None:
    def write() -> None:
        with new_folder(tmp_path / "it", kind, replace=True):
            (tmp_path / "it").mkdir()
            (tmp_path / "it" / "notes").touch()

    with pytest.raises(InputError, match="holds notes"):
        write()
    assert [entry.name for entry in tmp_path.rglob("*")] == ["it", "notes"]


@pytest.mark.parametrize("outer", [kind for kind in KINDS if kind is not RQVAE], ids=lambda kind: kind.name)
def test_a_new_folder_does_not_lie_in_another(outer: Kind, tmp_path: Path) -> None:
    path = make(outer, tmp_path)
    (tmp_path / "link").symlink_to(path)
    for inside in (path / "new", path / "deep" / "new", tmp_path / "link" / "new"):
        with pytest.raises(InputError, match=f"new: lies inside {outer.name}, .*it; give a folder elsewhere"):
            check_place(inside, EXPORT)
    check_place(tmp_path / "new", EXPORT)


def test_what_belongs_inside_may_lie_there(tmp_path: Path) -> None:
    check_place(of_kind(RUN, tmp_path / "run") / "drafts", DRAFTS)
    check_place(of_kind(DATASET, tmp_path / "data") / "semantic_ids.rqvae", RQVAE)


def test_the_folder_that_the_program_runs_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path(), Path(".."), tmp_path):
        with pytest.raises(InputError, match=r"the program runs in this folder|holds"):
            check_replace(path, DATASET, replace=True)
    check_place(Path(), RUN)


TEXT = Kind("a text", lambda path: path.read_text() == "text")


def test_a_file_is_replaced_only_by_its_kind_and_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "it"
    check_file(path, TEXT, replace=False)
    path.write_text("text")
    check_file(path, TEXT, replace=True)
    with pytest.raises(InputError, match="it: holds a text; pass --replace to write over it, or give another name"):
        check_file(path, TEXT, replace=False)
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="it: exists and is not a text; give another name"):
        check_file(path, TEXT, replace=True)
    for other in (tmp_path, Path("/dev/null")):
        with pytest.raises(InputError, match="not a file; give the name of a text"):
            check_file(other, TEXT, replace=True)
    with pytest.raises(InputError, match="cannot be written"):
        check_file(path / "below", TEXT, replace=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["it"]


_HOLDS = """
import signal, sys
from pathlib import Path
from redraft.folders import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", _HOLDS, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    with (
        pytest.raises(InputError, match="run: another process is writing there; wait for it"),
        alone_in(tmp_path / "run"),
    ):
        pass
    first.kill()
    first.communicate()
    with alone_in(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").exists()
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_lock_leaves_nothing_of_what_it_made(tmp_path: Path) -> None:
    with pytest.raises(KeyError), alone_in(tmp_path / "deep" / "run"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run").mkdir()
    with alone_in(tmp_path / "run"):
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "run"]
