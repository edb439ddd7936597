"""Teach a backbone to reflect on its drafts and to correct them (GRC_SFT; paper section 4.1, Eq. 10)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from redraft.checkpoint import build_grc, weights_fingerprint
from redraft.data.loader import count_batches
from redraft.data.split import sample_users, split_of
from redraft.data.store import load_dataset
from redraft.decode.correction import Correction
from redraft.decode.merge import MergePolicy
from redraft.device import use_half
from redraft.eval.evaluate import evaluate
from redraft.files import measured, write_json
from redraft.model.slots import DEFAULT, check_kinds, histories_before
from redraft.model.template import GRC
from redraft.recommender import GenerativeRecommender, SelfCorrectingRecommender, load
from redraft.records import MAX_COUNT, Batch, Holdout, InputError, Interactions, check_between, check_least
from redraft.stored import learnt_from
from redraft.train.drafts import draft_labels, load_drafts, make_drafts
from redraft.train.heeding import heeding
from redraft.train.losses import next_item_nll, reflection_nll, sft_loss
from redraft.train.pretrain import training_windows
from redraft.train.processes import join_processes
from redraft.train.progress import progress_bar
from redraft.train.run import Learner, Losses, begin, split_batch
from redraft.train.settings import EpochsConfig, check_folder, check_shared, fitted, keep_settings, say_trained
from redraft.train.start import check_backbone, check_events, check_folds, without_fold

__all__ = [
    "SFTConfig",
    "check_settings",
    "draw_drafts",
    "main",
    "sft",
    "supervised_losses",
    "template_losses",
    "validate",
]

HEEDED = 256
"""Users of each validation on whom it is measured how labels are heeded."""


@dataclass(frozen=True, kw_only=True)
class SFTConfig(EpochsConfig):
    """Fine-tune a trained backbone to generate, reflect and correct."""

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
    reflection: bool = True
    """False leaves out the reflection labels: the ablation GC."""
    slots: tuple[str, ...] = DEFAULT
    """Kinds of reflection labels, location first; see redraft.model.slots."""
    draft_beams: int = 20
    """Drafts kept for each training event; every epoch draws some of them anew."""
    drafts_per_target: int = 1
    """Drafts that each epoch draws for a training event."""
    label_start: float = 0.5
    """Spread of what labels, ends and corrections are embedded as at the start; with 0 a short training hardly hears
    them."""
    learning_rate: float = 5e-4
    """Peak of AdamW after a warm-up of 1/40 of the steps; a cosine takes it to 2 % of that."""
    correction_weight: float = 1.2
    """Weight lambda_rc of reflection and correction beside the likelihood of the target (paper Eq. 10)."""
    evaluate_every: int = 1
    """Epochs between evaluations on validation; the best weights by NDCG@10 of the corrected lists are kept."""
    evaluate_beams: int = 20
    """Beam budget of each evaluation on validation; all drafts may be corrected."""
    policy: MergePolicy = "union-logsumexp"
    """How drafts and corrections become one list there."""


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
    split = split_of(dataset)
    train = without_fold(split.train, config.fold)
    check_events(train, config.data)
    fingerprints: dict[str, Any] = {"data": dataset.fingerprint, "semantic_ids": backbone.ids.fingerprint}
    fingerprints["learnt"] = learnt_from(dataset.fingerprint, config.backbone, *config.drafters)
    fingerprints["backbone"] = weights_fingerprint(backbone.model)
    fingerprints["drafters"] = [weights_fingerprint(drafter.model) for drafter in drafters]
    check_folder(asdict(config), fingerprints)
    drafts = _draft(config, drafters, train, dataset.fingerprint)
    keep_settings(asdict(config), fingerprints)
    if accelerator.is_main_process:
        sample = sample_users(split.validation, config.evaluate_users, config.seed)
        write_json(config.out / "labels.json", measured(compare_labels(backbone, drafts, train, sample)))
    sft(train, split.validation, drafts, backbone, config)
    say_trained(config.data, config.out)


def check_settings(config: SFTConfig) -> None:
    """Raise InputError for a number that no training can have, before any work."""
    check_shared(vars(config))
    check_between(1, MAX_COUNT, draft_beams=config.draft_beams, drafts_per_target=config.drafts_per_target)
    check_kinds(config.slots)
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
    drafted_lists = backbone.recommend(validation.histories, drafts.shape[1], filter_seen=False)
    return {
        "training": draft_labels(drafts[drafted], targets[drafted], backbone.model),
        "validation": draft_labels(
            torch.from_numpy(drafted_lists.items), torch.from_numpy(validation.targets), backbone.model
        ),
    }


def sft(
    train: Interactions,
    validation: Holdout,
    drafts: torch.Tensor,
    backbone: GenerativeRecommender,
    config: SFTConfig,
) -> None:
    """Train from the backbone's weights, and keep the best in out/model.safetensors.

    drafts: int32 [nnz, B], items drafted for each training event. Writes and resumes as `redraft.train.pretrain`.
    Raises InputError if the loss stops being finite; the last good weights stay.
    """
    device = join_processes().device
    half = use_half(config.precision, device)
    torch.manual_seed(config.seed)
    ids, catalogue, shape = backbone.ids, backbone.catalogue, backbone.model.config
    network = build_grc(
        shape, ids, catalogue, reflection=config.reflection, slots=config.slots, backbone=backbone.model
    )
    if config.label_start:
        network.start_labels(config.label_start)
    network.to(device)
    windows = training_windows(train, shape)
    n_steps = count_batches(windows, config.batch_size, seed=config.seed, epochs=config.epochs)
    sample = sample_users(validation, config.evaluate_users, config.seed)
    beams, correction = config.evaluate_beams, Correction(budget=config.evaluate_beams, policy=config.policy)
    recommender = SelfCorrectingRecommender(network, ids, catalogue, beams=beams, half=half, correction=correction)
    learner = Learner(network, partial(supervised_losses, correction_weight=config.correction_weight))
    run = begin(config, recommender, learner, {"model": network}, n_steps, weight_decay=config.weight_decay)
    with run.progress() as advance:
        while run.goes_on(config.epochs, config.patience):
            for batch in run.batches(train, windows, config.batch_size):
                network.train()
                for part in split_batch(batch, config.accumulate):
                    run.learn(part.to(device), draw_drafts(drafts, part, config.drafts_per_target).to(device))
                run.step()
                advance(run.says(config.epochs))
            metrics = {}
            if run.main and config.validates(run.at.epoch):
                metrics = validate(recommender, sample) | heeded(recommender, sample)
            run.end_epoch(metrics)


def supervised_losses(model: GRC, batch: Batch, drafts: torch.Tensor, correction_weight: float) -> Losses:
    """The loss of a batch with n drafts [n, U, R] for each target, a mean over them, and its three parts."""
    each = [template_losses(model, batch, one)[:3] for one in drafts]
    likelihood, reflected, corrected = (torch.stack(part).mean(dim=0) for part in zip(*each))
    parts = {"likelihood": likelihood.sum(), "reflection": reflected.sum(), "correction": corrected.sum()}
    return Losses(sft_loss(likelihood, reflected, corrected, correction_weight).sum(), parts)


def template_losses(
    model: GRC, batch: Batch, drafts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Likelihood, reflection and correction losses [U, R] of a draft [U, R] for each target (paper Eq. 10).

    All are 0 where there is no loss; the fourth tensor, bool [U, R], says where one is.
    """
    targets, has_loss = batch.predictions(short=True)
    own, written = targets.clamp(min=0), drafts.clamp(min=0)
    labels = model.labels(written, own, histories_before(batch.history, targets.shape[1]))
    logits = model.template(batch.history, targets, drafts, labels)
    likelihood = next_item_nll(logits.target, model.codes[own])
    correction = next_item_nll(logits.correction, model.codes[own])
    nothing = torch.zeros_like(likelihood)
    reflection = nothing if logits.reflection is None else reflection_nll(logits.reflection, labels)
    return likelihood * has_loss, reflection * has_loss, correction * has_loss, has_loss


