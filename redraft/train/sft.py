"""Teach a backbone to reflect on its drafts and to correct them (GRC_SFT; paper section 4.1, Eq. 10)."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import nn

from redraft.checkpoint import build_grc, save_backbone, weights_fingerprint
from redraft.data.loader import batches, n_batches
from redraft.data.split import leave_one_out, sample_users
from redraft.data.store import load_dataset
from redraft.decode.merge import MergePolicy
from redraft.decode.rewriting import Correction
from redraft.device import Precision, use_half
from redraft.eval.evaluate import evaluate
from redraft.files import write_json
from redraft.model.template import GRC, reflection_labels
from redraft.recommender import GenerativeRecommender, SelfCorrectingRecommender, load
from redraft.records import Batch, Holdout, InputError, Interactions, check_least
from redraft.stored import learnt_from
from redraft.terminal import next_command, plain_console
from redraft.train.drafts import draft_labels, load_drafts, make_drafts
from redraft.train.losses import next_item_nll, reflection_nll
from redraft.train.pretrain import training_windows
from redraft.train.processes import join_processes
from redraft.train.progress import log_metrics, progress_bar
from redraft.train.settings import check_folder, check_shared, fitted, keep_settings
from redraft.train.start import check_backbone, check_events, check_folds, without_fold
from redraft.train.state import begin_run, save_state
from redraft.train.step import descend, new_optimizer, set_learning_rate

__all__ = [
    "SFTConfig",
    "check_settings",
    "draw_drafts",
    "main",
    "sft",
    "template_losses",
    "validate",
]


@dataclass(frozen=True)
class SFTConfig:
    """Fine-tune a trained backbone to generate, reflect and correct."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder."""
    out: Annotated[Path, tyro.conf.Positional]
    """Run folder to write."""
    backbone: Path
    """Run folder of the trained backbone."""
    ids: Path | None = None
    """The semantic IDs that the backbone must have [semantic_ids.safetensors in the data-set folder]."""
    drafters: tuple[Path, ...] = ()
    """Runs that draft: trained with `--fold 0 N` to `--fold N-1 N`, each for the users it never saw [the backbone]."""
    fold: tuple[int, int] | None = None
    """I N: leave out the users whose number is I modulo N, for a backbone trained so, to roll out on them later."""
    drafts: Path | None = None
    """Folder that caches the drafts [OUT/drafts]."""
    resume: bool = False
    """Go on where a run that was stopped left off, or start if there is none."""
    replace: bool = False
    """Lose the run that is in the folder, and start again."""
    reflection: bool = True
    """False leaves out the reflection labels: the ablation GC."""
    draft_beams: int = 20
    """Drafts kept for each training event; every epoch draws one of them anew."""
    epochs: int = 8
    """Passes over the training events."""
    batch_size: int = 512
    """Predicted events a step, over all processes."""
    learning_rate: float = 5e-4
    """Peak of AdamW after a warm-up of 1/40 of the steps; a cosine takes it to 2 % of that."""
    weight_decay: float = 0.05
    """AdamW's weight decay."""
    correction_weight: float = 1.2
    """Weight lambda_rc of reflection and correction beside the likelihood of the target (paper Eq. 10)."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    precision: Precision = "auto"
    """bfloat16 runs matrix products under autocast, weights stay float32; auto does so where the processor can."""
    evaluate_every: int = 1
    """Epochs between evaluations on validation; the best weights by NDCG@10 of the corrected lists are kept."""
    evaluate_users: int = 4000
    """Users of each such evaluation, drawn once by seed."""
    evaluate_beams: int = 20
    """Beam budget of each such evaluation; all drafts may be corrected."""
    policy: MergePolicy = "union-logsumexp"
    """How drafts and corrections become one list there."""
    save_every: int = 500
    """Steps between states from which a killed run can go on; one is also saved after every epoch."""
    seed: int = 0
    """Seed of order, draws and dropout."""
    tensorboard: bool = False
    """Also log to TensorBoard, in the run folder."""


def main(config: SFTConfig) -> None:
    """Draft, train, say what was written and what to run next."""
    check_settings(config)
    dataset = load_dataset(config.data)
    for name in ("draft_beams", "evaluate_beams"):
        config = fitted(config, dataset.catalogue.n_items, name)
    accelerator = join_processes()
    half = use_half(config.precision, accelerator.device)
    options: dict[str, Any] = {"beams": config.draft_beams, "half": half, "device": str(accelerator.device)}
    backbone = load(config.backbone, **options)
    check_backbone(config.backbone, backbone, config.data, dataset, config.ids)
    if config.fold and config.drafters:
        raise InputError("drafters draft for every user, so none can be left out; give either --drafters or --fold")
    check_folds(config.drafters)
    drafters = [load(run, **options) for run in config.drafters] or [backbone]
    split = leave_one_out(dataset.interactions)
    train = without_fold(split.train, config.fold)
    check_events(train, config.data)
    fingerprints: dict[str, Any] = {"data": dataset.fingerprint, "semantic_ids": backbone.ids.fingerprint}
    fingerprints["learnt"] = learnt_from(dataset.fingerprint, config.backbone, *config.drafters)
    fingerprints["backbone"] = weights_fingerprint(backbone.model)
    fingerprints["drafters"] = [weights_fingerprint(drafter.model) for drafter in drafters]
    check_folder(asdict(config), fingerprints)
    knobs: dict[str, Any] = {name: getattr(config, name) for name in asdict(config)}
    for name in ("replace", "data", "backbone", "ids", "drafters", "fold", "drafts", "draft_beams"):
        del knobs[name]
    drafts = _draft(config, drafters, train, dataset.fingerprint)
    keep_settings(asdict(config), fingerprints)
    if accelerator.is_main_process:
        sample = sample_users(split.validation, config.evaluate_users, config.seed)
        write_json(config.out / "labels.json", compare_labels(backbone, drafts, train, sample))
    sft(train, split.validation, drafts, backbone, **knobs)
    if accelerator.is_main_process:
        console = plain_console()
        console.print(f"wrote {config.out} (weights of the best validation NDCG@10, log in metrics.jsonl)")
        console.print(next_command("evaluate", config.data, "--runs", config.out))


def check_settings(config: SFTConfig) -> None:
    """Raise InputError for a number that no training can have, before any work."""
    check_shared(vars(config))
    check_least(1, draft_beams=config.draft_beams)
    check_least(10, evaluate_beams=config.evaluate_beams)


def _draft(
    config: SFTConfig, drafters: list[GenerativeRecommender], train: Interactions, fingerprint: str
) -> torch.Tensor:
    """Make what drafts are missing, together with the other processes, and load all."""
    accelerator = join_processes()
    folder = config.drafts or config.out / "drafts"
    share = {"rank": accelerator.process_index, "world": accelerator.num_processes}
    n_events = int((train.lengths - 1).clip(min=0).sum())
    with progress_bar("draft", n_events, shown=accelerator.is_main_process) as advance:
        make_drafts(
            drafters,
            train,
            folder,
            data=fingerprint,
            n_beams=config.draft_beams,
            **share,
            done=lambda events: advance("events", events),
        )
    accelerator.wait_for_everyone()
    return load_drafts(folder, train, drafters[0].model.config.history)


def compare_labels(
    backbone: GenerativeRecommender, drafts: torch.Tensor, train: Interactions, validation: Holdout
) -> dict[str, Any]:
    """The labels that training will meet beside those of the backbone's drafts for validation; see `draft_labels`."""
    drafted = drafts[:, 0] >= 0
    targets = torch.from_numpy(train.items.astype(np.int64))
    found = backbone.recommend(validation.histories, drafts.shape[1], filter_seen=False)
    return {
        "training": draft_labels(drafts[drafted], targets[drafted], backbone.model),
        "validation": draft_labels(torch.from_numpy(found.items), torch.from_numpy(validation.targets), backbone.model),
    }


