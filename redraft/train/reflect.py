"""`redraft train reflect`: a listwise reflection with evidence, from drafts of the validation events."""

import dataclasses
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from safetensors.torch import save_file

from redraft.baselines.fitted import is_baseline_run, read_fitted
from redraft.baselines.neural import NeuralRecommender
from redraft.checkpoint import check_same_items, weights_fingerprint
from redraft.data.split import split_of
from redraft.data.store import load_dataset
from redraft.evidence.drafting import Drafting, Rewriting, check_rewriting
from redraft.evidence.fit import FitSettings, Sheet, fit
from redraft.evidence.kinds import KINDS, Case, check_kinds
from redraft.evidence.memory import Memory
from redraft.evidence.recommender import ReflectingRecommender, known_of
from redraft.files import atomic_file
from redraft.folders import RUN, check_place
from redraft.model.generator import Generator
from redraft.recommender import GenerativeRecommender, load, read_catalogue
from redraft.records import MAX_COUNT, MAX_SEED, InputError, Interactions, check_above, check_between, check_least
from redraft.stored import learnt, learnt_from, read_settings, read_tensors
from redraft.terminal import next_command, plain_console
from redraft.train.progress import log_metrics, progress_bar
from redraft.train.settings import keep_settings

__all__ = ["ReflectConfig", "kept_case", "main"]

PART = 512
FIX = "remove the folder drafts, they are made again"


@dataclass(frozen=True)
class ReflectConfig:
    """Weigh a generator's drafts by evidence: learnt on the validation events of some users, chosen on others."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder."""
    out: Annotated[Path, tyro.conf.Positional]
    """Run folder to write."""
    _: KW_ONLY
    run: Path
    """Run folder of a trained generator, recipe small or tiny."""
    tower: Path
    """Run folder of a trained baseline with an encoder of its own, such as recipe hstu."""
    evidence: tuple[str, ...] = tuple(KINDS)
    """Kinds of evidence that the reflection reads."""
    beams: int = 200
    """Drafts of each user."""
    rewriting: Rewriting = field(default_factory=Rewriting)
    """How corrections are written."""
    users: int | None = None
    """Users to learn from, drawn by seed [all]."""
    fit: FitSettings = field(default_factory=FitSettings)
    """How the reflection is fitted."""
    replace: bool = False
    """Lose the run that is in the folder, and start again."""


def main(config: ReflectConfig) -> None:
    """Draft, fit, say what was written and what to run next."""
    check_settings(config)
    dataset = load_dataset(config.data)
    train, validation = (split := split_of(dataset)).train, split.validation
    writer, tower = read_writer(config, dataset.fingerprint), read_tower(config, dataset.fingerprint)
    check_same_items(config.run, writer.catalogue, config.data, dataset.catalogue)
    check_same_items(config.tower, read_catalogue(config.tower / "catalogue.parquet"), config.data, dataset.catalogue)
    popularity = np.bincount(train.items, minlength=dataset.catalogue.n_items)
    if not np.array_equal(tower.facts.counts.numpy(), popularity):
        raise InputError(f"{config.tower}: learnt from other events than training may see; train it on {config.data}")
    fingerprints: dict[str, Any] = {"data": dataset.fingerprint, "semantic_ids": writer.ids.fingerprint}
    fingerprints["learnt"] = learnt_from(dataset.fingerprint, config.run, config.tower)
    fingerprints |= {"run": weights_fingerprint(writer.model), "tower": weights_fingerprint(tower.network)}
    users = np.random.default_rng(config.fit.seed).permutation(validation.histories.n_users)[: config.users]
    keep_settings(dataclasses.asdict(config), fingerprints)
    known = known_of(writer, torch.from_numpy(popularity), Memory.of(train, dataset.catalogue))
    drafting = Drafting(writer, tower, known.memory, config.beams, config.rewriting)
    about = {"data": dataset.fingerprint, "seen": "filtered"}
    case = kept_case(drafting, validation.histories.take(users), config.out / "drafts", about)
    sheet = Sheet.of(config.evidence, case, validation.targets[users], known)
    log = config.out / "metrics.jsonl"
    reflection = fit(sheet, known, config.fit, log=lambda line: log_metrics(log, line))
    ReflectingRecommender(writer, tower, known, reflection, config.evidence, config.rewriting).save_parts(config.out)
    console = plain_console()
    console.print(f"wrote {config.out}")
    console.print(next_command("evaluate", config.data, "--runs", config.out))


