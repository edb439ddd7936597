"""Ray does what this process does: on two nodes, of which one dies, and on one that is started for the command."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
from deadly import Deadly, import_on, write_log
from separate import separate
from verbs import run

from redraft.engines.local import HERE
from redraft.engines.options import EngineOptions, engine_of
from redraft.engines.ray import ALONE, SAFE
from redraft.serve import shards

TESTS = Path(__file__).parents[1]
MACHINE = {"num_cpus": 1, "object_store_memory": 80 << 20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes on this machine, with a token, on its loopback address."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SAFE, **ALONE, "RAY_AUTH_TOKEN": "0" * 64, "PYTHONPATH": str(TESTS)}.items():
            patch.setenv(name, value)
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'redraft[ray]'")
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **MACHINE})
        cluster.add_node(wait=False, **MACHINE)
        try:
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def src(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("logs") / "events")


@pytest.fixture(scope="module")
def whole(src: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return import_on(HERE, src, tmp_path_factory.mktemp("whole"))


def on(cluster: Any) -> EngineOptions:
    return EngineOptions(engine="ray", address=cluster.address)


def test_a_killed_worker_costs_nothing(cluster: Any, src: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    with engine_of(on(cluster)) as engine:
        deadly = Deadly(engine, "merge", tmp_path / "killed")
        assert import_on(deadly, src, tmp_path / "again") == whole
    assert (tmp_path / "killed").exists()


def test_lists_are_those_of_this_process(
    cluster: Any, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD", 11)
    words = ["recommend", shop / "grc", "--data", shop / "data"]
    for name, engine in {"here": [], "ray": ["--engine", "ray", "--address", cluster.address]}.items():
        code, _, err = run(capsys, *words, "--out", tmp_path / f"{name}.csv", *engine)
        assert code == 0, err
    assert (tmp_path / "ray.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


def test_a_killed_node_costs_nothing(cluster: Any, src: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    cluster.wait_for_nodes()
    (node,) = cluster.worker_nodes
    raylet = node.all_processes["raylet"][0].process.pid
    with engine_of(on(cluster)) as engine:
        deadly = Deadly(engine, "merge", tmp_path / "killed", victim=raylet, node=raylet)
        assert import_on(deadly, src, tmp_path / "again") == whole
    assert (tmp_path / "killed").exists()


def test_a_killed_driver_leaves_parts_that_any_engine_goes_on_with(
    src: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ray that was started for the driver ends with it."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'redraft[ray]'")
    code = f"""
import os
from deadly import Deadly, import_on
from redraft.engines.options import EngineOptions, engine_of

with engine_of(EngineOptions(engine="ray", processes=2)) as engine:
    deadly = Deadly(engine, "merge", Path({str(tmp_path / "killed")!r}), victim=os.getpid())
    import_on(deadly, Path({str(src)!r}), Path({str(tmp_path / "again")!r}))
"""
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:  # sockets have short names
        monkeypatch.setenv("TMPDIR", scratch)
        with separate(tmp_path / "driver.py", code) as driver:
            assert driver.wait(240) == -signal.SIGKILL
        until = time.monotonic() + 30
        while any(scratch in word for each in psutil.process_iter(["cmdline"]) for word in each.info["cmdline"] or ()):
            assert time.monotonic() < until, "Ray outlives the command that started it"
            time.sleep(0.2)
    assert import_on(HERE, src, tmp_path / "again") == whole
