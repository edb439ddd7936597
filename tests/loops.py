"""The training loops that start from a trained model, on tiny worlds; for the other see `tiny.tiny_run`."""

from pathlib import Path
from typing import Literal

import torch
from tiny import (
    random_interactions,
    tiny_backbone,
    tiny_catalogue,
    tiny_config,
    tiny_generator,
    tiny_generator_config,
    tiny_ids,
    with_random_weights,
)

from redraft.checkpoint import build_grc
from redraft.data.split import leave_one_out
from redraft.decode.correction import Correction
from redraft.recommender import GenerativeRecommender, SelfCorrectingRecommender
from redraft.records import Interactions
from redraft.train.grpo import GRPOConfig, grpo
from redraft.train.sft import SFTConfig, sft
from redraft.train.verifier import VerifierConfig, train_verifier

SPLIT = leave_one_out(random_interactions([3 + u % 12 for u in range(30)], 30))
DRAFTS = torch.randint(30, (len(SPLIT.train.items), 3), generator=torch.Generator().manual_seed(0)).int()
QUICK = {"learning_rate": 3e-3, "precision": "float32", "evaluate_users": 16, "save_every": 2}


def plain(n_attributes: int = 2, dropout: float = 0.1) -> GenerativeRecommender:
    """A backbone of random weights."""
    ids, catalogue = tiny_ids(30, 3, 5), tiny_catalogue(30, n_attributes)
    model = tiny_backbone(tiny_config(dropout=dropout), ids, catalogue)
    return GenerativeRecommender(model, ids, catalogue, beams=30)


def knowing(
    n_attributes: int = 2, dropout: float = 0.1, pooling: Literal["exact", "mean"] = "exact"
) -> GenerativeRecommender:
    """A generator that knows its items, of random weights."""
    ids, catalogue = tiny_ids(30, 3, 5), tiny_catalogue(30, n_attributes)
    model = tiny_generator(tiny_generator_config(dropout=dropout, pooling=pooling), ids, catalogue)
    return GenerativeRecommender(model, ids, catalogue, beams=30)


def supervised(n_attributes: int = 2, dropout: float = 0.1, *, reflection: bool = True) -> SelfCorrectingRecommender:
    """A model of random weights that reflects and corrects."""
    ids, catalogue = tiny_ids(30, 3, 5), tiny_catalogue(30, n_attributes)
    model = build_grc(tiny_config(dropout=dropout), ids, catalogue, reflection=reflection)
    correction = Correction(budget=10)
    return SelfCorrectingRecommender(with_random_weights(model, 0), ids, catalogue, beams=10, correction=correction)


def sft_run(out: Path, start: GenerativeRecommender | None = None, drafts: torch.Tensor = DRAFTS, **changes) -> None:
    """Two epochs."""
    knobs = {**QUICK, "epochs": 2, "batch_size": 32, "evaluate_every": 1, "evaluate_beams": 10}
    config = SFTConfig(Path("data"), out, backbone=Path("backbone"), **{**knobs, **changes})
    sft(SPLIT.train, SPLIT.validation, drafts, start or plain(), config)


def grpo_run(
    out: Path, train: Interactions = SPLIT.train, start: SelfCorrectingRecommender | None = None, **changes
) -> str | None:
    """Six batches, validated after the fourth and the last."""
    knobs = {
        **QUICK,
        "group": 4,
        "near_miss": 0,
        "steps": 6,
        "users": 8,
        "max_kl": 99.0,
        "min_entropy": 0.0,
        "evaluate_every": 4,
        "keep_tail": 0.0,
    }
    config = GRPOConfig(Path("data"), out, sft=Path("sft"), **{**knobs, **changes})
    return grpo(train, SPLIT.validation, start or supervised(), config)


def verifier_run(
    out: Path, events: Interactions | None = None, start: GenerativeRecommender | None = None, **changes
) -> None:
    """Two epochs."""
    split = SPLIT if events is None else leave_one_out(events)
    knobs = {**QUICK, "epochs": 2, "batch_size": 32, "evaluate_every": 1, "evaluate_beams": 10}
    config = VerifierConfig(Path("data"), out, run=Path("run"), **{**knobs, **changes})
    train_verifier(split.train, split.validation, start or plain(), config)
