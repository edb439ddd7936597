"""Every setting of every loop does what it is for."""

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from loops import grpo_run, knowing, plain, sft_run, supervised, verifier_run
from safetensors.torch import load_file
from stopping import metrics
from tiny import (
    random_interactions,
    tiny_catalogue,
    tiny_config,
    tiny_generator_config,
    tiny_ids,
    tiny_run,
    with_random_weights,
)

import redraft.train.run as running
from redraft.data.store import make_dataset, save_dataset
from redraft.optim import learning_rate
from redraft.tokenizer import save_semantic_ids
from redraft.train import grpo, pretrain, sft, verifier
from redraft.train.grpo import GRPOConfig
from redraft.train.pretrain import PretrainConfig
from redraft.train.sft import SFTConfig
from redraft.train.verifier import VerifierConfig

SHARED = {"learning_rate": 1e-2, "clip": 0.1, "precision": "bfloat16", "seed": 1}
EPOCHS = {**SHARED, "epochs": 2, "batch_size": 20, "accumulate": 2, "weight_decay": 0.5}
SHAPE = {"history": 4, "width": 24, "embedding": 4, "feed_forward": 16, "encoder_layers": 2, "decoder_layers": 1}
SHAPE |= {"heads": 4, "dropout": 0.3}
PLAIN = {**SHAPE, "positions": "code", "encoder": "bidirectional"}
KNOWING = {**SHAPE, "encoder_layers": 1, "decoder_layers": 2, "temperature": 0.1, "negatives": 0, "number_dropout": 0.5}
KNOWING |= {"pooling": "mean"}
REWARD = dict.fromkeys(["task", "last", "correction", "location", "semantic", "improvement"], 0.0)
CHANGES: dict[str, dict[str, Any]] = {
    "pretrain": {
        **EPOCHS,
        **{f"model.{name}": value for name, value in PLAIN.items()},
        "ids": Path("other-ids.safetensors"),
        "init": Path("other"),
        "fold": (0, 2),
        "label_smoothing": 0.1,
    },
    "generator": {
        **EPOCHS,
        **{f"model.{name}": value for name, value in KNOWING.items()},
        "ids": Path("other-ids.safetensors"),
        "init": Path("knowing"),
        "fold": (0, 2),
        "epochs": 3,
        "head_share": 0.0,
    },
    "sft": {
        **EPOCHS,
        "backbone": Path("other"),
        "drafters": (Path("drafter-0"), Path("drafter-1")),
        "fold": (0, 2),
        "reflection": False,
        "slots": ("location",),
        "draft_beams": 2,
        "drafts_per_target": 2,
        "label_start": 0.0,
        "correction_weight": 0.5,
    },
    "verifier": {**EPOCHS, "run": Path("other")},
    "grpo": {
        **SHARED,
        **{f"reward.{name}": value for name, value in REWARD.items()},
        "sft": Path("other-sft"),
        "fold": (0, 2),
        "group": 3,
        "temperature": 0.5,
        "distinct": True,
        "near_miss": 3,
        "steps": 1,
        "users": 4,
        "inner_steps": 1,
        "clip_ratio": 1e-4,
        "kl_weight": 1.0,
        "sft_weight": 0.0,
        "correction_weight": 0.5,
    },
}
"""For each setting that training depends on, by its flag, another value than that of `config_of`."""

ELSEWHERE = {"data", "out", "resume", "replace", "save_every", "tensorboard", "compile", "drafts", "patience"}
ELSEWHERE |= {"evaluate_every", "evaluate_users", "evaluate_beams", "evaluate_budget", "policy"}
ELSEWHERE |= {"keep_start", "keep_tail", "model.shortlist"}
REFUSED = {"generator": {"model.positions", "model.encoder", "label_smoothing"}, "pretrain": {"head_share"}}
"""What is learned does not depend on these; what is kept, written or compared may."""

MAINS: dict[str, Callable[[Any], None]] = {
    "pretrain": pretrain.main,
    "generator": pretrain.main,
    "sft": sft.main,
    "verifier": verifier.main,
    "grpo": grpo.main,
}


