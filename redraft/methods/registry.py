"""The methods of the tables by name: one entry each says how it is called, trained, and read."""

from collections.abc import Callable
from functools import partial
from typing import Any

from redraft.baselines.fitted import PRESETS, find_class, read_fitted
from redraft.decode.correction import Correction
from redraft.eval.metrics import KS
from redraft.methods.task import Method, Task
from redraft.methods.training import (
    FOLDS,
    fit_baseline,
    make_fold_drafts,
    train_generator,
    train_grpo,
    train_sft,
    train_tiger,
    train_verifier,
)
from redraft.recipes import baseline
from redraft.recommender import load
from redraft.records import Catalogue, InputError, Interactions, Recommender
from redraft.train.rewards import RewardWeights

__all__ = ["ABLATIONS", "COEFFICIENTS", "COUNTED", "FIGURE", "METHODS", "TABLE", "find_method", "fit_counted"]


def find_method(name: str) -> Method:
    """A method by its name in METHODS, or by FILE.py:CLASS, a class that keeps the contract of `redraft.baselines`.

    Raises InputError, saying which there are, for any other name.
    """
    if ":" in name:
        return Method(
            name.rpartition(":")[2], partial(fit_baseline, recipe=baseline(name)), partial(_fitted, method=name)
        )
    if name not in METHODS:
        known = ", ".join(each for each, method in METHODS.items() if method.row)
        raise InputError(f"no method {name!r}; there are {known}, and FILE.py:CLASS for one of your own")
    return METHODS[name]


def fit_counted(name: str, train: Interactions, catalogue: Catalogue) -> Recommender:
    """One of COUNTED, fitted on the spot."""
    fitted: Recommender = find_class(name).fit(train, catalogue)
    return fitted


def _baseline(name: str) -> Method:
    """A preset of `redraft.baselines.fitted`."""
    return Method(PRESETS[name].label, partial(fit_baseline, recipe=baseline(name)), _fitted)


def _fitted(task: Task, *, method: str = "") -> Recommender:
    return read_fitted(task.folder, method, device=task.device)


def _generative(label: str, train: Callable[[Task], None], *needs: str, **about: Any) -> Method:
    """A run of a generative recipe. about: other fields of Method."""
    return Method(label, train, _read, needs, **about)


def _scheduled(label: str, alpha: float, run: str = "grc-rl") -> Method:
    """The weights of another method with another weight of the entropy in the schedule (paper Eq. 25)."""
    return Method(label, lambda task: None, partial(_read, run=run, alpha=alpha), (run,), ours=True, weights=run)


def _read(task: Task, *, run: str = "", alpha: float = Correction.alpha) -> Recommender:
    how: dict[str, Any] = {"half": task.half, "device": task.device, "correction": Correction(alpha=alpha)}
    return load(task.of(run or task.name).folder, beams=task.beams(max(KS)), **how)


COUNTED = ("popularity", "markov", "itemknn")
"""Baselines that take no training to speak of."""
DRAFTED = ("tiger", "drafts")
REWARDS = {
    "task": "R_task",
    "correction": "R_cor",
    "location": "R_loc in R_cor",
    "semantic": "R_sem in R_cor",
    "improvement": "R_delta in R_cor",
}
COEFFICIENTS = {
    "lambda_rc": (0.8, 1.0, 1.2, 1.4, 1.6),
    "beta_cor": (1.4, 1.8, 2.2, 2.6, 3.0),
    "beta_last": (1.0, 1.5, 2.0, 2.5, 3.0),
    "beta_loc": (0.6, 0.8, 1.0, 1.2, 1.4),
    "beta_sem": (0.4, 0.6, 0.8, 1.0, 1.2),
    "alpha_e": (0.0, 0.1, 0.2, 0.3, 0.4),
}
REWARD_OF = {"beta_cor": "correction", "beta_last": "last", "beta_loc": "location", "beta_sem": "semantic"}


def _point(coefficient: str, value: float) -> dict[str, Method]:
    """What Figure 3 needs for one value of one coefficient: its method last."""
    label, name = f"{coefficient} = {value}", f"grc-rl-{coefficient}-{value}"
    if coefficient == "alpha_e":
        return {name: _scheduled(label, value)}
    if coefficient == "lambda_rc":
        start = f"grc-sft-{coefficient}-{value}"
        return {
            start: _generative(label, partial(train_sft, correction_weight=value), *DRAFTED, ours=True),
            name: _generative(label, partial(train_grpo, start=start), start, ours=True),
        }
    weights = RewardWeights(**{REWARD_OF[coefficient]: value})
    return {name: _generative(label, partial(train_grpo, reward=weights), "grc-sft", ours=True)}


POINTS = {c: {v: {} if v == values[2] else _point(c, v) for v in values} for c, values in COEFFICIENTS.items()}
FIGURE = {c: {v: next(reversed(made), "grc-rl") for v, made in points.items()} for c, points in POINTS.items()}
"""The paper's Figure 3: for each coefficient the method of each value; the middle one is the default."""

METHODS: dict[str, Method] = {
    **{name: _baseline(name) for name in PRESETS},
    "generator": _generative("Item-aware generator", train_generator),
    "tiger": _generative("TIGER", train_tiger),
    "tiger-more": _generative("TIGER, longer training", partial(train_tiger, init="tiger"), "tiger"),
    **{
        fold: _generative(f"TIGER without fold {i}", partial(train_tiger, fold=(i, len(FOLDS))), row=False)
        for i, fold in enumerate(FOLDS)
    },
    "drafts": _generative("Drafts of the folds", make_fold_drafts, *FOLDS, row=False),
    "gc-sft": _generative("GC_SFT", partial(train_sft, reflection=False), *DRAFTED, ours=True),
    "grc-sft": _generative("GRC_SFT", train_sft, *DRAFTED, ours=True),
    "grc-sft-more": _generative(
        "GRC_SFT, longer training",
        partial(train_sft, backbone="grc-sft", epochs=2, learning_rate=5e-5),
        "grc-sft",
        ours=True,
    ),
    "grc-rl": _generative("GRC_RL", train_grpo, "grc-sft", ours=True),
    **{
        f"grc-rl-no-{term}": _generative(
            f"w/o {label}", partial(train_grpo, reward=RewardWeights(**{term: 0.0})), "grc-sft", ours=True
        )
        for term, label in REWARDS.items()
    },
    "grc-rl-no-egrs": _scheduled("w/o EGRS", 0.0),
    "grc-verified": _generative("GRC_SFT, verified", partial(train_verifier, run="grc-sft"), "grc-sft", ours=True),
    "tiger-verified": _generative("TIGER, verified", partial(train_verifier, run="tiger"), "tiger"),
    **{name: made for points in POINTS.values() for point in points.values() for name, made in point.items()},
}

IN_FIGURE = {name for points in POINTS.values() for point in points.values() for name in point}
TABLE = tuple(
    name for name, made in METHODS.items() if made.row and name not in IN_FIGURE and not name.startswith("grc-rl-no")
)
ABLATIONS = ("grc-rl", "grc-sft", "grc-sft-more", *(name for name in METHODS if name.startswith("grc-rl-no")))
