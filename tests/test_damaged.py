"""Every file of every kind of folder that is read again, damaged in every way: an InputError, or the same answers."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from loops import plain, supervised
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import random_interactions, tiny_interactions, tiny_train

from redraft.baselines import ItemKNN, Markov, Popularity
from redraft.baselines.neural import Training
from redraft.baselines.sasrec import SASRec, SASRecSettings
from redraft.data.loader import every_prefix
from redraft.optim import adamw
from redraft.recommender import load
from redraft.records import InputError, Recommender
from redraft.serve.export import export
from redraft.serve.exported import load_export
from redraft.stored import read_settings
from redraft.train.drafts import check_drafts, load_drafts
from redraft.train.progress import keep_epochs, read_metrics
from redraft.train.state import Standing, begin_run, save_state

HISTORIES = random_interactions([1, 4, 7], 30)
SMALL = SASRecSettings(width=8, feed_forward=8, heads=2, layers=1, history=5, training=Training(epochs=1))


def answers(model: Recommender) -> list[list[int]]:
    found: list[list[int]] = model.recommend(HISTORIES, 5).items.tolist()
    return found


def read_run(folder: Path) -> object:
    settings = read_settings(folder) if (folder / "config.json").exists() else None
    return answers(load(folder)), settings


def read_state(folder: Path) -> object:
    network = plain().model
    optimizer = adamw(network, 1e-3, 0.0)
    found = plain()
    at = begin_run(folder, found.ids, found.catalogue, {"model": network}, optimizer, resume=True)
    network(torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long)).sum().backward()
    optimizer.step()
    return at, read_metrics(folder / "metrics.jsonl")


def read_drafts(folder: Path) -> object:
    check_drafts(folder, {"beams": 3})
    return load_drafts(folder, tiny_train(40), 8).tolist()


def write_state(folder: Path) -> None:
    found = plain()
    network = found.model
    optimizer = adamw(network, 1e-3, 0.0)
    begin_run(folder, found.ids, found.catalogue, {"model": network}, optimizer, resume=False)
    network(torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long)).sum().backward()
    optimizer.step()
    save_state(folder / "state.safetensors", {"model": network}, optimizer, vars(Standing(epoch=1)))
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "loss": 2.5}\n{"epoch": 2, "loss": 2.0}\n')


def write_drafts(folder: Path) -> None:
    folder.mkdir()
    (folder / "drafts.json").write_text(json.dumps({"beams": 3, "weights": ["a"]}))
    np.save(folder / "part-00000.npy", np.zeros((len(every_prefix(tiny_train(40), 8)), 3), dtype=np.int32))


def write_run(folder: Path, verifier: bool) -> None:
    found = plain()
    if verifier:
        found.model.add_verifier()
    found.save(folder)
    (folder / "config.json").write_text(json.dumps({"config": {"seed": 0}, "fingerprints": {"data": "a"}}))


def write_export(folder: Path) -> None:
    export(plain(), folder, users=(4,), k=5, seen=8, compile=False)


def fitted(kind: type) -> Recommender:
    model: Recommender = kind.fit(tiny_interactions(40), plain().catalogue, *([SMALL] if kind is SASRec else []))
    return model


KINDS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "run": (lambda folder: write_run(folder, False), read_run),
    "verifier run": (lambda folder: write_run(folder, True), read_run),
    "grc run": (lambda folder: supervised().save(folder), read_run),
    "state": (write_state, read_state),
    "drafts": (write_drafts, read_drafts),
    "export": (write_export, lambda folder: answers(load_export(folder))),
    **{
        kind.__name__: (
            lambda folder, kind=kind: fitted(kind).save(folder),
            lambda folder, kind=kind: answers(kind.load(folder)),
        )
        for kind in (Popularity, Markov, ItemKNN, SASRec)
    },
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("kinds")
    found = {name: root / f"folder of {name}" for name in KINDS}
    for name, (write, _) in KINDS.items():
        write(found[name])
    return found


def damages(file: Path, others: list[Path]) -> Iterator[tuple[str, bytes | None]]:
    """What may have become of a file: its new content, None for none."""
    content = file.read_bytes()
    yield "missing", None
    for n in (0, len(content) // 2, len(content) - 3):
        yield f"cut after {n} bytes", content[:n]
    for place in np.random.default_rng(0).integers(len(content), size=5).tolist():
        yield f"bit flipped at {place}", content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
    yield "not UTF-8", b"\xff\xfe" + content
    for other in others:
        yield f"{other.parent.name}/{other.name} instead", other.read_bytes()
    if file.suffix == ".json":
        for value in ([], 3, None, "text", {}):
            yield f"{value!r} instead", json.dumps(value).encode()
        for name in json.loads(content):
            for value in ([], -1, float("nan")):
                yield f"{name} = {value}", json.dumps(json.loads(content) | {name: value}).encode()
    if file.suffix == ".safetensors":
        yield from tensor_damages(file)


def tensor_damages(file: Path) -> Iterator[tuple[str, bytes]]:
    weights = load_file(file)
    with safe_open(file, "pt") as opened:
        about = opened.metadata()

    def written(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
        spoilt = file.with_name("spoilt")
        save_file(tensors, spoilt, metadata)
        content = spoilt.read_bytes()
        spoilt.unlink()
        return content

    for entry in about:
        for value in ("", "[]", '{"a": 1}'):
            yield f"{entry} = {value}", written(weights, about | {entry: value})
        yield f"no {entry}", written(weights, {name: text for name, text in about.items() if name != entry})
    kept = {name: text for name, text in about.items() if name not in ("weights", "content")}  # as older files are
    for name in list(weights)[:2] + list(weights)[-1:]:
        tensor = weights[name]
        yield f"no tensor {name}", written({n: t for n, t in weights.items() if n != name}, kept)
        yield f"{name} flat", written(weights | {name: tensor.flatten()[:-1]}, kept)
        yield f"{name} as float64", written(weights | {name: tensor.double()[None]}, kept)
        if tensor.is_floating_point():
            yield f"{name} not a number", written(weights | {name: torch.full_like(tensor, torch.nan)}, kept)
        else:
            yield f"{name} far away", written(weights | {name: torch.full_like(tensor, 99)}, kept)
    yield "a tensor more", written(weights | {"more": torch.zeros(2)}, kept)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named_or_does_no_harm(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    read = KINDS[kind][1]
    right = read(shutil.copytree(folders[kind], tmp_path / "right"))
    others = [folders[other] / "model.safetensors" for other in ("run", "Markov") if other != kind]
    others += [folders["run"] / "catalogue.parquet", folders["run"] / "config.json"]
    refused = 0
    for file in sorted(folders[kind].iterdir()):
        if kind == "export" and file.name == "catalogue.parquet":
            continue  # for people, no program reads it
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
                if what.startswith("bit") and file.suffix in (".safetensors", ".pt2"):
                    assert found == right, (file.name, what)
            shutil.rmtree(folder)
    assert refused > 20


def test_a_log_keeps_the_lines_that_can_be_read(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(b'{"epoch": 1}\n\xff\xfe\n[]\n{"epoch": "many"}\n{"epoch": 2}\n{"epo')
    assert read_metrics(log) == [{"epoch": 1}, {"epoch": "many"}, {"epoch": 2}]
    keep_epochs(log, 1)
    assert read_metrics(log) == [{"epoch": 1}]
