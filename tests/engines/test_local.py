"""Processes of this machine do what one does, and what is killed on the way goes on."""

import signal
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from deadly import Deadly, import_on, write_log
from separate import separate

from redraft.engines.local import HERE, in_processes
from redraft.engines.options import EngineOptions, engine_of
from redraft.engines.tasks import UnfinishedError
from redraft.records import InputError


@pytest.fixture(scope="module")
def src(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("logs") / "events")


def test_a_killed_worker_stops_a_run_that_goes_on_to_the_same_bytes(src: Path, tmp_path: Path) -> None:
    whole = import_on(HERE, src, tmp_path / "whole")
    with in_processes(2) as engine, pytest.raises(UnfinishedError, match=r"a worker process was ended.*goes on"):
        import_on(Deadly(engine, "merge", tmp_path / "killed"), src, tmp_path / "again")
    done = [tmp_path / "again" / "parts" / name / "done.json" for name in (tmp_path / "killed").read_text().split()]
    made = {path: path.stat().st_mtime_ns for path in done}
    assert made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redraft.engines.tasks._clear", lambda folder: None)  # the parts stay to be looked at
        assert import_on(HERE, src, tmp_path / "again") == whole
    assert {path: path.stat().st_mtime_ns for path in done} == made


def test_a_killed_driver_takes_its_workers_along_and_the_same_command_goes_on(src: Path, tmp_path: Path) -> None:
    code = f"""
import os
from deadly import Deadly, import_on
from redraft.engines.local import in_processes

if __name__ == "__main__":
    with in_processes(2) as engine:
        deadly = Deadly(engine, "merge", Path({str(tmp_path / "killed")!r}), victim=os.getpid())
        import_on(deadly, Path({str(src)!r}), Path({str(tmp_path / "again")!r}))
"""
    with separate(tmp_path / "driver.py", code) as driver:
        assert driver.wait(120) == -signal.SIGKILL
    made = (tmp_path / "killed").read_text().split()
    assert len(made) > 2
    assert import_on(HERE, src, tmp_path / "again") == import_on(HERE, src, tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (EngineOptions(processes=0), "processes is 0; it must be >= 1"),
        (EngineOptions(address="h:1"), "--address: engine local does not read it"),
        (EngineOptions(engine="ray", address="h:1", processes=2), "--processes: a Ray cluster, which knows"),
        (EngineOptions(engine="ray", address="ray://h:1"), "--address: 'ray://h:1' is no HOST:PORT"),
        (EngineOptions(engine="ray", address="127.0.0.1:1"), "nobody answers at 127.0.0.1:1"),
    ],
)
def test_options_that_cannot_be_are_named(options: EngineOptions, said: str) -> None:
    with pytest.raises(InputError, match=said), engine_of(options):
        pass


def test_an_engine_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    missing = pytest.raises(InputError, match=r"not installed; pip install 'redraft\[ray\]'")
    with missing, engine_of(EngineOptions(engine="ray")):
        pass


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (None, r"Ray does not start \(timed out\); the same command"),
        ("127.0.0.1:{}", r"cannot be joined \(timed out\)"),
    ],
)
def test_a_ray_that_does_not_start_is_one_line(address: str | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("timed out.\nRaylet log:")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = address and address.format(server.getsockname()[1])
        with pytest.raises(InputError, match=said), engine_of(EngineOptions(engine="ray", address=where)):
            pass
