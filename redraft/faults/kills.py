"""Verbs killed at random moments: afterwards the old state or the new one is whole, and the next call goes on."""

import hashlib
import json
import os
import random
import select
import shutil
import signal
import time
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import safe_open

from redraft import cli, recipes
from redraft.bench.tables import evaluate
from redraft.data.importer import ImportConfig
from redraft.data.importer import main as import_data
from redraft.data.raw import Columns
from redraft.evidence.fit import FitSettings
from redraft.faults.world import World
from redraft.model.backbone import ModelConfig
from redraft.serve import export, recommend
from redraft.train import tokenize
from redraft.train.rqvae import RqvaeConfig

__all__ = ["CASES", "Case", "Kills", "contents", "in_child", "try_case"]

INTERRUPTED = 130
LONGEST = 3600


@dataclass(frozen=True)
class Case:
    """A verb to kill.

    work: does it, as its main does; "old" and "new" are two outcomes for the same destination. words: how it is called.
    whole: the destination changes at once; else it grows file by file. resumes: it goes on from where it was.
    end: of the destination's name. share: of the kills that are asked for.
    """

    words: list[str]
    work: Callable[[World, Path, str], object]
    whole: bool = True
    resumes: bool = False
    end: str = ""
    share: float = 1.0


@dataclass
class Kills:
    """What came of a case. killed, interrupted: by SIGKILL and by SIGINT before it was done. held: of these."""

    killed: int = 0
    interrupted: int = 0
    held: int = 0
    finished: int = 0
    faults: tuple[str, ...] = ()


TINY = ModelConfig(history=8, width=16, embedding=8, feed_forward=16, heads=2, dropout=0.1)
LOOP: dict[str, Any] = {
    "evaluate_every": 1,
    "evaluate_users": 10,
    "evaluate_beams": 10,
    "save_every": 1,
    "resume": True,
}
EPOCHS: dict[str, Any] = {"epochs": 2, "batch_size": 64, "precision": "float32", **LOOP}
FIT = FitSettings(epochs=2, hidden=8, labelled=4)
RQVAE = RqvaeConfig(epochs=6, batch_size=16, hidden=(8,), latent=4, evaluate_every=2)


def _imported(w: World, to: Path, which: str) -> None:
    config = ImportConfig("table", w.events, to, name=which, duplicates="drop", replace=True)
    import_data(replace(config, items=w.folder / "items.csv", columns=Columns(attributes=("brand",))))


def _tokenized(w: World, to: Path, which: str) -> None:
    seed = ("old", "new").index(which)
    sizes: dict[str, Any] = {"method": "kmeans", "levels": 3, "codebook_size": 9, "seed": seed}
    tokenize.main(tokenize.TokenizeConfig(w.data, out=to, replace=True, **sizes))


def _exported(w: World, to: Path, which: str) -> None:
    k = 4 if which == "old" else 5
    export.main(export.ExportConfig(w.run, to, users=(1,), k=k, beams=5, seen=4, compile=False, replace=True))


def _recommended(w: World, to: Path, which: str) -> None:
    k = 4 if which == "old" else 5
    recommend.main(recommend.RecommendConfig(w.run, data=w.data, k=k, out=to, replace=True))


CASES: dict[str, Case] = {
    "data import": Case(["data", "import"], _imported, share=3.0),
    "tokenize, k-means": Case(["tokenize"], _tokenized, whole=False, end=".safetensors", share=3.0),
    "tokenize, RQ-VAE": Case(
        ["tokenize"],
        lambda w, to, which: tokenize.main(
            tokenize.TokenizeConfig(w.data, out=to, levels=2, codebook_size=9, dim=8, resume=True, rqvae=RQVAE)
        ),
        resumes=True,
        end=".safetensors",
    ),
    "train tiger": Case(
        ["train"],
        lambda w, to, which: recipes.train(replace(recipes.tiger(w.data, to), model=TINY, **EPOCHS)),
        resumes=True,
    ),
    "train grc": Case(
        ["train"],
        lambda w, to, which: recipes.train(replace(recipes.grc(w.data, to), backbone=w.run, draft_beams=3, **EPOCHS)),
        resumes=True,
    ),
    "train grpo": Case(
        ["train"],
        lambda w, to, which: recipes.train(
            replace(recipes.grpo(w.data, to), sft=w.grc, steps=4, users=8, group=4, precision="float32", **LOOP)
        ),
        resumes=True,
    ),
    "train verifier": Case(
        ["train"],
        lambda w, to, which: recipes.train(replace(recipes.verifier(w.data, to), run=w.run, **EPOCHS)),
        resumes=True,
    ),
    "train reflect": Case(
        ["train"],
        lambda w, to, which: recipes.train(
            replace(recipes.reflect(w.data, to), run=w.generator, tower=w.tower, beams=10, fit=FIT)
        ),
        resumes=True,
    ),
    "evaluate": Case(
        ["evaluate"],
        lambda w, to, which: evaluate.main(evaluate.EvaluateConfig(w.data, runs=(w.run,), ranks=to)),
        whole=False,
    ),
    "recommend --out": Case(["recommend"], _recommended, end=".parquet", share=3.0),
    "export": Case(["export"], _exported, share=0.25),
}


def contents(place: Path) -> dict[str, str]:
    """What is in a file or a folder, each file read as what its name says it is; times and dates are left out.

    Raises whatever its reader raises for a file that is not whole.
    """
    files = [place] if place.is_file() else sorted(place.rglob("*"))
    files += [path for path in place.parent.glob(f"{place.stem}.*") if path != place and path.is_file()]
    return {path.name: _content(path) for path in files if path.is_file() and not path.name.startswith(".")}


