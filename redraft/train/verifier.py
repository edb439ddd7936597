"""Train a verifier beside a model that stays as it is: which item comes next, of all items, by what it is."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import nn

from redraft.checkpoint import check_same_items, save_backbone, weights_fingerprint
from redraft.data.loader import batches, n_batches
from redraft.data.split import leave_one_out, sample_users
from redraft.data.store import load_dataset
from redraft.device import Precision, use_half
from redraft.eval.evaluate import evaluate
from redraft.model.backbone import Backbone
from redraft.recommender import GenerativeRecommender, load
from redraft.records import Batch, Holdout, InputError, Interactions, check_least
from redraft.stored import learnt_from
from redraft.terminal import next_command, plain_console
from redraft.train.losses import item_nll
from redraft.train.pretrain import training_windows
from redraft.train.processes import join_processes
from redraft.train.progress import log_metrics, progress_bar
from redraft.train.settings import check_folder, check_shared, fitted, keep_settings
from redraft.train.start import check_events
from redraft.train.state import begin_run, save_state
from redraft.train.step import descend, new_optimizer, set_learning_rate

__all__ = ["VerifierConfig", "check_settings", "main", "train_verifier", "verifier_losses"]


@dataclass(frozen=True)
class VerifierConfig:
    """Add a verifier to a trained run, whose lists it puts into a better order."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder."""
    out: Annotated[Path, tyro.conf.Positional]
    """Run folder to write: the same model with a verifier."""
    run: Path
    """Run folder of the trained model, of any recipe."""
    resume: bool = False
    """Go on where a run that was stopped left off, or start if there is none."""
    replace: bool = False
    """Lose the run that is in the folder, and start again."""
    epochs: int = 8
    """Passes over the training events."""
    batch_size: int = 512
    """Predicted events a step, over all processes."""
    learning_rate: float = 1e-3
    """Peak of AdamW after a warm-up of 1/40 of the steps; a cosine takes it to 2 % of that."""
    weight_decay: float = 0.05
    """AdamW's weight decay."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    precision: Precision = "auto"
    """bfloat16 runs matrix products under autocast, weights stay float32; auto does so where the processor can."""
    evaluate_every: int = 2
    """Epochs between evaluations on validation; the best weights by NDCG@10 are kept."""
    evaluate_users: int = 4000
    """Users of each such evaluation, drawn once by seed."""
    evaluate_beams: int = 50
    """Beam budget of each such evaluation; the drafts of a model that corrects itself are not corrected there."""
    save_every: int = 500
    """Steps between states from which a killed run can go on; one is also saved after every epoch."""
    seed: int = 0
    """Seed of weights, order and dropout."""
    tensorboard: bool = False
    """Also log to TensorBoard, in the run folder."""


def main(config: VerifierConfig) -> None:
    """Train, say what was written and what to run next."""
    check_settings(config)
    dataset = load_dataset(config.data)
    config = fitted(config, dataset.catalogue.n_items, "evaluate_beams")
    start = load(config.run, device=str(join_processes().device))
    check_same_items(config.run, start.catalogue, config.data, dataset.catalogue)
    if start.model.verifier is not None:
        raise InputError(f"{config.run}: has a verifier already; give the run that it was added to")
    fingerprints: dict[str, Any] = {"data": dataset.fingerprint, "semantic_ids": start.ids.fingerprint}
    fingerprints["learnt"] = learnt_from(dataset.fingerprint, config.run)
    fingerprints["run"] = weights_fingerprint(start.model)
    check_folder(asdict(config), fingerprints)
    split = leave_one_out(dataset.interactions)
    check_events(split.train, config.data)
    knobs: dict[str, Any] = {name: getattr(config, name) for name in asdict(config)}
    for name in ("replace", "data", "run"):
        del knobs[name]
    keep_settings(asdict(config), fingerprints)
    train_verifier(split.train, split.validation, start, **knobs)
    if join_processes().is_main_process:
        console = plain_console()
        console.print(f"wrote {config.out} (weights of the best validation NDCG@10, log in metrics.jsonl)")
        console.print(next_command("evaluate", config.data, "--runs", config.out))


def check_settings(config: VerifierConfig) -> None:
    """Raise InputError for a number that no training can have, before any work."""
    check_shared(vars(config))
    check_least(10, evaluate_beams=config.evaluate_beams)


def train_verifier(
    train: Interactions,
    validation: Holdout,
    start: GenerativeRecommender,
    out: Path,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    clip: float,
    precision: Precision,
    evaluate_every: int,
    evaluate_users: int,
    evaluate_beams: int,
    save_every: int,
    seed: int,
    resume: bool = False,
    tensorboard: bool = False,
) -> None:
    """Train a verifier for the start's model, and keep the best in out/model.safetensors.

    Writes and resumes as `redraft.train.pretrain`.
    Raises InputError if the loss stops being finite; the last good weights stay.
    """
    accelerator = join_processes()
    half = use_half(precision, accelerator.device)
    autocast = torch.autocast(accelerator.device.type, torch.bfloat16, enabled=half)
    torch.manual_seed(seed)
    ids, catalogue, network = start.ids, start.catalogue, start.model.requires_grad_(False)
    verifier = network.add_verifier()
    optimizer = new_optimizer(verifier, learning_rate, weight_decay)
    parallel, optimizer = accelerator.prepare(_Verifying(network), optimizer)
    torch.manual_seed(seed + accelerator.process_index)
    windows = training_windows(train, network.config)
    shard = {"seed": seed, "rank": accelerator.process_index, "world": accelerator.num_processes}
    n_steps = epochs * n_batches(windows, batch_size)
    sample = sample_users(validation, evaluate_users, seed)
    recommender = GenerativeRecommender(network, ids, catalogue, beams=evaluate_beams, half=half)
    metrics_file, state_file = out / "metrics.jsonl", out / "state.safetensors"
    at = begin_run(out, ids, catalogue, {"verifier": verifier}, optimizer, resume=resume)
    started = time.monotonic() - at.seconds
    with progress_bar("train", n_steps, completed=at.step, shown=accelerator.is_main_process) as advance:
        for epoch in range(at.epoch, epochs):
            for batch in batches(train, windows, batch_size, epoch=epoch, skip=at.batch, **shard):
                network.train()  # dropout in the frozen encoder, too: it varies what the verifier learns from
                set_learning_rate(optimizer, learning_rate, at.step, n_steps)
                with autocast:
                    losses = parallel(batch.to(accelerator.device))
                sums = torch.stack([losses.detach().sum(), losses.new_tensor(len(losses))])
                total, count = descend(accelerator, verifier, optimizer, losses.sum(), sums, clip=clip, step=at.step)
                at.count({"loss": total}, count, time.monotonic() - started)
                advance(f"epoch {epoch + 1}/{epochs} loss {at.means()['loss']:.3f}")
                if accelerator.is_main_process and at.step % save_every == 0:
                    save_state(state_file, {"verifier": verifier}, optimizer, asdict(at))
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
                save_state(state_file, {"verifier": verifier}, optimizer, asdict(at))
            accelerator.wait_for_everyone()


class _Verifying(nn.Module):
    """A batch in, losses out: one forward call, so that processes can share it."""

    def __init__(self, network: Backbone):
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> torch.Tensor:
        return verifier_losses(self.network, batch)


def verifier_losses(model: Backbone, batch: Batch) -> torch.Tensor:
    """Loss [n] of the n targets of a batch that are asked for."""
    targets, asked = batch.predictions(short=True)
    wanted = model.asked(model.encode(batch.history))[:, -targets.shape[1] :]
    return item_nll(model.judge_all(wanted[asked]), targets[asked])
