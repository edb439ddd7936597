"""Files of verifiers and of baselines, damaged in every way (others: tests/faults/test_files.py), and logs of runs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from loops import plain
from tiny import random_interactions, tiny_interactions

from redraft.baselines import ItemKNN, Markov
from redraft.faults.damage import damages
from redraft.recommender import load
from redraft.records import InputError, Recommender
from redraft.stored import read_settings
from redraft.train.progress import keep_epochs, read_metrics

HISTORIES = random_interactions([1, 4, 7], 30)


def answers(model: Recommender) -> list[list[int]]:
    found: list[list[int]] = model.recommend(HISTORIES, 5).items.tolist()
    return found


def read_run(folder: Path) -> object:
    settings = read_settings(folder) if (folder / "config.json").exists() else None
    return answers(load(folder)), settings


def write_run(folder: Path) -> None:
    found = plain()
    found.model.add_verifier()
    found.save(folder)
    (folder / "config.json").write_text(json.dumps({"config": {"seed": 0}, "fingerprints": {"data": "a"}}))


KINDS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "verifier run": (write_run, read_run),
    **{
        kind.__name__: (
            lambda folder, kind=kind: kind.fit(tiny_interactions(40), plain().catalogue).save(folder),
            lambda folder, kind=kind: answers(kind.load(folder)),
        )
        for kind in (Markov, ItemKNN)
    },
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("kinds")
    found = {name: root / f"folder of {name}" for name in KINDS}
    for name, (write, _) in KINDS.items():
        write(found[name])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named_or_does_no_harm(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    read = KINDS[kind][1]
    right = read(shutil.copytree(folders[kind], tmp_path / "right"))
    run = folders["verifier run"]
    others = [folders[other] / "model.safetensors" for other in ("verifier run", "Markov") if other != kind]
    others += [run / "catalogue.parquet", run / "config.json"]
    refused = 0
    for file in sorted(folders[kind].iterdir()):
        for what, content in damages(file, others):
            folder = shutil.copytree(folders[kind], tmp_path / "damaged")
            (folder / file.name).unlink()
            if content is not None:
                (folder / file.name).write_bytes(content)
            try:
                found = read(folder)
            except InputError as error:
                refused += "\n" not in str(error)
            except Exception as error:
                raise AssertionError(f"{file.name}, {what}: {error!r}") from error
            else:
                assert type(found) is type(right), (file.name, what)
                if what.startswith("byte") and file.suffix == ".safetensors":
                    assert found == right, (file.name, what)
            shutil.rmtree(folder)
    assert refused > 20


def test_a_log_keeps_the_lines_that_can_be_read(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(b'{"epoch": 1}\n\xff\xfe\n[]\n{"epoch": "many"}\n{"epoch": 2}\n{"epo')
    assert read_metrics(log) == [{"epoch": 1}, {"epoch": "many"}, {"epoch": 2}]
    keep_epochs(log, 1)
    assert read_metrics(log) == [{"epoch": 1}]
