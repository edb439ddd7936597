"""The methods of the tables: how each is trained into a folder, and read from there."""

import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from redraft import recipes
from redraft.baselines.cobra import COBRA
from redraft.baselines.dssm import DSSM
from redraft.baselines.hstu import HSTU
from redraft.baselines.itemknn import ItemKNN
from redraft.baselines.markov import Markov
from redraft.baselines.neural import NeuralRecommender
from redraft.baselines.popularity import Popularity
from redraft.baselines.rearec import ReaRec
from redraft.baselines.sasrec import SASRec
from redraft.data.split import leave_one_out, sample_users
from redraft.data.store import load_dataset
from redraft.decode.rewriting import Correction
from redraft.device import Precision, find_device
from redraft.eval.evaluate import evaluate
from redraft.eval.metrics import KS
from redraft.files import write_json
from redraft.folders import BASELINE, clear
from redraft.provenance import provenance
from redraft.recommender import load
from redraft.records import InputError, Recommender
from redraft.train import grpo, pretrain, sft, verifier
from redraft.train.drafts import make_drafts
from redraft.train.rewards import RewardWeights

__all__ = ["ABLATIONS", "FIGURE", "METHODS", "SCALES", "TABLE", "Method", "Scale", "Task", "find_method"]


@dataclass(frozen=True)
class Scale:
    """How much is trained. tiger, generator: recipes. The others: epochs, or steps of GRPO; width of the baselines."""

    tiger: Callable[[Path, Path], pretrain.PretrainConfig]
    generator: Callable[[Path, Path], pretrain.PretrainConfig]
    fold_epochs: int
    sft_epochs: int
    verifier_epochs: int
    rl_steps: int
    width: int


SCALES = {
    "small": Scale(recipes.tiger, recipes.small, 12, sft_epochs=6, verifier_epochs=8, rl_steps=100, width=128),
    "tiny": Scale(recipes.tiny_tiger, recipes.tiny, 12, sft_epochs=6, verifier_epochs=8, rl_steps=50, width=64),
}


PAPER = RewardWeights()


@dataclass(frozen=True)
class Task:
    """One method with one seed on one data set. root: holds a folder METHOD-SEED for each."""

    data: Path
    root: Path
    name: str
    seed: int
    scale: Scale
    device: str
    half: bool

    @property
    def folder(self) -> Path:
        """Where this one is trained."""
        return self.other(self.name)

    def other(self, name: str) -> Path:
        """Where another method is trained with the same seed; one's own under the name of its class."""
        return self.root / f"{name.rpartition(':')[2]}-{self.seed}"


@dataclass(frozen=True)
class Method:
    """One row of a table, or what rows need to be trained.

    train: writes task.folder, or goes on with what is there. load: reads it. needs: what must be trained before.
    ours: whether it corrects itself, so that the best of the others is what it is compared with. weights: the method
    whose weights it uses in another way, if it has none of its own. row: whether it may stand in a table.
    """

    label: str
    train: Callable[[Task], None]
    load: Callable[[Task], Recommender]
    needs: tuple[str, ...] = ()
    ours: bool = False
    weights: str = ""
    row: bool = True


def find_method(name: str) -> Method:
    """A method by its name in METHODS, or by FILE.py:CLASS, a class that keeps the contract of `redraft.baselines`.

    Raises InputError, saying which there are, for any other name.
    """
    if ":" in name:
        return _own(name)
    if name not in METHODS:
        known = ", ".join(each for each, method in METHODS.items() if method.row)
        raise InputError(f"no method {name!r}; there are {known}, and FILE.py:CLASS for one of your own")
    return METHODS[name]


@cache
def _own(name: str) -> Method:
    path, _, found = name.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise InputError(f"{path}: no such Python file; give FILE.py:CLASS")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, found):
        raise InputError(f"{path}: has no class {found}; give FILE.py:CLASS")
    return _baseline(found, getattr(module, found))


def _baseline(label: str, cls: Any, **settings: Any) -> Method:
    """A class with fit, save and load, see `redraft.baselines`; neural ones are judged on validation as they learn."""
    return Method(label, partial(_fit, cls, settings), partial(_fitted, cls))


def _fitted(cls: Any, task: Task) -> Recommender:
    found: Recommender = cls.load(task.folder / "fitted")
    if isinstance(found, NeuralRecommender):
        found.network.to(find_device(task.device))
    return found


def _fit(cls: Any, settings: dict[str, Any], task: Task) -> None:
    dataset = load_dataset(task.data)
    split = leave_one_out(dataset.interactions)
    config: dict[str, Any] = {"seed": task.seed}
    options: dict[str, Any] = {}
    if issubclass(cls, NeuralRecommender):
        made = replace(cls.Settings(), width=task.scale.width, **settings)
        made = replace(made, training=replace(made.training, seed=task.seed, half=task.half))
        options = {"settings": made, "judge": _Judge(task), "device": task.device}
        config |= asdict(made)
    fingerprints = {"data": dataset.fingerprint}
    write_json(task.folder / "config.json", {"config": config, "fingerprints": fingerprints} | provenance())
    clear(task.folder / "fitted", BASELINE)
    cls.fit(split.train, dataset.catalogue, **options).save(task.folder / "fitted")


