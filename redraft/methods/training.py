"""How a method is trained into a task's folder: a recipe, at the task's scale, from what the method needs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from redraft import recipes
from redraft.data.split import split_of
from redraft.methods.task import Task
from redraft.recommender import load
from redraft.train import baseline, grpo, pretrain, sft, verifier
from redraft.train.baseline import BaselineConfig
from redraft.train.drafts import make_drafts
from redraft.train.rewards import RewardWeights

__all__ = [
    "FOLDS",
    "fit_baseline",
    "make_fold_drafts",
    "train_generator",
    "train_grpo",
    "train_sft",
    "train_tiger",
    "train_verifier",
]

FOLDS = ("tiger-fold-0", "tiger-fold-1")
WHOLE_REWARD = RewardWeights()


def fit_baseline(task: Task, *, recipe: Callable[[Path, Path], BaselineConfig]) -> None:
    """A baseline, a neural one at the scale's width."""
    config = recipe(task.data, task.folder)
    settings: Any = config.settings
    if settings is not None:
        training = replace(settings.training, seed=task.seed, half=task.half)
        settings = replace(settings, width=task.scale.width, training=training)
    baseline.main(replace(config, settings=settings, device=task.device, replace=True))


def train_tiger(task: Task, *, init: str = "", fold: tuple[int, int] | None = None) -> None:
    """The paper's plain backbone. init: the method whose weights it starts from."""
    config = replace(task.scale.tiger(task.data, task.folder), seed=task.seed, fold=fold, resume=True)
    config = replace(config, precision=task.precision)
    if fold:
        config = replace(config, epochs=task.scale.fold_epochs, evaluate_every=task.scale.fold_epochs)
    if init:
        config = replace(config, init=task.of(init).folder, epochs=task.scale.sft_epochs, learning_rate=5e-4)
    pretrain.main(config)


def train_generator(task: Task) -> None:
    """The item-aware generator."""
    config = replace(task.scale.generator(task.data, task.folder), seed=task.seed, resume=True)
    pretrain.main(replace(config, precision=task.precision))


def make_fold_drafts(task: Task) -> None:
    """What all supervised models of a seed learn to correct, made by models that did not learn from the users."""
    beams = task.beams(sft.SFTConfig.draft_beams)
    drafters = [load(task.of(fold).folder, beams=beams, half=task.half, device=task.device) for fold in FOLDS]
    baseline.write_config(task.folder, {"beams": beams}, task.dataset.fingerprint)
    train = split_of(task.dataset).train
    make_drafts(drafters, train, task.folder, data=task.dataset.fingerprint, n_beams=beams)


def train_sft(task: Task, *, backbone: str = "tiger", **changes: Any) -> None:
    """A model that corrects itself, supervised. changes: of its config."""
    config = replace(
        recipes.grc(task.data, task.folder),
        backbone=task.of(backbone).folder,
        drafters=tuple(task.of(fold).folder for fold in FOLDS),
        drafts=task.of("drafts").folder,
        draft_beams=task.beams(sft.SFTConfig.draft_beams),
        epochs=task.scale.sft_epochs,
        evaluate_every=2,
        precision=task.precision,
        seed=task.seed,
        resume=True,
    )
    sft.main(replace(config, **changes))


def train_grpo(task: Task, *, start: str = "grc-sft", reward: RewardWeights = WHOLE_REWARD) -> None:
    """What the reward makes of a model: the best weights that were trained, even if those they came from are better."""
    config = replace(recipes.grpo(task.data, task.folder), sft=task.of(start).folder, steps=task.scale.rl_steps)
    beams = task.beams(config.evaluate_beams)
    config = replace(config, evaluate_beams=beams, evaluate_budget=min(config.evaluate_budget, beams))
    config = replace(config, keep_start=False, keep_tail=0.0, evaluate_every=50, precision=task.precision)
    grpo.main(replace(config, reward=reward, seed=task.seed, resume=True))


def train_verifier(task: Task, *, run: str) -> None:
    """A verifier beside another method's weights."""
    config = replace(recipes.verifier(task.data, task.folder), run=task.of(run).folder, precision=task.precision)
    config = replace(config, epochs=task.scale.verifier_epochs, evaluate_beams=task.beams(config.evaluate_beams))
    verifier.main(replace(config, seed=task.seed, resume=True))
