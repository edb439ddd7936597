"""Fit a recommender over item numbers, counted or neural, into a run folder (`redraft train sasrec`, and so on)."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from redraft.baselines.fitted import BaselineRecommender, find_class
from redraft.baselines.neural import NeuralRecommender
from redraft.data.split import Split, sample_users, split_of
from redraft.data.store import load_dataset
from redraft.eval.evaluate import evaluate
from redraft.files import write_json
from redraft.folders import BASELINE, BASELINE_RUN, check_place, clear
from redraft.provenance import provenance
from redraft.records import MAX_COUNT, InputError, check_between
from redraft.terminal import next_command, plain_console
from redraft.train.progress import log_metrics, progress_bar

__all__ = ["BaselineConfig", "main"]


@dataclass(frozen=True)
class BaselineConfig:
    """Fit a baseline on a data set; neural ones keep the weights of the best validation."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder."""
    out: Annotated[Path, tyro.conf.Positional]
    """Run folder to write."""
    method: tyro.conf.Fixed[str]
    """Name of its class, see `redraft.baselines.fitted.find_class`."""
    settings: object = None
    """Of its network and training; None for a method that counts."""
    evaluate_users: int = 4000
    """Users of each validation of a neural one, drawn once by seed."""
    device: str = "cpu"
    """Where to train: cpu, cuda."""
    replace: bool = False
    """Lose the run that is in the folder, and start again."""


def main(config: BaselineConfig) -> None:
    """Fit, say what was written and what to run next."""
    check_between(1, MAX_COUNT, evaluate_users=config.evaluate_users)
    cls, dataset = find_class(config.method), load_dataset(config.data)
    check_place(config.out, BASELINE_RUN)
    if (config.out / "fitted").exists() and not config.replace:
        raise InputError(f"{config.out}: holds a fitted baseline; pass --replace to lose it, or give another folder")
    split = split_of(dataset)
    settings: dict[str, Any] = {name: getattr(config, name) for name in ("method", "evaluate_users", "device")}
    if issubclass(cls, NeuralRecommender):
        fitted = cls.begin(split.train, dataset.catalogue, config.settings, device=config.device)
        learnt = asdict(fitted.settings)
        settings |= {"seed": learnt["training"].pop("seed"), "settings": learnt}
        _begin_run(config.out, settings, dataset.fingerprint)
        _learn(fitted, split, config)
    else:
        fitted = cls.fit(split.train, dataset.catalogue)
        _begin_run(config.out, settings | {"seed": 0}, dataset.fingerprint)
    BaselineRecommender(fitted, dataset.catalogue).save_parts(config.out)
    console = plain_console()
    console.print(f"wrote {config.out}")
    console.print(next_command("evaluate", config.data, "--runs", config.out))


def write_config(out: Path, settings: dict[str, Any], data: str) -> None:
    """Write config.json of a run: its settings, and the fingerprint of its data."""
    write_json(out / "config.json", {"config": settings, "fingerprints": {"data": data}} | provenance())


def _begin_run(out: Path, settings: dict[str, Any], data: str) -> None:
    """Nothing of an earlier run stays."""
    clear(out, BASELINE_RUN)
    clear(out / "fitted", BASELINE)
    write_config(out, settings, data)


def _learn(model: NeuralRecommender, split: Split, config: BaselineConfig) -> None:
    """Train, judged each epoch by NDCG@10 on validation, seen items kept; each answer is logged to metrics.jsonl."""
    training = model.settings.training
    holdout = sample_users(split.validation, config.evaluate_users, training.seed)
    started, epoch = time.monotonic(), 0
    with progress_bar("train", training.epochs) as advance:

        def judge(model: NeuralRecommender) -> float:
            nonlocal epoch
            epoch += 1
            metrics = evaluate(model, holdout, ks=(10,), longest=len(model.facts.counts), filter_seen=False).metrics
            line = {"epoch": epoch, **metrics, "seconds": time.monotonic() - started}
            log_metrics(config.out / "metrics.jsonl", line)
            advance(f"epoch {epoch}, validation N@10 {metrics['N@10']:.4f}")
            return metrics["N@10"]

        model.learn(split.train, judge)