class _Judge:
    """NDCG@10 on validation, seen items kept, of users drawn by seed; each answer is logged to metrics.jsonl."""

    def __init__(self, task: Task, users: int = 4000):
        split = leave_one_out(load_dataset(task.data).interactions)
        self.holdout = sample_users(split.validation, users, task.seed)
        self.log = task.folder / "metrics.jsonl"
        self.started, self.epoch = time.monotonic(), 0
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")

    def __call__(self, model: NeuralRecommender) -> float:
        self.epoch += 1
        found = evaluate(model, self.holdout, ks=(10,), filter_seen=False).metrics
        line = {"epoch": self.epoch, **found, "seconds": time.monotonic() - self.started}
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return found["N@10"]


def _generative(label: str, train: Callable[[Task], None], *needs: str, ours: bool = False, row: bool = True) -> Method:
    """A run of `redraft train`."""
    return Method(label, train, partial(_read, run=""), needs, ours, row=row)


def _scheduled(label: str, alpha: float, run: str = "grc-rl") -> Method:
    """The weights of another method with another weight of the entropy in the schedule (paper Eq. 25)."""
    return Method(label, lambda task: None, partial(_read, run=run, alpha=alpha), (run,), True, run)


def _read(task: Task, *, run: str, alpha: float = 0.2, trust: float = 1.0) -> Recommender:
    folder, beams = task.other(run) if run else task.folder, _beams(task, max(KS))
    correction = Correction(alpha=alpha)
    return load(folder, beams=beams, half=task.half, trust=trust, device=task.device, correction=correction)


def _beams(task: Task, wanted: int) -> int:
    """So many beams, or all items of a smaller catalogue."""
    return min(wanted, load_dataset(task.data).catalogue.n_items)


def _precision(task: Task) -> Precision:
    return "bfloat16" if task.half else "float32"


def _tiger(task: Task, *, init: str = "", fold: tuple[int, int] | None = None) -> None:
    config = replace(task.scale.tiger(task.data, task.folder), seed=task.seed, fold=fold, resume=True)
    config = replace(config, precision=_precision(task))
    if fold:
        config = replace(config, epochs=task.scale.fold_epochs, evaluate_every=task.scale.fold_epochs)
    if init:
        config = replace(config, init=task.other(init), epochs=task.scale.sft_epochs, learning_rate=5e-4)
    pretrain.main(config)


def _generator(task: Task) -> None:
    config = replace(task.scale.generator(task.data, task.folder), seed=task.seed, resume=True)
    pretrain.main(replace(config, precision=_precision(task)))


def _drafts(task: Task) -> None:
    """What all supervised models of a seed learn to correct, made by models that have not seen the users."""
    dataset, beams = load_dataset(task.data), _beams(task, sft.SFTConfig.draft_beams)
    drafters = [load(task.other(fold), beams=beams, half=task.half, device=task.device) for fold in FOLDS]
    fingerprints = {"data": dataset.fingerprint}
    write_json(task.folder / "config.json", {"config": {"beams": beams}, "fingerprints": fingerprints} | provenance())
    train = leave_one_out(dataset.interactions).train
    make_drafts(drafters, train, task.folder, data=dataset.fingerprint, n_beams=beams)


def _sft(task: Task, *, backbone: str = "tiger", **changes: Any) -> None:
    config = replace(
        recipes.grc(task.data, task.folder),
        backbone=task.other(backbone),
        drafters=tuple(map(task.other, FOLDS)),
        drafts=task.other("drafts"),
        draft_beams=_beams(task, sft.SFTConfig.draft_beams),
        epochs=task.scale.sft_epochs,
        evaluate_every=2,
        precision=_precision(task),
        seed=task.seed,
        resume=True,
    )
    sft.main(replace(config, **changes))


def _grpo(task: Task, *, start: str = "grc-sft", reward: RewardWeights = PAPER) -> None:
    """What the reward makes of a model: the best weights that were trained, even if those they came from are better."""
    config = replace(recipes.grpo(task.data, task.folder), sft=task.other(start), steps=task.scale.rl_steps)
    beams = _beams(task, config.evaluate_beams)
    config = replace(config, evaluate_beams=beams, evaluate_budget=min(config.evaluate_budget, beams))
    config = replace(config, keep_start=False, keep_tail=0.0, evaluate_every=50, precision=_precision(task))
    grpo.main(replace(config, reward=reward, seed=task.seed, resume=True))


def _verifier(task: Task, *, run: str) -> None:
    config = replace(recipes.verifier(task.data, task.folder), run=task.other(run), epochs=task.scale.verifier_epochs)
    beams = _beams(task, config.evaluate_beams)
    verifier.main(replace(config, evaluate_beams=beams, precision=_precision(task), seed=task.seed, resume=True))