def config_of(loop: str, world: Path, out: Path) -> Any:
    quick = {"precision": "float32", "learning_rate": 3e-3, "evaluate_users": 1, "evaluate_beams": 10}
    data = world / "data"
    if loop == "pretrain":
        return PretrainConfig(data, out, model=tiny_config(dropout=0.1), epochs=1, batch_size=40, **quick)
    if loop == "generator":
        model = tiny_generator_config(dropout=0.1)
        return PretrainConfig(data, out, model=model, epochs=2, head_share=0.5, batch_size=40, **quick)
    if loop == "sft":
        return SFTConfig(data, out, backbone=world / "plain", draft_beams=3, epochs=1, batch_size=40, **quick)
    if loop == "verifier":
        return VerifierConfig(data, out, run=world / "plain", epochs=1, batch_size=40, **quick)
    small = {"group": 4, "users": 8, "steps": 2, "evaluate_budget": 5, "near_miss": 0, "evaluate_every": 2}
    return GRPOConfig(data, out, sft=world / "sft", max_kl=99.0, min_entropy=0.0, **small, **quick)


def changed(config: Any, flag: str, value: Any) -> Any:
    name, _, inner = flag.partition(".")
    return replace(config, **{name: replace(getattr(config, name), **{inner: value}) if inner else value})


def flags(config: Any) -> set[str]:
    found = set()
    for field in fields(config):
        inner = getattr(config, field.name)
        found |= {f"{field.name}.{name}" for name in flags(inner)} if is_dataclass(inner) else {field.name}
    return found


def learned(out: Path) -> dict[str, torch.Tensor]:
    """The weights with which a run ended, kept or not."""
    state = load_file(out / "state.safetensors")
    return {name: weight for name, weight in state.items() if not name.startswith(("random.", "optimizer."))}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(x, second[name]) for name, x in first.items())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, other ids for it, and runs to start from."""
    folder = tmp_path_factory.mktemp("world")
    users = pl.Series("id", [f"user-{u}" for u in range(14)])
    events = random_interactions([3 + u % 7 for u in range(14)], 30)
    save_dataset(make_dataset("tiny", events, tiny_catalogue(30, 2), users), folder / "data", source="test")
    save_semantic_ids(tiny_ids(30, 3, 5), folder / "data" / "semantic_ids.safetensors", source={})
    save_semantic_ids(tiny_ids(30, 3, 5, seed=1), folder / "other-ids.safetensors", source={})
    runs = {"plain": (plain(), 0), "other": (plain(), 1), "sft": (supervised(), 0), "other-sft": (supervised(), 1)}
    runs |= {f"drafter-{i}": (plain(), 2 + i) for i in range(2)}
    runs["knowing"] = knowing(), 3
    for name, (run, seed) in runs.items():
        with_random_weights(run.model, seed)
        run.save(folder / name)
        fold = [int(name[-1]), 2] if name.startswith("drafter") else [0, 2]
        (folder / name / "config.json").write_text(json.dumps({"config": {"fold": fold}, "fingerprints": {}}))
    return folder


@pytest.fixture(scope="module")
def unchanged(world: Path) -> Callable[[str], dict[str, torch.Tensor]]:
    """What a loop learns as `config_of` says."""
    found: dict[str, dict[str, torch.Tensor]] = {}

    def run(loop: str) -> dict[str, torch.Tensor]:
        if loop not in found:
            MAINS[loop](config_of(loop, world, world / "unchanged" / loop))
            found[loop] = learned(world / "unchanged" / loop)
        return found[loop]

    return run


@pytest.mark.parametrize("loop", sorted(MAINS))
def test_no_setting_is_forgotten_here(loop: str) -> None:
    known = set(CHANGES[loop]) | ELSEWHERE | REFUSED.get(loop, set()) | ({"ids"} if loop in ("sft", "grpo") else set())
    stopping = {"max_kl", "min_entropy"} if loop == "grpo" else set()
    assert flags(config_of(loop, Path("world"), Path("out"))) <= known | stopping


@pytest.mark.parametrize(("loop", "flag"), [(loop, flag) for loop in sorted(MAINS) for flag in CHANGES[loop]])
def test_changing_a_setting_changes_the_weights(
    loop: str, flag: str, world: Path, unchanged: Callable[[str], dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    value = CHANGES[loop][flag]
    if isinstance(value, Path):
        value = world / value
    elif isinstance(value, tuple) and isinstance(value[0], Path):
        value = tuple(world / path for path in value)
    config = changed(config_of(loop, world, tmp_path), flag, value)
    assert config != config_of(loop, world, tmp_path)
    MAINS[loop](config)
    assert not same(learned(tmp_path), unchanged(loop))


RUNS: dict[str, tuple[Callable[..., object], Any, str]] = {
    "pretrain": (tiny_run, pretrain, "evaluate"),
    "sft": (sft_run, sft, "validate"),
    "verifier": (verifier_run, verifier, "evaluate"),
    "grpo": (lambda out, **changes: grpo_run(out, **({"steps": 8} | changes)), grpo, "validate"),
}


class Judge:
    """Validation that gives these scores one after the other, and remembers the weights it was shown."""

    def __init__(self, scores: list[float]):
        self.scores = scores
        self.shown: list[dict[str, torch.Tensor]] = []
        self.metrics: dict[str, float] = {}

    def __call__(self, recommender: Any, *_: object, **__: object) -> "Judge":
        weights = recommender.model.state_dict()
        self.metrics = {"N@10": self.scores[len(self.shown)], "R@10": 0.5}
        self.shown.append({name: weight.clone() for name, weight in weights.items()})
        return self


@pytest.mark.parametrize("loop", sorted(RUNS))
@pytest.mark.parametrize("scores", [[0.5, 0.1, 0.3], [0.1, 0.5, 0.3], [0.1, 0.3, 0.5]], ids=["first", "second", "last"])
def test_the_best_weights_are_kept(
    loop: str, scores: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, module, judged = RUNS[loop]
    judge = Judge(scores)
    if judged == "evaluate":
        monkeypatch.setattr(module, judged, judge)
    else:
        monkeypatch.setattr(module, judged, lambda *arguments: judge(*arguments).metrics)
    run(tmp_path, **({} if loop == "grpo" else {"epochs": 3}))
    assert [line["N@10"] for line in metrics(tmp_path)] == scores
    assert len({float(weights["head"].sum() + sum(x.sum() for x in weights.values())) for weights in judge.shown}) > 1
    assert same(load_file(tmp_path / "model.safetensors"), judge.shown[scores.index(0.5)])


@pytest.mark.parametrize("loop", sorted(RUNS))
def test_the_learning_rate_follows_its_course_to_the_last_step(
    loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the optimizer, at the time of each step; also where rows hold more targets than a batch."""
    rates, descend = [], running.Run.descend

    def descending(run: running.Run) -> dict[str, float]:
        rates.append(run.optimizer.param_groups[0]["lr"])
        return descend(run)

    monkeypatch.setattr(running.Run, "descend", descending)
    run, *_ = RUNS[loop]
    run(tmp_path, **({"inner_steps": 1} if loop == "grpo" else {"batch_size": 7}))
    n_steps = metrics(tmp_path)[-1]["step"]
    assert rates == [learning_rate(3e-3, step, n_steps) for step in range(n_steps)]


