import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import room_for
from tiny import (
    random_interactions,
    tiny_catalogue,
    tiny_config,
    tiny_generator_config,
    tiny_ids,
    with_random_weights,
)

from redraft.checkpoint import build_grc
from redraft.decode.correction import Correction
from redraft.files import read_json, write_json
from redraft.recommender import GenerativeRecommender, SelfCorrectingRecommender
from redraft.records import InputError, Interactions
from redraft.serve import export as verb
from redraft.serve.export import ExportConfig, export, find_compiler, main
from redraft.serve.exported import Exported, load_export

N = 40


def make(n_attributes: int = 1, *, verifier: bool = False, device: str = "cpu") -> SelfCorrectingRecommender:
    """One code an item and one decoder block: what takes long to export is the number of steps."""
    ids, catalogue = tiny_ids(N, 1, 45), tiny_catalogue(N, n_attributes)
    model = build_grc(tiny_config(decoder_layers=1), ids, catalogue, reflection=True)
    if verifier:
        model.add_verifier()
    model = with_random_weights(model, 0).to(device)
    return SelfCorrectingRecommender(model, ids, catalogue, beams=12, correction=Correction(budget=4, hypotheses=2))


def knowing(*, corrects: bool) -> GenerativeRecommender:
    """A generator that knows its items; two codes an item, so that a step follows another."""
    ids, catalogue, config = tiny_ids(N, 2, 9), tiny_catalogue(N), tiny_generator_config(shortlist=4)
    model = with_random_weights(build_grc(config, ids, catalogue, reflection=True), 0)
    found = SelfCorrectingRecommender(model, ids, catalogue, beams=12, correction=Correction(budget=4))
    return found if corrects else found.drafts_alone()


MADE: dict[str, Callable[[], GenerativeRecommender]] = {
    "grc": make,
    "tiger": lambda: make().drafts_alone(),
    "verified": lambda: make(verifier=True).drafts_alone(),
    "no attributes": lambda: make(n_attributes=0),
    "generator": lambda: knowing(corrects=False),
    "correcting generator": lambda: knowing(corrects=True),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    for name, model in MADE.items():
        export(model(), folder / name, users=(1,) if name == "tiger" else (2,), k=10, seen=10, compile=False)
    return folder


@pytest.fixture(scope="module")
def exports(written: Path) -> dict[str, Exported]:
    return {name: load_export(written / name) for name in MADE}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("filter_seen", [True, False])
def test_an_export_gives_the_lists_of_its_run(exports: dict[str, Exported], name: str, filter_seen: bool) -> None:
    histories = random_interactions([1, 3, 8, 14, 2, 5, 9], N)
    same(exports[name], MADE[name](), histories, 8, filter_seen)


def same(exported: Exported, model: GenerativeRecommender, histories: Interactions, k: int, filter_seen: bool) -> None:
    wanted = model.recommend(histories, k, filter_seen=filter_seen)
    found = exported.recommend(histories, k, filter_seen=filter_seen)
    assert found.items.tolist() == wanted.items.tolist()
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)


def test_no_users_get_no_lists(exports: dict[str, Exported]) -> None:
    found = exports["grc"].recommend(Interactions.from_lists([]), 5)
    assert found.items.shape == found.scores.shape == (0, 5)


@pytest.mark.skipif(not find_compiler(), reason="needs a C++ compiler")
def test_machine_code_gives_the_lists_of_its_run(tmp_path: Path) -> None:
    export(make().drafts_alone(), tmp_path / "code", users=(2,), k=4, seen=4, compile=True)
    loaded = load_export(tmp_path / "code")
    assert loaded.about.compiled
    for filter_seen in (True, False):
        same(loaded, make().drafts_alone(), random_interactions([1, 3, 4], N), 4, filter_seen)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compile", [True, False])
def test_an_export_for_a_gpu_gives_the_lists_of_its_run(tmp_path: Path, compile: bool) -> None:
    export(make(device="cuda"), tmp_path / "gpu", users=(2,), k=4, seen=4, compile=compile)
    loaded = load_export(tmp_path / "gpu")
    for seed in range(3):
        same(loaded, make(), random_interactions([1, 3, 4], N, seed), 4, True)


@pytest.mark.parametrize("compiled", [True, False])
def test_graphs_are_captured_of_operations_and_not_of_machine_code(
    exports: dict[str, Exported], compiled: bool
) -> None:
    about = replace(exports["tiger"].about, device="cuda", compiled=compiled)
    assert Exported(about, {}).engine.captures is not compiled


def test_a_program_needs_nothing_but_torch(written: Path) -> None:
    code = (
        "import sys, torch\n"
        f"program = torch.export.load({str(written / 'tiger' / '1.pt2')!r}).module()\n"
        "items, _ = program(torch.tensor([[-1] * 5 + [3, 1, 4]]), torch.tensor([[3, 1, 4] + [-1] * 13]))\n"
        "assert not any(name.startswith('redraft') for name in sys.modules)\n"
        "print(items[0].tolist())"
    )
    printed = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    wanted = make().drafts_alone().recommend(Interactions.from_lists([[3, 1, 4]]), 10)
    assert printed.strip() == str(wanted.items[0].tolist())