def _content(path: Path) -> str:
    match path.suffix:
        case ".safetensors":
            with safe_open(path, "np") as file:
                parts = [f"{name} {file.get_tensor(name).tobytes()!r}" for name in sorted(file.keys())]
            return hashlib.sha256("".join(parts).encode()).hexdigest()
        case ".parquet":
            return hashlib.sha256(pl.read_parquet(path).write_csv().encode()).hexdigest()
        case ".npy":
            return hashlib.sha256(np.load(path).tobytes()).hexdigest()
        case ".json":
            content = json.loads(path.read_text())
            return str(content.get("k", "")) + str(content.get("name", ""))
        case ".pt2":
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None
    return "there"


def try_case(name: str, world: World, kills: int, scratch: Path, rng: random.Random) -> Kills:
    """Kill a case so many times, by SIGKILL and SIGINT in turn; what it left is looked at after each."""
    case, outcome = CASES[name], Kills()
    known, place = {}, scratch / "work" / f"it{case.end}"
    for which in ("old", "new"):
        known[which] = _undisturbed(case, world, scratch / which / place.name, which, scratch)
    started = time.monotonic()
    _undisturbed(case, world, scratch / "timed" / place.name, "new", scratch)
    takes = time.monotonic() - started
    while outcome.killed + outcome.interrupted < kills and outcome.finished < 3 * kills:
        if not place.parent.exists():
            _begin(case, scratch, place, with_old=bool(outcome.finished % 2))
        how = (signal.SIGKILL, signal.SIGINT)[(outcome.killed + outcome.interrupted) % 2]
        log = scratch / "said"
        started = time.monotonic()
        status = in_child(lambda: _work(case, world, place, "new"), log, rng.uniform(0, takes), how)
        state = _read(place, scratch)
        fault = _fault(case, status, log.read_text(), state, known)
        if status == 0:
            outcome.finished += 1
            takes = min(takes, time.monotonic() - started)
        elif how is signal.SIGKILL:
            outcome.killed += 1
        else:
            outcome.interrupted += 1
        outcome.held += fault is None and status != 0
        outcome.faults += () if fault is None else (f"{name}: {fault}",)
        if fault or (status == 0):
            shutil.rmtree(place.parent)
    if place.parent.exists():
        status = in_child(lambda: _work(case, world, place, "new"), scratch / "said", LONGEST, signal.SIGKILL)
        fault = _fault(case, status, (scratch / "said").read_text(), _read(place, scratch), known)
        outcome.faults += () if status == 0 and fault is None else (f"{name}, at last: status {status}, {fault}",)
    return outcome


def _begin(case: Case, scratch: Path, place: Path, *, with_old: bool) -> None:
    """Nothing stands at the destination, or the old outcome."""
    if with_old and not case.resumes:
        shutil.copytree(scratch / "old", place.parent)
    else:
        place.parent.mkdir()


def _undisturbed(case: Case, world: World, place: Path, which: str, scratch: Path) -> dict[str, str]:
    place.parent.mkdir(parents=True)
    log = scratch / "said"
    status = in_child(lambda: _work(case, world, place, which), log, LONGEST, signal.SIGKILL)
    state = _read(place, scratch)
    assert status == 0, log.read_text()
    assert isinstance(state, dict), state
    return state


def _work(case: Case, world: World, place: Path, which: str) -> int:
    def work() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        case.work(world, place, which)

    try:
        return cli.answer(case.words[0], case.words, work)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _read(place: Path, scratch: Path) -> dict[str, str] | str:
    """The contents, or in words why they cannot be read; looked at in a process of its own."""

    def look() -> None:
        (scratch / "state").write_text(json.dumps(contents(place)))

    status = in_child(look, scratch / "looked", LONGEST, signal.SIGKILL)
    state: dict[str, str] = json.loads((scratch / "state").read_text()) if status == 0 else {}
    return state if status == 0 else (scratch / "looked").read_text().strip().rpartition("\n")[2]


def _fault(
    case: Case, status: int, said: str, state: dict[str, str] | str, known: dict[str, dict[str, str]]
) -> str | None:
    """In words what is wrong after a call, None if nothing is."""
    if isinstance(state, str):
        return f"half-written: {state}"
    if status not in (0, -signal.SIGKILL, INTERRUPTED) or "Traceback" in said:
        return f"status {status}: {said[-2000:]}"
    if status == INTERRUPTED and sum(line.startswith("stopped") for line in said.splitlines()) != 1:
        return f"no line of its own: {said[-500:]}"
    if status == 0:
        wanted = known["new"]
        names = ("model.safetensors", "semantic_ids.safetensors", "it.safetensors") if case.resumes else wanted.keys()
        return next(
            (f"other {name} than of a call in peace" for name in names if state.get(name) != wanted.get(name)), None
        )
    if case.resumes:
        return None
    if case.whole:
        return None if state in ({}, known["old"], known["new"]) else f"neither old nor new: {state}"
    mixed = [name for name, each in state.items() if each not in {k.get(name) for k in known.values()}]
    return f"neither old nor new: {mixed}" if mixed else None


def in_child(work: Callable[[], object], log: Path, seconds: float, how: signal.Signals) -> int:
    """Status of a forked process that does the work and is sent a signal after so many seconds; -N died of signal N.

    SIGINT waits until the work unblocks it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
            os.dup2(file, 1)
            os.dup2(file, 2)
            answer = work()
            code = answer if isinstance(answer, int) else 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    ended = os.pidfd_open(child)
    done, _, _ = select.select([ended], [], [], seconds)
    if not done:
        os.kill(child, how)
    os.close(ended)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
