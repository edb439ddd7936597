"""Pre-train the backbone to write the semantic ID of the next item (TIGER; paper section 3.2)."""

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from redraft.checkpoint import build_backbone, check_item_counts, weights_fingerprint
from redraft.data.loader import Windows, count_batches, every_prefix, shared_prefixes
from redraft.data.split import sample_users, split_of
from redraft.data.store import load_dataset
from redraft.device import use_half
from redraft.eval.evaluate import evaluate
from redraft.model.backbone import Backbone, ModelConfig, check_shape
from redraft.model.generator import Generator, GeneratorConfig, check_generator
from redraft.recommender import GenerativeRecommender, load
from redraft.records import Batch, Catalogue, Holdout, InputError, Interactions, SemanticIds
from redraft.stored import learnt_from
from redraft.tokenizer.semantic_ids import load_semantic_ids
from redraft.train.losses import next_item_nll
from redraft.train.processes import join_processes
from redraft.train.run import Learner, Losses, begin, split_batch
from redraft.train.settings import EpochsConfig, check_folder, check_shared, fitted, keep_settings, say_trained
from redraft.train.start import check_events, without_fold

__all__ = [
    "PretrainConfig",
    "check_settings",
    "main",
    "next_item_losses",
    "pretrain",
    "take_weights",
    "teacher_forced",
    "training_windows",
]


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(EpochsConfig):
    """Train the backbone on a data set."""

    ids: Path | None = None
    """Semantic IDs [semantic_ids.safetensors in the data-set folder]."""
    init: Path | None = None
    """Run folder whose weights to start from, of the same shape or with fewer decoder blocks [fresh weights]."""
    fold: tuple[int, int] | None = None
    """I N: leave out the users whose number is I modulo N, so that this run can draft for users it never saw."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Shape of the model."""
    epochs: int = 24
    """Passes over the training events."""
    head_share: float = 0.0
    """Share of the epochs, the first, in which a generator's encoder and item head learn alone: a third of the work."""
    label_smoothing: float = 0.0
    """Share of each code's target that is spread over its level."""
    compile: bool = False
    """Compile the forward pass with torch.compile."""
    evaluate_beams: int = 20
    """Beam budget of each evaluation on validation."""

    @property
    def head_epochs(self) -> int:
        """The first epochs, in which the decoder waits."""
        return int(self.head_share * self.epochs)

    def validates(self, epoch: int) -> bool:
        """See EpochsConfig; not before the decoder has learned."""
        return epoch >= self.head_epochs and super().validates(epoch)


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
    split = split_of(dataset)
    train = without_fold(split.train, config.fold)
    check_events(train, config.data)
    keep_settings(asdict(config), fingerprints)
    pretrain(train, split.validation, ids, dataset.catalogue, config, init=init)
    say_trained(config.data, config.out)


def check_settings(config: PretrainConfig) -> None:
    """Raise InputError for settings that cannot work on any data, before any work is done."""
    check_shared(vars(config))
    if isinstance(config.model, GeneratorConfig):
        check_generator(config.model)
    else:
        check_shape(config.model)
    if not 0 <= config.head_share < 1:
        raise InputError(f"head_share is {config.head_share}; it must be >= 0 and < 1")
    if config.head_share and not isinstance(config.model, GeneratorConfig):
        raise InputError("head_share is for a generator with an item head (recipes small and tiny); leave it out")
    if isinstance(config.model, GeneratorConfig) and config.label_smoothing:
        raise InputError("label_smoothing is for recipe tiger, whose codes compete with all codes; leave it out")
    if not 0 <= config.label_smoothing < 1:
        raise InputError(f"label_smoothing is {config.label_smoothing}; it must be >= 0 and < 1")


def pretrain(
    train: Interactions,
    validation: Holdout,
    ids: SemanticIds,
    catalogue: Catalogue,
    config: PretrainConfig,
    *,
    init: Backbone | None = None,
    windows: Windows | None = None,
) -> None:
    """Train, and keep the best weights in out/model.safetensors; from the weights of `init`, if it is given.

    windows: the rows of each epoch [every event but a user's first once].
    Writes out/metrics.jsonl and out/state.safetensors, from which `resume` goes on: on one CPU the resumed run ends
    bit for bit as an uninterrupted one. Under torchrun each batch is split over the processes.
    Raises InputError if the loss stops being finite; the last good weights stay.
    """
    device = join_processes().device
    half = use_half(config.precision, device)
    torch.manual_seed(config.seed)
    network = build_backbone(config.model, ids, catalogue)
    if init is not None:
        take_weights(network, init)
    network.to(device)
    if config.compile:
        network.compile(dynamic=True)
    windows = training_windows(train, config.model) if windows is None else windows
    assert len(windows), "events to learn from"
    n_steps = count_batches(windows, config.batch_size, seed=config.seed, epochs=config.epochs)
    sample = sample_users(validation, config.evaluate_users, config.seed)
    recommender = GenerativeRecommender(network, ids, catalogue, beams=config.evaluate_beams, half=half)
    if isinstance(network, Generator):
        network.count(train.items)
        learner = Learner(network, generator_losses)
    else:
        learner = Learner(network, partial(next_item_losses, label_smoothing=config.label_smoothing))
    run = begin(config, recommender, learner, {"model": network}, n_steps, weight_decay=config.weight_decay)
    with run.progress() as advance:
        while run.goes_on(config.epochs, config.patience, config.head_epochs):
            for batch in run.batches(train, windows, config.batch_size):
                network.train()
                for part in split_batch(batch, config.accumulate):
                    run.learn(part.to(device), run.at.epoch >= config.head_epochs)
                run.step()
                advance(run.says(config.epochs))
            metrics = {}
            if run.main and config.validates(run.at.epoch):
                metrics = evaluate(recommender, sample, ks=(10,), longest=ids.n_items, filter_seen=False).metrics
            run.end_epoch(metrics)


def training_windows(train: Interactions, model: ModelConfig) -> Windows:
    """Rows that share prefixes; for an encoder that would read the targets, one row per event."""
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


def next_item_losses(model: Backbone, batch: Batch, decode: bool, label_smoothing: float) -> Losses:
    """The loss that pre-training minimises on a batch; a plain backbone has nothing but a decoder to train."""
    losses, _ = teacher_forced(model, batch, model.codes, label_smoothing)
    return Losses(losses.sum(), {"loss": losses.sum()})


def generator_losses(model: Generator, batch: Batch, decode: bool) -> Losses:
    """What a generator that knows its items loses on a batch: on the codes of the targets, and on them as wholes.

    decode: whether the decoder learns, too.
    """
    targets, has_loss = batch.predictions(short=True)
    if decode:
        written, whole = model.losses(batch.history, targets, has_loss)
        return Losses(written.sum() + whole.sum(), {"loss": written.sum(), "item head": whole.sum()})
    whole = model.head_losses(batch.history, targets, has_loss).sum()
    idle = sum(weight.sum() for weight in model.parameters())  # processes that share a batch expect every gradient
    return Losses(whole + 0.0 * idle, {"loss": whole, "item head": whole})


def teacher_forced(
    model: nn.Module, batch: Batch, codes: torch.Tensor, label_smoothing: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses [U, R] of all targets of a batch, 0 where there is none, and where there is one (paper Eq. 1).

    codes: int64 [N, L].
    """
    targets, has_loss = batch.predictions(short=True)
    logits = model(batch.history, targets)
    return next_item_nll(logits, codes[targets.clamp(min=0)], label_smoothing) * has_loss, has_loss