def test_it_says_what_it_is(exports: dict[str, Exported], written: Path) -> None:
    about = exports["tiger"].about
    assert (about.users, about.k, about.beams, about.history, about.seen) == ((1,), 10, 12, 8, 16)
    assert about.semantic_ids == make().ids.fingerprint
    assert (written / "tiger" / "catalogue.parquet").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"torch": "1.0.0"}, r"exported with torch 1\.0\.0, but this is .*; install that version or export again"),
        ({"format": "redraft-export 0"}, "not an export of this version"),
        ({"compiled": True, "processor": "Z80"}, r"compiled for Z80, but this is .*--no-compile"),
        ({"users": [7]}, r"export\.json: was changed after it was written; copy it again or export again"),
        ({"users": [7], "seal": ""}, r"7\.pt2: missing from the export"),
        ({"k": "many"}, "'k' is 'many'; copy it again or export again"),
        ({"colour": "red"}, "has 'colour', which this version of redraft does not know"),
        ({"device": "tpu"}, "'device' is 'tpu'"),
        ({"n_items": 0}, "has a number below 1"),
    ],
)
def test_an_export_for_elsewhere_is_refused(written: Path, tmp_path: Path, change: dict, message: str) -> None:
    write_json(tmp_path / "export.json", read_json(written / "grc" / "export.json") | change)
    with pytest.raises(InputError, match=message):
        load_export(tmp_path)


def test_a_program_that_is_damaged_or_of_another_export_is_refused(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written / "tiger", tmp_path / "export")
    program = tmp_path / "export" / "1.pt2"
    content = program.read_bytes()
    about = read_json(tmp_path / "export" / "export.json")
    for damage in (
        content[:-9],
        b"",
        content[:100] + b"\x00" + content[101:],
        (written / "grc" / "2.pt2").read_bytes(),
    ):
        program.write_bytes(damage)
        with pytest.raises(InputError, match=r"1\.pt2: damaged, or of another export"):
            load_export(tmp_path / "export")
    write_json(tmp_path / "export" / "export.json", {k: v for k, v in about.items() if k not in ("programs", "seal")})
    program.write_bytes(content[:-9])
    with pytest.raises(InputError, match=r"1\.pt2: not a readable program"):
        load_export(tmp_path / "export")
    program.write_bytes(content)
    assert load_export(tmp_path / "export").about.programs == {}


def test_a_full_disk_is_said_when_a_program_is_written(tmp_path: Path) -> None:
    with room_for(1000), pytest.raises(InputError, match="out: cannot be written"):
        export(make().drafts_alone(), tmp_path / "out", users=(1,), k=3, seen=4, compile=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_an_export_for_a_gpu_is_refused_without_one(written: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "export.json", read_json(written / "grc" / "export.json") | {"device": "cuda"})
    with pytest.raises(
        InputError, match="exported for cuda, not available on this machine; export again with --device cpu"
    ):
        load_export(tmp_path)


def test_a_folder_without_an_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an export; make one with `redraft export`"):
        load_export(tmp_path)


@pytest.mark.parametrize(
    ("length", "k", "message"),
    [
        (3, 11, "k = 11, but the export gives 10 items; export again with --k 11"),
        (17, 5, "a history of 17 different items, but the export can leave out 16; export again with --seen 17"),
    ],
)
def test_what_was_not_exported_is_refused(exports: dict, length: int, k: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        exports["tiger"].recommend(Interactions.from_lists([range(length)]), k)


def test_a_heavy_user_of_few_items_has_a_list(exports: dict[str, Exported]) -> None:
    histories = Interactions.from_lists([[*range(16)] * 4, [3] * 50])
    same(exports["tiger"], MADE["tiger"](), histories, 8, True)


def test_an_unknown_item_is_refused(exports: dict[str, Exported]) -> None:
    with pytest.raises(InputError, match="history 0 names item 99, but items are 0 to 39"):
        exports["tiger"].recommend(Interactions.from_lists([[1, 99]]), 5)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"k": 41}, "k = 41 exceeds the catalogue of 40 items"),
        ({"seen": 0}, "seen = 0: give a batch size, and 1 or more"),
        ({"users": (0, 1)}, r"batch sizes \(0, 1\)"),
    ],
)
def test_bad_exports_are_refused_before_any_work(tmp_path: Path, knobs: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        export(make(), tmp_path / "out", **{"users": (1,), "k": 5, "seen": 8, "compile": False, **knobs})
    assert not (tmp_path / "out").exists()


def test_compiling_without_a_compiler_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(verb.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler.*--no-compile"):
        main(ExportConfig(tmp_path / "run", tmp_path / "out"))
