"""Train a verifier beside a model that stays as it is: which item comes next, of all items, by what it is."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from redraft.checkpoint import check_same_items, weights_fingerprint
from redraft.data.loader import count_batches
from redraft.data.split import sample_users, split_of
from redraft.data.store import load_dataset
from redraft.device import use_half
from redraft.eval.evaluate import evaluate
from redraft.model.backbone import Backbone
from redraft.recommender import GenerativeRecommender, load
from redraft.records import Batch, Holdout, InputError, Interactions, check_least
from redraft.stored import learnt_from
from redraft.train.losses import item_nll
from redraft.train.pretrain import training_windows
from redraft.train.processes import join_processes
from redraft.train.run import Learner, Losses, begin, split_batch
from redraft.train.settings import EpochsConfig, check_folder, check_shared, fitted, keep_settings, say_trained
from redraft.train.start import check_events

__all__ = ["VerifierConfig", "check_settings", "main", "train_verifier", "verifier_losses"]


@dataclass(frozen=True, kw_only=True)
class VerifierConfig(EpochsConfig):
    """Add a verifier to a trained run, whose lists it puts into a better order."""

    run: Path
    """Run folder of the trained model, of any recipe."""
    evaluate_beams: int = 50
    """Beam budget of each evaluation; the drafts of a model that corrects itself are not corrected there."""


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
    split = split_of(dataset)
    check_events(split.train, config.data)
    keep_settings(asdict(config), fingerprints)
    train_verifier(split.train, split.validation, start, config)
    say_trained(config.data, config.out)


def check_settings(config: VerifierConfig) -> None:
    """Raise InputError for a number that no training can have, before any work."""
    check_shared(vars(config))
    check_least(10, evaluate_beams=config.evaluate_beams)


def train_verifier(
    train: Interactions, validation: Holdout, start: GenerativeRecommender, config: VerifierConfig
) -> None:
    """Train a verifier for the start's model, and keep the best in out/model.safetensors.

    Writes and resumes as `redraft.train.pretrain`.
    Raises InputError if the loss stops being finite; the last good weights stay.
    """
    device = join_processes().device
    half = use_half(config.precision, device)
    torch.manual_seed(config.seed)
    ids, catalogue, network = start.ids, start.catalogue, start.model.requires_grad_(False)
    verifier = network.add_verifier()
    windows = training_windows(train, network.config)
    n_steps = count_batches(windows, config.batch_size, seed=config.seed, epochs=config.epochs)
    sample = sample_users(validation, config.evaluate_users, config.seed)
    recommender = GenerativeRecommender(network, ids, catalogue, beams=config.evaluate_beams, half=half)
    learner, trained = Learner(network, verifier_losses), {"verifier": verifier}
    run = begin(config, recommender, learner, trained, n_steps, weight_decay=config.weight_decay)
    with run.progress() as advance:
        while run.goes_on(config.epochs, config.patience):
            for batch in run.batches(train, windows, config.batch_size):
                network.train()  # dropout in the frozen encoder, too: it varies what the verifier learns from
                for part in split_batch(batch, config.accumulate):
                    run.learn(part.to(device))
                run.step()
                advance(run.says(config.epochs))
            metrics = {}
            if run.main and config.validates(run.at.epoch):
                metrics = evaluate(recommender, sample, ks=(10,), longest=ids.n_items, filter_seen=False).metrics
            run.end_epoch(metrics)


def verifier_losses(model: Backbone, batch: Batch) -> Losses:
    """The loss of the targets of a batch."""
    targets, has_loss = batch.predictions(short=True)
    queries = model.queries(model.encode(batch.history))[:, -targets.shape[1] :]
    loss = item_nll(model.judge_all(queries[has_loss]), targets[has_loss]).sum()
    return Losses(loss, {"loss": loss})