def check_settings(config: ReflectConfig) -> None:
    """Raise InputError for what no training can have, before any work."""
    check_kinds(config.evidence)
    fit = config.fit
    counts = {name: getattr(fit, name) for name in ("hidden", "epochs", "patience", "batch_size", "labelled")}
    check_between(
        1, MAX_COUNT, beams=config.beams, **counts, **({} if config.users is None else {"users": config.users})
    )
    check_rewriting(config.rewriting)
    check_least(0, weight_decay=fit.weight_decay, label_weight=fit.label_weight)
    check_between(0, 1, dropout=fit.dropout, chosen_on=fit.chosen_on)
    check_between(0, MAX_SEED, seed=fit.seed)
    check_above(0, learning_rate=fit.learning_rate)
    check_place(config.out, RUN)
    if (config.out / "reflection.safetensors").exists() and not config.replace:
        raise InputError(f"{config.out}: holds a reflection; pass --replace to lose it, or give another folder")
    if (config.out / "model.safetensors").exists() or (config.out / "fitted").exists():
        raise InputError(f"{config.out}: holds a run of another recipe; give a new or empty folder")


def read_writer(config: ReflectConfig, data: str) -> GenerativeRecommender:
    """The generator; raises InputError unless it has an item head and learnt from this data set's training events."""
    writer = load(config.run, beams=config.beams)
    if not isinstance(writer.model, Generator):
        raise InputError(f"{config.run}: has no item head; give a run of recipe small or tiny")
    _check_learnt(config.run, data, config.data)
    return writer


def read_tower(config: ReflectConfig, data: str) -> NeuralRecommender:
    """The tower; raises InputError unless it is a trained network that learnt from this data set."""
    if not is_baseline_run(config.tower):
        raise InputError(f"{config.tower}: no run of a baseline; train a tower with `redraft train hstu`")
    tower = read_fitted(config.tower)
    if not isinstance(tower, NeuralRecommender):
        raise InputError(f"{config.tower}: counts, and a tower is a network; train one with `redraft train hstu`")
    _check_learnt(config.tower, data, config.data)
    return tower


def _check_learnt(run: Path, data: str, where: Path) -> None:
    if learnt(run) != [data]:
        raise InputError(f"{run}: learnt from other events than those of {where}; give a run on that data set")
    if read_settings(run).config.get("fold"):
        raise InputError(f"{run}: learnt from a fold of the users alone; give a run on all of them")


def kept_case(
    drafting: Drafting, histories: Interactions, folder: Path, about: dict[str, str], *, filter_seen: bool = True
) -> Case:
    """The case of histories, made part by part and kept; what is there already is read.

    about: beside what `Drafting.about` says, all that the parts must agree in.

    Raises InputError for a part that was made with other weights, data, beams or corrections, or of other histories.
    """
    parts: list[Case] = []
    about = drafting.about | about
    folder.mkdir(parents=True, exist_ok=True)
    with progress_bar("draft", histories.n_users) as advance:
        for number, start in enumerate(range(0, histories.n_users, PART)):
            users = np.arange(start, min(start + PART, histories.n_users))
            some = histories.take(users)
            mine = about | {"users": f"{start} to {users[-1]} of {histories.n_users}"}
            path = folder / f"part-{number:05d}.safetensors"
            if not path.exists():
                made = drafting(some, filter_seen=filter_seen)._asdict()
                with atomic_file(path) as partial:
                    save_file({name: x.contiguous() for name, x in made.items()}, partial, mine)
            about_part, tensors = read_tensors(path, "part of the drafts", FIX)
            for name, value in mine.items():
                if about_part.get(name) != value:
                    raise InputError(f"{path}: its drafts were made with other {name}; {FIX}")
            case = Case(**tensors)
            read = torch.from_numpy(some.padded(case.history.shape[1]))
            if not torch.equal(case.history, read) or not np.array_equal(case.lengths, some.lengths):
                raise InputError(f"{path}: its drafts are of other users; {FIX}")
            parts.append(case)
            advance("", len(users))
    return Case(*(torch.cat(part) for part in zip(*parts)))
