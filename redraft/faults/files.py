"""Every file that is read again, damaged in every way: one line that names it, or the same answers as before."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from redraft.data.split import leave_one_out
from redraft.data.store import load_dataset
from redraft.faults.damage import Damaged, damages
from redraft.faults.world import World, call, quiet
from redraft.folders import MODEL
from redraft.model.backbone import ModelConfig
from redraft.optim import adamw
from redraft.recommender import load as load_generative
from redraft.records import InputError, Interactions, Recommender
from redraft.runs import load
from redraft.serve.exported import Exported, load_export
from redraft.stored import read_settings, record
from redraft.tokenizer.semantic_ids import load_semantic_ids
from redraft.train.drafts import check_drafts, load_drafts
from redraft.train.progress import read_metrics
from redraft.train.state import Standing, load_state

__all__ = ["KINDS", "FolderKind", "try_files"]


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder. write: makes one. read: what its files say; equal if nothing is lost.

    strict: whatever is damaged must be met; else only changed bytes of weights and programs.
    spared: names of files that are left whole: they are for people, or those of another kind.
    """

    write: Callable[[World, Path], object]
    read: Callable[[World, Path], object]
    strict: bool = False
    spared: tuple[str, ...] = ()


FOR_PEOPLE = ("labels.json", "semantic_ids.json", "metrics.jsonl")
OF_STATES = ("state.safetensors",)


def _answers(model: Recommender | Exported) -> object:
    return model.recommend(Interactions.from_lists([[3], [4, 5, 6], []]), 5).items.tolist()


def _read_data(world: World, folder: Path) -> object:
    dataset = load_dataset(folder)
    ids = load_semantic_ids(folder / "semantic_ids.safetensors")
    return dataset.name, dataset.fingerprint, dataset.user_ids.to_list(), ids.fingerprint


def _read_run(world: World, folder: Path) -> object:
    return _answers(load(folder)), read_settings(folder)


def _read_state(world: World, folder: Path) -> object:
    model = load_generative(folder).model
    at = record(
        Standing, load_state(folder / "state.safetensors", {"model": model}, adamw(model, 1e-3, 0.0)), folder, ""
    )
    return at, read_metrics(folder / "metrics.jsonl")


def _read_drafts(world: World, folder: Path) -> object:
    check_drafts(folder, {"beams": 3})
    train = leave_one_out(load_dataset(world.data).interactions).train
    return load_drafts(folder, train, ModelConfig().history).tolist()


def _copy(part: str) -> Callable[[World, Path], object]:
    return lambda world, to: shutil.copytree(world.folder / part, to, ignore=lambda _, names: {"drafts"} & {*names})


def _verb(*words: object) -> Callable[[World, Path], object]:
    def written(world: World, to: Path) -> None:
        named = {"DATA": world.data, "RUN": world.run, "OUT": to}
        code, said = call([named.get(word, word) if isinstance(word, str) else word for word in words])
        assert code == 0, said

    return written


KINDS: dict[str, FolderKind] = {
    "data set": FolderKind(_copy("data"), _read_data, strict=True, spared=FOR_PEOPLE),
    "run": FolderKind(_copy("run"), _read_run, spared=FOR_PEOPLE + OF_STATES),
    "state of a run": FolderKind(_copy("run"), _read_state, spared=(*MODEL.files, "config.json")),
    "grc run": FolderKind(_copy("grc"), _read_run, spared=FOR_PEOPLE + OF_STATES),
    "drafts": FolderKind(_copy("grc/drafts"), _read_drafts),
    "export": FolderKind(
        _verb("export", "RUN", "OUT", "--no-compile", "--users", 1, "--k", 5, "--beams", 5, "--seen", 8),
        lambda world, folder: _answers(load_export(folder)),
        spared=("catalogue.parquet",),
    ),
    "popularity run": FolderKind(_verb("train", "popularity", "DATA", "OUT"), _read_run, spared=FOR_PEOPLE),
    "sasrec run": FolderKind(
        _verb("train", "sasrec", "DATA", "OUT", "--settings.training.epochs", 1), _read_run, spared=FOR_PEOPLE
    ),
}


def try_files(world: World, scratch: Path, kinds: Iterable[str] = KINDS) -> list[Damaged]:
    """Each kind of folder, with each of its files damaged in each way."""
    tried = []
    for name in kinds:
        folder = scratch / f"folder of {name}"
        KINDS[name].write(world, folder)
        others = [world.run / "model.safetensors", world.data / "catalogue.parquet", world.run / "config.json"]
        tried += _damage_all(name, world, folder, others, scratch / "damaged")
    return tried


def _damage_all(name: str, world: World, folder: Path, others: list[Path], scratch: Path) -> list[Damaged]:
    kind = KINDS[name]
    right = kind.read(world, folder)
    tried = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in kind.spared):
        for what, content in damages(file, [other for other in others if other.read_bytes() != file.read_bytes()]):
            shutil.copytree(folder, scratch)
            place = scratch / file.relative_to(folder)
            place.unlink()
            if content is not None:
                place.write_bytes(content)
            exact = kind.strict or (what.startswith("byte") and file.suffix in (".safetensors", ".pt2"))
            tried.append(Damaged(name, file.name, what, _fault(partial(kind.read, world, scratch), right, exact)))
            shutil.rmtree(scratch)
    return tried


def _fault(read: Callable[[], object], right: object, exact: bool) -> str | None:
    try:
        with quiet():
            answer = read()
    except InputError as error:
        return None if "\n" not in str(error) else f"said {str(error)!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "passed quietly" if type(answer) is not type(right) or (exact and answer != right) else None