@pytest.mark.parametrize("loop", ["pretrain", "sft", "verifier"])
def test_patience_ends_a_run_that_gets_no_better_and_it_stays_ended(
    loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, module, judged = RUNS[loop]
    judge = Judge([0.1, 0.5, 0.3, 0.4, 0.9])
    if judged == "evaluate":
        monkeypatch.setattr(module, judged, judge)
    else:
        monkeypatch.setattr(module, judged, lambda *arguments: judge(*arguments).metrics)
    for resume in (False, True):
        run(tmp_path, epochs=5, patience=2, resume=resume)
        assert [line["N@10"] for line in metrics(tmp_path)] == [0.1, 0.5, 0.3, 0.4]
    run(tmp_path, epochs=5, patience=3, resume=True)
    assert [line["epoch"] for line in metrics(tmp_path)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("loop", ["pretrain", "sft", "verifier"])
def test_a_batch_learned_in_parts_is_learned_as_one(loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dropout, and with one draft to draw; also in more parts than a batch has rows."""
    import redraft.model.verifier as verifying

    monkeypatch.setattr(verifying, "DROPOUT", 0.0)
    run, *_ = RUNS[loop]
    same_draft = torch.zeros((10_000, 1), dtype=torch.int32)
    options = {
        "pretrain": {"model": tiny_config()},
        "sft": {"drafts": same_draft, "start": plain(dropout=0.0)},
        "verifier": {"start": plain(dropout=0.0)},
    }[loop]
    run(tmp_path / "whole", **options)
    if loop == "verifier":
        options = {"start": plain(dropout=0.0)}
    run(tmp_path / "parts", accumulate=5, **options)
    for ours, theirs in zip(metrics(tmp_path / "whole"), metrics(tmp_path / "parts"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    whole, parts = (learned(tmp_path / name) for name in ("whole", "parts"))
    for name, weight in whole.items():
        torch.testing.assert_close(weight, parts[name], atol=1e-4, rtol=1e-4)