FOLDS = ("tiger-fold-0", "tiger-fold-1")
DRAFTED = ("tiger", "drafts")
REWARDS = {
    "task": "R_task",
    "correction": "R_cor",
    "location": "R_loc in R_cor",
    "semantic": "R_sem in R_cor",
    "improvement": "R_delta in R_cor",
}

METHODS: dict[str, Method] = {
    "popularity": _baseline("Popularity", Popularity),
    "markov": _baseline("Last-item Markov", Markov),
    "itemknn": _baseline("item-kNN", ItemKNN),
    "dssm": _baseline("DSSM", DSSM),
    "sasrec": _baseline("SASRec", SASRec),
    "sasrec-sampled": _baseline("SASRec, sampled softmax", SASRec, loss="sampled"),
    "sasrec-bce": _baseline("SASRec, binary loss", SASRec, loss="bce"),
    "hstu": _baseline("HSTU", HSTU),
    "rearec-erl": _baseline("ReaRec, ERL", ReaRec, learning="erl"),
    "rearec-prl": _baseline("ReaRec, PRL", ReaRec, learning="prl"),
    "cobra": _baseline("COBRA", COBRA),
    "generator": _generative("Item-aware generator", _generator),
    "generator-drafts": Method(
        "Item-aware generator, drafts alone",
        lambda task: None,
        partial(_read, run="generator", trust=0.0),
        ("generator",),
        weights="generator",
    ),
    "tiger": _generative("TIGER", _tiger),
    "tiger-more": _generative("TIGER, longer training", partial(_tiger, init="tiger"), "tiger"),
    **{
        fold: _generative(f"TIGER without fold {i}", partial(_tiger, fold=(i, len(FOLDS))), row=False)
        for i, fold in enumerate(FOLDS)
    },
    "drafts": _generative("Drafts of the folds", _drafts, *FOLDS, row=False),
    "gc-sft": _generative("GC_SFT", partial(_sft, reflection=False), *DRAFTED, ours=True),
    "grc-sft": _generative("GRC_SFT", _sft, *DRAFTED, ours=True),
    "grc-sft-more": _generative(
        "GRC_SFT, longer training",
        partial(_sft, backbone="grc-sft", epochs=2, learning_rate=5e-5),
        "grc-sft",
        ours=True,
    ),
    "grc-rl": _generative("GRC_RL", _grpo, "grc-sft", ours=True),
    **{
        f"grc-rl-no-{term}": _generative(
            f"w/o {label}", partial(_grpo, reward=RewardWeights(**{term: 0.0})), "grc-sft", ours=True
        )
        for term, label in REWARDS.items()
    },
    "grc-rl-no-egrs": _scheduled("w/o EGRS", 0.0),
    "grc-verified": _generative("GRC_SFT, verified", partial(_verifier, run="grc-sft"), "grc-sft", ours=True),
    "tiger-verified": _generative("TIGER, verified", partial(_verifier, run="tiger"), "tiger"),
}

TABLE = tuple(name for name, method in METHODS.items() if method.row and not name.startswith("grc-rl-no"))
ABLATIONS = ("grc-rl", "grc-sft", "grc-sft-more", *(name for name in METHODS if name.startswith("grc-rl-no")))
COEFFICIENTS = {
    "lambda_rc": (0.8, 1.0, 1.2, 1.4, 1.6),
    "beta_cor": (1.4, 1.8, 2.2, 2.6, 3.0),
    "beta_last": (1.0, 1.5, 2.0, 2.5, 3.0),
    "beta_loc": (0.6, 0.8, 1.0, 1.2, 1.4),
    "beta_sem": (0.4, 0.6, 0.8, 1.0, 1.2),
    "alpha_e": (0.0, 0.1, 0.2, 0.3, 0.4),
}
REWARD_OF = {"beta_cor": "correction", "beta_last": "last", "beta_loc": "location", "beta_sem": "semantic"}


def _sensitivity() -> dict[str, dict[float, str]]:
    """The paper's Figure 3: for each coefficient the method of each value; the middle one is the default."""
    figure: dict[str, dict[float, str]] = {}
    for coefficient, values in COEFFICIENTS.items():
        points = figure.setdefault(coefficient, {values[2]: "grc-rl"})
        for value in (*values[:2], *values[3:]):
            label, name = f"{coefficient} = {value}", f"grc-rl-{coefficient}-{value}"
            points[value] = name
            if coefficient == "alpha_e":
                METHODS[name] = _scheduled(label, value)
            elif coefficient == "lambda_rc":
                start = f"grc-sft-{coefficient}-{value}"
                METHODS[start] = _generative(label, partial(_sft, correction_weight=value), *DRAFTED, ours=True)
                METHODS[name] = _generative(label, partial(_grpo, start=start), start, ours=True)
            else:
                weights = RewardWeights(**{REWARD_OF[coefficient]: value})
                METHODS[name] = _generative(label, partial(_grpo, reward=weights), "grc-sft", ours=True)
    return {coefficient: dict(sorted(points.items())) for coefficient, points in figure.items()}


FIGURE = _sensitivity()