def sft(
    train: Interactions,
    validation: Holdout,
    drafts: torch.Tensor,
    backbone: GenerativeRecommender,
    out: Path,
    *,
    reflection: bool,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    correction_weight: float,
    clip: float,
    precision: Precision,
    evaluate_every: int,
    evaluate_users: int,
    evaluate_beams: int,
    policy: MergePolicy,
    save_every: int,
    seed: int,
    resume: bool = False,
    tensorboard: bool = False,
) -> None:
    """Train from the backbone's weights, and keep the best in out/model.safetensors.

    drafts: int32 [nnz, B], items drafted for each training event. Writes and resumes as `redraft.train.pretrain`.
    Raises InputError if the loss stops being finite; the last good weights stay.
    """
    accelerator = join_processes()
    half = use_half(precision, accelerator.device)
    autocast = torch.autocast(accelerator.device.type, torch.bfloat16, enabled=half)
    torch.manual_seed(seed)
    ids, catalogue, shape = backbone.ids, backbone.catalogue, backbone.model.config
    network = build_grc(shape, ids, catalogue, reflection=reflection, backbone=backbone.model).to(accelerator.device)
    optimizer = new_optimizer(network, learning_rate, weight_decay)
    parallel, optimizer = accelerator.prepare(_Template(network), optimizer)
    torch.manual_seed(seed + accelerator.process_index)
    windows = training_windows(train, shape)
    shard = {"seed": seed, "rank": accelerator.process_index, "world": accelerator.num_processes}
    n_steps = epochs * n_batches(windows, batch_size)
    sample = sample_users(validation, evaluate_users, seed)
    correction = Correction(budget=evaluate_beams, policy=policy)
    recommender = SelfCorrectingRecommender(
        network, ids, catalogue, beams=evaluate_beams, half=half, correction=correction
    )
    metrics_file, state_file = out / "metrics.jsonl", out / "state.safetensors"
    at = begin_run(out, ids, catalogue, {"model": network}, optimizer, resume=resume)
    started = time.monotonic() - at.seconds
    with progress_bar("train", n_steps, completed=at.step, shown=accelerator.is_main_process) as advance:
        for epoch in range(at.epoch, epochs):
            for batch in batches(train, windows, batch_size, epoch=epoch, skip=at.batch, **shard):
                network.train()
                set_learning_rate(optimizer, learning_rate, at.step, n_steps)
                drawn = draw_drafts(drafts, batch).to(accelerator.device)
                batch = batch.to(accelerator.device)
                with autocast:
                    likelihood, reflected, corrected, asked = parallel(batch, drawn)
                loss = (likelihood + correction_weight * (reflected + corrected)).sum()
                parts = torch.stack([part.detach().sum() for part in (likelihood, reflected, corrected, asked)])
                *sums, count = descend(accelerator, network, optimizer, loss, parts, clip=clip, step=at.step)
                named = dict(zip(("likelihood", "reflection", "correction"), sums, strict=True))
                at.count(named, count, time.monotonic() - started)
                advance(f"epoch {epoch + 1}/{epochs} " + " ".join(f"{n} {x:.3f}" for n, x in at.means().items()))
                if accelerator.is_main_process and at.step % save_every == 0:
                    save_state(state_file, {"model": network}, optimizer, asdict(at))
            if accelerator.is_main_process:
                metrics = at.line()
                if (epoch + 1) % evaluate_every == 0 or epoch + 1 == epochs:
                    metrics |= validate(recommender, sample)
                    if metrics["N@10"] > at.best:
                        at.best = metrics["N@10"]
                        save_backbone(network, out / "model.safetensors", ids, catalogue)
                log_metrics(metrics_file, metrics, tensorboard=tensorboard)
            at.next_epoch()
            if accelerator.is_main_process:
                save_state(state_file, {"model": network}, optimizer, asdict(at))
            accelerator.wait_for_everyone()


