"""Pre-train the backbone to write the semantic ID of the next item (TIGER; paper section 3.2)."""

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import nn

from redraft.checkpoint import build_backbone, check_item_counts, save_backbone, weights_fingerprint
from redraft.data.loader import Windows, batches, every_prefix, n_batches, shared_prefixes
from redraft.data.split import leave_one_out, sample_users
from redraft.data.store import load_dataset
from redraft.device import Precision, use_half
from redraft.eval.evaluate import evaluate
from redraft.model.backbone import Backbone, ModelConfig, check_shape
from redraft.recommender import GenerativeRecommender, load
from redraft.records import Batch, Catalogue, Holdout, InputError, Interactions, SemanticIds
from redraft.stored import learnt_from
from redraft.terminal import next_command, plain_console
from redraft.tokenizer.semantic_ids import load_semantic_ids
from redraft.train.losses import next_item_nll
from redraft.train.processes import join_processes
from redraft.train.progress import log_metrics, progress_bar
from redraft.train.settings import check_folder, check_shared, fitted, keep_settings
from redraft.train.start import check_events, without_fold
from redraft.train.state import begin_run, save_state
from redraft.train.step import descend, new_optimizer, set_learning_rate

__all__ = [
    "PretrainConfig",
    "check_settings",
    "main",
    "pretrain",
    "take_weights",
    "teacher_forced",
    "training_windows",
]