def draw_drafts(drafts: torch.Tensor, batch: Batch, n: int) -> torch.Tensor:
    """n of the B drafts [nnz, B] for each target of a batch, [n, U, R], drawn anew by torch's random state.

    What stands where there is no loss means nothing.
    """
    n_rows = batch.predictions(short=True)[0].shape[1]
    events = (batch.event[:, None] - torch.arange(n_rows - 1, -1, -1)).clamp(min=0)
    draws = torch.randint(drafts.shape[1], (n, *events.shape))
    return drafts[events, draws].long()


def heeded(recommender: SelfCorrectingRecommender, holdout: Holdout) -> dict[str, float]:
    """What `heeding` says of the drafts for the first users of a holdout."""
    users = np.arange(min(HEEDED, len(holdout.targets)))
    histories, model = holdout.histories.take(users), recommender.model
    drafts = recommender.drafts_alone().recommend(histories, recommender.beams, filter_seen=False).items
    read = torch.from_numpy(histories.padded(model.config.history))
    device = model.codes.device
    inputs = (read, torch.from_numpy(drafts), torch.from_numpy(holdout.targets[users]))
    return heeding(model, *(x.to(device) for x in inputs))


def validate(recommender: SelfCorrectingRecommender, holdout: Holdout, ks: Sequence[int] = (10,)) -> dict[str, float]:
    """Recall and NDCG of the corrected lists, and of the drafts alone; seen items kept."""
    how: dict[str, Any] = {"ks": ks, "longest": recommender.ids.n_items, "filter_seen": False}
    corrected = evaluate(recommender, holdout, **how).metrics
    drafts = evaluate(recommender.drafts_alone(), holdout, **how).metrics
    return corrected | {f"draft {name}": value for name, value in drafts.items()}