class _Template(nn.Module):
    """A batch and its drafts in, losses out: one forward call, so that processes can share it."""

    def __init__(self, network: GRC):
        super().__init__()
        self.network = network

    def forward(self, batch: Batch, drafts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return template_losses(self.network, batch, drafts)


def template_losses(
    model: GRC, batch: Batch, drafts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Likelihood, reflection and correction losses [U, R] of a draft [U, R] for each target (paper Eq. 10).

    All are 0 where no target is asked for; the fourth tensor, bool [U, R], says where one is.
    """
    targets, asked = batch.predictions(short=True)
    own, written = targets.clamp(min=0), drafts.clamp(min=0)
    labels = reflection_labels(model.codes[written], model.codes[own], model.attributes[written], model.attributes[own])
    logits = model.template(batch.history, targets, drafts, labels)
    likelihood = next_item_nll(logits.target, model.codes[own])
    correction = next_item_nll(logits.correction, model.codes[own])
    nothing = torch.zeros_like(likelihood)
    reflection = nothing if logits.reflection is None else reflection_nll(logits.reflection, labels)
    return likelihood * asked, reflection * asked, correction * asked, asked


def draw_drafts(drafts: torch.Tensor, batch: Batch) -> torch.Tensor:
    """One of the B drafts [nnz, B] for each target [U, R] of a batch, drawn anew by torch's random state.

    What stands where no target is asked for means nothing.
    """
    n_rows = batch.predictions(short=True)[0].shape[1]
    events = (batch.event[:, None] - torch.arange(n_rows - 1, -1, -1)).clamp(min=0)
    draws = torch.randint(drafts.shape[1], events.shape)
    return drafts[events, draws].long()


def validate(recommender: SelfCorrectingRecommender, holdout: Holdout, ks: Sequence[int] = (10,)) -> dict[str, float]:
    """Recall and NDCG of the corrected lists, and of the drafts alone; seen items kept."""
    how: dict[str, Any] = {"ks": ks, "longest": recommender.ids.n_items, "filter_seen": False}
    corrected = evaluate(recommender, holdout, **how).metrics
    drafts = evaluate(recommender.uncorrected(), holdout, **how).metrics
    return corrected | {f"draft {name}": value for name, value in drafts.items()}