@dataclass(frozen=True)
class PretrainConfig:
    """Train the backbone on a data set."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder."""
    out: Annotated[Path, tyro.conf.Positional]
    """Run folder to write."""
    ids: Path | None = None
    """Semantic IDs [semantic_ids.safetensors in the data-set folder]."""
    init: Path | None = None
    """Run folder whose weights to start from, of the same shape or with fewer decoder blocks [fresh weights]."""
    fold: tuple[int, int] | None = None
    """I N: leave out the users whose number is I modulo N, so that this run can draft for users it never saw."""
    resume: bool = False
    """Go on where a run that was stopped left off, or start if there is none."""
    replace: bool = False
    """Lose the run that is in the folder, and start again."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Shape of the model."""
    epochs: int = 24
    """Passes over the training events."""
    batch_size: int = 512
    """Predicted events a step, over all processes."""
    learning_rate: float = 1e-3
    """Peak of AdamW after a warm-up of 1/40 of the steps; a cosine takes it to 2 % of that."""
    weight_decay: float = 0.05
    """AdamW's weight decay."""
    label_smoothing: float = 0.0
    """Share of each code's target that is spread over its level."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    precision: Precision = "auto"
    """bfloat16 runs matrix products under autocast, weights stay float32; auto does so where the processor can."""
    compile: bool = False
    """Compile the forward pass with torch.compile."""
    evaluate_every: int = 2
    """Epochs between evaluations on validation; the best weights by NDCG@10 are kept."""
    evaluate_users: int = 4000
    """Users of each such evaluation, drawn once by seed."""
    evaluate_beams: int = 20
    """Beam budget of each such evaluation."""
    save_every: int = 500
    """Steps between states from which a killed run can go on; one is also saved after every epoch."""
    seed: int = 0
    """Seed of weights, order and dropout."""
    tensorboard: bool = False
    """Also log to TensorBoard, in the run folder."""


def main(config: PretrainConfig) -> None:
    """Train, say what was written and what to run next."""
    check_settings(config)
    dataset = load_dataset(config.data)
    ids = load_semantic_ids(config.ids or config.data / "semantic_ids.safetensors")
    check_item_counts(ids, dataset.catalogue)
    config = fitted(config, ids.n_items, "evaluate_beams")
    init = None if config.init is None else load(config.init).model
    begun_with = None if init is None else weights_fingerprint(init)
    fingerprints: dict[str, Any] = {"data": dataset.fingerprint, "semantic_ids": ids.fingerprint, "init": begun_with}
    fingerprints["learnt"] = learnt_from(dataset.fingerprint, config.init)
    check_folder(asdict(config), fingerprints)
    split = leave_one_out(dataset.interactions)
    train = without_fold(split.train, config.fold)
    check_events(train, config.data)
    knobs: dict[str, Any] = {name: getattr(config, name) for name in asdict(config)}
    for name in ("replace", "data", "ids", "init", "fold"):
        del knobs[name]
    keep_settings(asdict(config), fingerprints)
    pretrain(train, split.validation, ids, dataset.catalogue, init=init, **knobs)
    if join_processes().is_main_process:
        console = plain_console()
        console.print(f"wrote {config.out} (weights of the best validation NDCG@10, log in metrics.jsonl)")
        console.print(next_command("evaluate", config.data, "--runs", config.out))


def check_settings(config: PretrainConfig) -> None:
    """Raise InputError for settings that cannot work on any data, before any work is done."""
    check_shared(vars(config))
    check_shape(config.model)
    if not 0 <= config.label_smoothing < 1:
        raise InputError(f"label_smoothing is {config.label_smoothing}; give 0 or more, and less than 1")


def pretrain(
    train: Interactions,
    validation: Holdout,
    ids: SemanticIds,
    catalogue: Catalogue,
    out: Path,
    *,
    model: ModelConfig,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    label_smoothing: float,
    clip: float,
    precision: Precision,
    compile: bool,
    evaluate_every: int,
    evaluate_users: int,
    evaluate_beams: int,
    save_every: int,
    seed: int,
    init: Backbone | None = None,
    resume: bool = False,
    tensorboard: bool = False,
) -> None:
    """Train, and keep the best weights in out/model.safetensors; from the weights of `init`, if it is given.

    Writes out/metrics.jsonl and out/state.safetensors, from which `resume` goes on: on one CPU the resumed run ends
    bit for bit as an uninterrupted one. Under torchrun each batch is split over the processes.
    Raises InputError if the loss stops being finite; the last good weights stay.
    """
    accelerator = join_processes()
    half = use_half(precision, accelerator.device)
    autocast = torch.autocast(accelerator.device.type, torch.bfloat16, enabled=half)
    torch.manual_seed(seed)
    network = build_backbone(model, ids, catalogue)
    if init is not None:
        take_weights(network, init)
    network.to(accelerator.device)
    optimizer = new_optimizer(network, learning_rate, weight_decay)
    parallel, optimizer = accelerator.prepare(network, optimizer)
    if compile:
        parallel.compile(dynamic=True)
    torch.manual_seed(seed + accelerator.process_index)
    windows = training_windows(train, model)
    assert len(windows), "events to learn from"
    shard = {"seed": seed, "rank": accelerator.process_index, "world": accelerator.num_processes}
    n_steps = epochs * n_batches(windows, batch_size)
    sample = sample_users(validation, evaluate_users, seed)
    recommender = GenerativeRecommender(network, ids, catalogue, beams=evaluate_beams, half=half)
    metrics_file, state_file = out / "metrics.jsonl", out / "state.safetensors"
    at = begin_run(out, ids, catalogue, {"model": network}, optimizer, resume=resume)
    started = time.monotonic() - at.seconds
    with progress_bar("train", n_steps, completed=at.step, shown=accelerator.is_main_process) as advance:
        for epoch in range(at.epoch, epochs):
            for batch in batches(train, windows, batch_size, epoch=epoch, skip=at.batch, **shard):
                network.train()
                set_learning_rate(optimizer, learning_rate, at.step, n_steps)
                batch = batch.to(accelerator.device)
                with autocast:
                    losses, asked = teacher_forced(parallel, batch, network.codes, label_smoothing)
                sums = torch.stack([losses.detach().sum(), asked.sum()])
                total, count = descend(accelerator, network, optimizer, losses.sum(), sums, clip=clip, step=at.step)
                at.count({"loss": total}, count, time.monotonic() - started)
                advance(f"epoch {epoch + 1}/{epochs} loss {at.means()['loss']:.3f}")
                if accelerator.is_main_process and at.step % save_every == 0:
                    save_state(state_file, {"model": network}, optimizer, asdict(at))
            if accelerator.is_main_process:
                metrics = at.line()
                if (epoch + 1) % evaluate_every == 0 or epoch + 1 == epochs:
                    metrics |= evaluate(recommender, sample, ks=(10,), longest=ids.n_items, filter_seen=False).metrics
                    if metrics["N@10"] > at.best:
                        at.best = metrics["N@10"]
                        save_backbone(network, out / "model.safetensors", ids, catalogue)
                log_metrics(metrics_file, metrics, tensorboard=tensorboard)
            at.next_epoch()
            if accelerator.is_main_process:
                save_state(state_file, {"model": network}, optimizer, asdict(at))
            accelerator.wait_for_everyone()


def training_windows(train: Interactions, model: ModelConfig) -> Windows:
    """Rows that share prefixes; for an encoder that would read the targets, one row an event."""
    return (shared_prefixes if model.encoder == "causal" else every_prefix)(train, model.history)


def take_weights(network: Backbone, start: Backbone) -> None:
    """Copy the weights that both have; decoder blocks that only the network has start as identities.

    What only the start has, such as the heads of a model that reflects or a verifier, stays behind.

    Raises InputError if the two differ in anything else, or in their semantic IDs.
    """
    ours, theirs = ({name: weight.shape for name, weight in m.state_dict().items()} for m in (network, start))
    shared = ours.keys() & theirs.keys()
    same_codes = network.codes.shape == start.codes.shape and torch.equal(network.codes, start.codes)
    deeper = replace(start.config, decoder_layers=network.config.decoder_layers) == network.config
    shallower = start.config.decoder_layers <= network.config.decoder_layers
    if not (same_codes and deeper and shallower and all(ours[name] == theirs[name] for name in shared)):
        raise InputError(
            "the run to start from has another shape than a shallower decoder, or other semantic IDs; "
            "start from one trained alike"
        )
    network.load_state_dict(start.state_dict(), strict=False)


def teacher_forced(
    model: nn.Module, batch: Batch, codes: torch.Tensor, label_smoothing: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses [U, R] of all targets of a batch, 0 where none is asked, and which are asked (paper Eq. 1).

    codes: int64 [N, L].
    """
    targets, asked = batch.predictions(short=True)
    logits = model(batch.history, targets)
    return next_item_nll(logits, codes[targets.clamp(min=0)], label_smoothing) * asked, asked
