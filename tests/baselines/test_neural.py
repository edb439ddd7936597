from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest
import torch
from tiny import random_interactions, tiny_catalogue

from redraft import optim
from redraft.baselines.cobra import COBRA, COBRASettings
from redraft.baselines.dssm import DSSM, DSSMSettings
from redraft.baselines.hstu import HSTU, HSTUSettings
from redraft.baselines.neural import Training
from redraft.baselines.rearec import ReaRec, ReaRecSettings
from redraft.baselines.sasrec import SASRec, SASRecSettings

TRAINING = Training(epochs=2, batch_size=40)
SHAPE: dict[str, Any] = {"history": 6, "width": 8, "heads": 2, "layers": 1, "training": TRAINING}
LAYERS = {**SHAPE, "feed_forward": 8}
BASES: dict[str, tuple[Any, Any]] = {
    "dssm": (DSSM, DSSMSettings(history=6, width=8, hidden=8, training=TRAINING)),
    "sasrec": (SASRec, SASRecSettings(**LAYERS, loss="sampled", negatives=8)),
    "hstu": (HSTU, HSTUSettings(**SHAPE, negatives=8)),
    "rearec-erl": (ReaRec, ReaRecSettings(**LAYERS)),
    "rearec-prl": (ReaRec, ReaRecSettings(**LAYERS, learning="prl")),
    "cobra": (COBRA, COBRASettings(**LAYERS, clusters=8)),
}
CHANGES: dict[str, Any] = {"history": 4, "width": 12, "heads": 4, "layers": 2, "feed_forward": 12, "hidden": 12}
CHANGES |= {"dropout": 0.6, "temperature": 0.2, "negatives": 5, "loss": "bce", "steps": 3, "diversity": 0.5}
CHANGES |= {"annealing": 4.0, "noise": 0.5, "contrast": 0.5, "contrast_temperature": 0.5, "clusters": 5, "psi": 4.0}
LOOP: dict[str, Any] = {"epochs": 3, "batch_size": 20, "learning_rate": 1e-2, "weight_decay": 0.5, "clip": 0.01}
LOOP |= {"half": True, "seed": 1}
ELSEWHERE = {"sasrec": set[str](), "cobra": {"beams", "tau"}}
"""These are for lists alone."""
ELSEWHERE |= {"rearec-erl": {"annealing", "noise", "contrast", "contrast_temperature"}, "rearec-prl": {"diversity"}}
OTHER = {"rearec-erl": "prl", "rearec-prl": "erl"}


def learned(name: str, settings: Any) -> dict[str, torch.Tensor]:
    cls, _ = BASES[name]
    fitted = cls.fit(random_interactions([3 + u % 8 for u in range(20)], 30), tiny_catalogue(30, 2), settings)
    return fitted.network.state_dict()


@cache
def unchanged(name: str) -> dict[str, torch.Tensor]:
    return learned(name, BASES[name][1])


def assert_others(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    shapes = [{name: weight.shape for name, weight in weights.items()} for weights in (first, second)]
    assert shapes[0] != shapes[1] or any(not torch.equal(weight, second[name]) for name, weight in first.items())


@pytest.mark.parametrize("name", BASES)
def test_the_same_settings_give_the_same_weights(name: str) -> None:
    weights = unchanged(name)
    assert all(torch.equal(weight, weights[key]) for key, weight in learned(name, BASES[name][1]).items())


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        (name, field.name)
        for name, (_, settings) in BASES.items()
        for field in fields(settings)
        if field.name not in {"training", *ELSEWHERE.get(name, set())}
    ],
)
def test_changing_a_setting_changes_the_weights(name: str, setting: str) -> None:
    value = OTHER[name] if setting == "learning" else CHANGES[setting]
    assert_others(learned(name, replace(BASES[name][1], **{setting: value})), unchanged(name))


@pytest.mark.parametrize("setting", [field.name for field in fields(Training) if field.name != "patience"])
def test_changing_a_setting_of_the_loop_changes_the_weights(setting: str) -> None:
    training = replace(TRAINING, **{setting: LOOP[setting]})
    assert_others(learned("sasrec", replace(BASES["sasrec"][1], training=training)), unchanged("sasrec"))


def test_patience_ends_a_training_that_gets_no_better_and_the_best_weights_stay() -> None:
    cls, settings = BASES["sasrec"]
    shown: list[dict[str, torch.Tensor]] = []

    def judge(model: Any) -> float:
        shown.append({name: weight.clone() for name, weight in model.network.state_dict().items()})
        return [0.1, 0.5, 0.3, 0.4, 0.9][len(shown) - 1]

    settings = replace(settings, training=replace(TRAINING, epochs=5, patience=2))
    fitted = cls.fit(random_interactions([6] * 20, 30), tiny_catalogue(30), settings, judge=judge)
    assert len(shown) == 4
    assert all(torch.equal(weight, shown[1][name]) for name, weight in fitted.network.state_dict().items())


def test_the_learning_rate_comes_down_where_rows_hold_more_targets_than_a_batch(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def learning_rate(peak: float, step: int, n_steps: int) -> float:
        asked.append((step, n_steps))
        return peak

    monkeypatch.setattr(optim, "learning_rate", learning_rate)
    training = Training(epochs=3, batch_size=4)
    SASRec.fit(
        random_interactions([20] * 10, 30),
        tiny_catalogue(30),
        SASRecSettings(width=8, feed_forward=8, heads=1, layers=1, history=16, training=training),
    )
    assert asked == [(step, len(asked)) for step in range(len(asked))]
