"""How a night learns: the model in service goes over to today's items, and learns new events beside some old ones."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from redraft.checkpoint import build_backbone, weights_fingerprint
from redraft.data.loader import Windows, shared_prefixes
from redraft.data.split import split_of
from redraft.ids import places_among
from redraft.model.generator import Generator, GeneratorConfig
from redraft.model.growing import carried
from redraft.nightly.night import Night
from redraft.options import fitted
from redraft.recipes import small
from redraft.recommender import load
from redraft.records import Catalogue, Dataset, InputError, Interactions, SemanticIds
from redraft.stored import learnt_from
from redraft.train.pretrain import PretrainConfig, check_settings, pretrain, training_windows
from redraft.train.settings import check_folder, keep_settings

__all__ = ["FirstConfig", "WarmConfig", "learn", "learnt_until", "lesson", "model_in_service", "schedule"]


@dataclass(frozen=True)
class FirstConfig:
    """What only the first night of a folder reads."""

    epochs: int = 20
    """Passes over the training events."""
    levels: int = 4
    """Codes per item."""
    codebook_size: int = 300
    """Codes per level; by default no more than there are items."""
    model: GeneratorConfig = field(default_factory=GeneratorConfig)
    """Shape of the model, for all nights."""


@dataclass(frozen=True)
class WarmConfig:
    """How every night but the first learns."""

    epochs: int = 3
    """Passes over the new events."""
    replay: float = 0.5
    """Share of what is learnt that is old events, drawn by seed."""
    learning_rate: float = 5e-4
    """Peak of AdamW."""


def learn(night: Night, dataset: Dataset, ids: SemanticIds, config: PretrainConfig, replay: float) -> dict[str, Any]:
    """Train the run of a night, or go on with its training; returns the fingerprint of its weights.

    replay: see `lesson`. The first night's run starts from fresh weights, and learns all events.
    Raises InputError if there is none to learn from; the next try gathers events anew.
    """
    split = split_of(dataset)
    init, windows = None, training_windows(split.train, config.model)
    if night.parent is not None:
        init = model_in_service(night.parent, ids, dataset.catalogue)
        config = replace(config, model=init.config)
        windows = lesson(split.train, learnt_until(night.parent), init.config.history, replay, config.seed)
    if not len(windows):
        night.undo("events")
        raise InputError(f"{night.data}: no new event has one of the same user before it; wait for more events")
    config = fitted(config, ids.n_items, "evaluate_beams")
    fingerprints = {
        "data": dataset.fingerprint,
        "semantic_ids": ids.fingerprint,
        "init": None if init is None else weights_fingerprint(init),
        "learnt": learnt_from(dataset.fingerprint, None if night.parent is None else night.parent.run),
    }
    check_folder(asdict(config), fingerprints)
    keep_settings(asdict(config), fingerprints)
    pretrain(split.train, split.validation, ids, dataset.catalogue, config, init=init, windows=windows)
    return {"fingerprint": weights_fingerprint(load(night.run).model)}


def schedule(night: Night, first: FirstConfig, warm: WarmConfig, batch_size: int, seed: int) -> PretrainConfig:
    """The training of a night, the shape of the model as on the first. Raises InputError for what cannot work."""
    config = replace(small(night.data, night.run), batch_size=batch_size, seed=seed, resume=True)
    config = replace(config, model=first.model, epochs=first.epochs)
    if night.parent is not None:
        config = replace(config, epochs=warm.epochs, learning_rate=warm.learning_rate, head_share=0.0, evaluate_every=1)
    check_settings(config)
    return config


def learnt_until(night: Night) -> int:
    """Seconds since 1970: the model of a night learnt from the events before."""
    said = night.done("events")
    if said is None:
        raise InputError(
            f"{night.notes}: does not say what the model in service learnt; restore it, or begin elsewhere"
        )
    return int(said["validation_from"])


def model_in_service(night: Night, ids: SemanticIds, catalogue: Catalogue) -> Generator:
    """The model of a night over the items of a later catalogue, as a service has it that was told of the new ones.

    Raises InputError if its run is none that a night trained.
    """
    known = load(night.run)
    if not isinstance(known.model, Generator):
        raise InputError(f"{night.run}: not a generator as a night trains it; begin in another folder")
    items = places_among(known.catalogue.ids, catalogue.ids)
    pairs = zip(known.catalogue.attribute_values, catalogue.attribute_values, strict=True)
    values = [places_among(old, new) for old, new in pairs]
    fresh = build_backbone(known.model.config, ids, catalogue)
    assert isinstance(fresh, Generator)
    return carried(known.model, fresh, items, values)


def lesson(train: Interactions, since: int, history: int, replay: float, seed: int) -> Windows:
    """The rows of each epoch: every event from a moment on but a user's first once, and old ones drawn by seed.

    replay: the share of all predicted events that are old, as far as there are as many.
    """
    assert train.times is not None
    new = _rows_since(train, since, history)
    before = np.concatenate([[0], np.cumsum(train.times < since)])[train.offsets]
    old = shared_prefixes(Interactions(train.items, before), history)
    wanted = new.n_targets.sum() * replay / (1 - replay)
    drawn = np.random.default_rng(seed).permutation(len(old))
    drawn = drawn[np.cumsum(old.n_targets[drawn]) <= wanted]
    shift = (train.offsets - before)[np.searchsorted(before, old.target[drawn], side="right") - 1]
    replayed = Windows(old.target[drawn] + shift, old.start[drawn] + shift, old.n_targets[drawn])
    return Windows(*(np.concatenate([getattr(part, name) for part in (new, replayed)]) for name in vars(new)))


def _rows_since(train: Interactions, since: int, history: int) -> Windows:
    """The rows of `shared_prefixes` that predict events from a moment on, those alone."""
    assert train.times is not None
    rows = shared_prefixes(train, history)
    user = np.searchsorted(train.offsets, rows.target, side="right") - 1
    before = np.concatenate([[0], np.cumsum(train.times < since)])[train.offsets]
    first = train.offsets[user] + np.diff(before)[user]
    n_new = np.clip(rows.target + 1 - first, 0, rows.n_targets)
    kept = n_new > 0
    return Windows(rows.target[kept], rows.start[kept], n_new[kept])
