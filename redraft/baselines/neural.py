"""What the neural baselines share: facts about items, one training loop, lists from scores, and files."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import nn

from redraft.baselines.ranking import recommend_in_batches
from redraft.baselines.storage import FIX, load_arrays, load_settings, save_arrays
from redraft.data.loader import Windows, batches, count_batches, shared_prefixes
from redraft.device import configure_attention, find_device
from redraft.optim import Best, adamw, descend, learning_rate, set_learning_rate
from redraft.records import (
    MAX_COUNT,
    MAX_SEED,
    Batch,
    BoolArray,
    Catalogue,
    FloatArray,
    InputError,
    IntArray,
    Interactions,
    Recommendations,
    check_above,
    check_between,
    check_least,
)
from redraft.stored import check_tensors, record
from redraft.tokenizer.embed import item_texts, tfidf_vectors

__all__ = ["Facts", "Judge", "Network", "NeuralRecommender", "Training"]

TEXT_DIM = 128
SIZES = ("history", "width", "feed_forward", "hidden", "heads")
MOST = 2**16
"""The largest size of a network: with more, one weight matrix would not fit any memory."""


@dataclass(frozen=True)
class Training:
    """How a neural baseline is trained."""

    epochs: int = 40
    """Passes over the training events, at most."""
    patience: int = 5
    """Epochs without a better validation before training ends; only where somebody judges."""
    batch_size: int = 1024
    """Predicted events per step."""
    learning_rate: float = 1e-3
    """Peak of AdamW after a warm-up of 1/40 of the steps; a cosine takes it to 2 % of that."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    half: bool = False
    """Run matrix products in bfloat16 while training; weights stay float32."""
    seed: int = 0
    """Seed of weights, order, negatives and dropout."""


class Facts(NamedTuple):
    """What a network is told of the N items.

    counts: int64 [N], training events. attributes: int64 [N, K], -1 = unknown. vectors: float32 [N, V], of their texts;
    V = 0 for a network that does not read.
    """

    counts: torch.Tensor
    attributes: torch.Tensor
    vectors: torch.Tensor

    @classmethod
    def of(cls, train: Interactions, catalogue: Catalogue, *, read: bool) -> Self:
        """Count the events of each item, and turn texts into vectors if they are to be read."""
        texts = item_texts(catalogue, allow_empty=True) if read else []
        vectors = tfidf_vectors(texts, dim=TEXT_DIM, seed=0) if any(texts) else np.zeros((catalogue.n_items, 0))
        counts = np.bincount(train.items, minlength=catalogue.n_items)
        arrays = counts.astype(np.int64), catalogue.attributes.astype(np.int64), vectors.astype(np.float32)
        return cls(*map(torch.from_numpy, arrays))


class Network(nn.Module, ABC):
    """What a neural baseline must say: its loss on training rows, and its scores.

    Made from settings, which have a field `history`, and Facts.
    """

    history: int
    """T, the items of a history that it reads."""

    @abstractmethod
    def loss(self, batch: Batch) -> torch.Tensor:
        """The loss of a batch, summed over its predicted events; see `Batch.predictions`."""

    @abstractmethod
    def score(self, history: torch.Tensor) -> torch.Tensor:
        """Finite scores float32 [U, N] of all items after histories int64 [U, T'], T' <= T, -1 pads the left."""

    def rows(self, train: Interactions) -> Windows:
        """What an epoch consists of: rows that predict each event of a user from all before it, unless overridden."""
        return shared_prefixes(train, self.history)


class NeuralRecommender:
    """A trained network that keeps the Recommender protocol. A baseline names its kind, settings and network.

    settings: a dataclass with a field `training`. read: whether its network is told of the items' texts.
    """

    kind: ClassVar[str]
    Settings: ClassVar[type]
    Network: ClassVar[type[Network]]
    read: ClassVar[bool] = False

    def __init__(self, settings: Any, facts: Facts):
        self.settings = settings
        self.facts = facts
        self.network = self.Network(settings, facts)

    @property
    def uses_time(self) -> bool:
        """Whether histories must come with their times."""
        return False

    @classmethod
    def fit(
        cls,
        train: Interactions,
        catalogue: Catalogue,
        settings: Any = None,
        *,
        judge: "Judge | None" = None,
        device: str = "cpu",
    ) -> Self:
        """Train on the events, with default settings unless given.

        judge: called after each epoch; the weights of its highest answer are kept, and training ends when `patience`
        epochs brought no higher one. Without it the last weights are kept.
        Raises InputError for an item that is not in the catalogue, settings that cannot work, events that hold nothing
        to predict, a device that is not there, and a loss that stops being finite.
        """
        fitted = cls.begin(train, catalogue, settings, device=device)
        fitted.learn(train, judge)
        return fitted

    @classmethod
    def begin(cls, train: Interactions, catalogue: Catalogue, settings: Any = None, *, device: str = "cpu") -> Self:
        """One that has learnt nothing yet. Raises InputError as `fit`, whatever the loss will be."""
        settings = cls.Settings() if settings is None else settings
        train.check_items(catalogue.n_items)
        check_training(settings.training)
        check_sizes(settings)
        if train.lengths.max(initial=0) < 2:
            raise InputError("no user has two training events, a history and what came next; import more events")
        torch.manual_seed(settings.training.seed)
        begun = cls(settings, Facts.of(train, catalogue, read=cls.read))
        begun.network.to(configure_attention(find_device(device)))
        return begun

    def learn(self, train: Interactions, judge: "Judge | None" = None) -> None:
        """Train on the events; judge: as in `fit`. Raises InputError for a loss that stops being finite."""
        _train(self.network, train, self.settings.training, None if judge is None else lambda: judge(self))

    def recommend(
        self, histories: Interactions, k: int, *, filter_seen: bool = True, allow: BoolArray | None = None
    ) -> Recommendations:
        """See `redraft.records.Recommender`."""
        n_items = len(self.facts.counts)
        return recommend_in_batches(self.scores, n_items, histories, k, filter_seen=filter_seen, allow=allow)

    def save(self, path: Path | str, *, replace: bool = False) -> None:
        """Write the fitted model to a folder, whole or not at all; replace: in place of the baseline that is there."""
        weights = {f"network.{name}": weight for name, weight in self.network.state_dict().items()}
        tensors = weights | {f"facts.{name}": fact for name, fact in self.facts._asdict().items()}
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        save_arrays(path, self.kind, arrays, settings=json.dumps(asdict(self.settings)), replace=replace)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote. Raises InputError if it is not there, damaged, or is another model."""
        file = Path(path) / "model.safetensors"
        arrays = {name: torch.from_numpy(array) for name, array in load_arrays(path, cls.kind).items()}
        facts = _facts(file, {name: arrays.pop(f"facts.{name}", None) for name in Facts._fields})
        weights = {name.removeprefix("network."): array for name, array in arrays.items()}
        settings = load_settings(path)
        if isinstance(settings, dict) and "training" in settings:
            training = record(Training, settings["training"], file, FIX, newer=_names(Training))
            settings["training"] = training
        try:
            loaded = cls(record(cls.Settings, settings, file, FIX, newer=_names(cls.Settings)), facts)
        except (AssertionError, InputError, MemoryError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{file}: names a network that cannot be ({str(error).splitlines()[0]}); {FIX}") from None
        check_tensors(file, weights, loaded.network.state_dict(), FIX)
        loaded.network.load_state_dict(weights)
        return loaded

    def _inputs(self, histories: Interactions) -> tuple[IntArray, ...]:
        """What the network's `score` takes of histories: their items, unless overridden."""
        return (histories.padded(min(self.network.history, max(1, int(histories.lengths.max(initial=0))))),)

    @torch.inference_mode()
    def scores(self, histories: Interactions) -> FloatArray:
        """float32 [U, N]: the scores of all items after histories."""
        device = next(self.network.parameters()).device
        inputs = (torch.from_numpy(array).to(device) for array in self._inputs(histories))
        if self.network.training:
            self.network.eval()
        scores: FloatArray = self.network.score(*inputs).float().cpu().numpy()
        return scores


Judge = Callable[[NeuralRecommender], float]


def _names(settings: type) -> tuple[str, ...]:
    """The fields of settings, any of which an older file may lack."""
    return tuple(field.name for field in fields(settings))


def _facts(file: Path, tensors: dict[str, torch.Tensor | None]) -> Facts:
    """Facts from what a file holds; raises InputError unless it is of one number of items."""
    wanted = {"counts": (torch.int64, 1), "attributes": (torch.int64, 2), "vectors": (torch.float32, 2)}
    parts = [part for part in tensors.values() if part is not None]
    forms = [(part.dtype, part.dim()) for part in parts]
    if forms != list(wanted.values()) or len({len(part) for part in parts}) != 1 or not len(parts[0]):
        raise InputError(f"{file}: does not say what it knows of the items; {FIX}")
    return Facts(*parts)


def check_training(training: Training) -> None:
    """Raise InputError for a number that no training can have."""
    check_between(1, MAX_COUNT, epochs=training.epochs, patience=training.patience, batch_size=training.batch_size)
    check_least(0, weight_decay=training.weight_decay)
    check_between(0, MAX_SEED, seed=training.seed)
    check_above(0, learning_rate=training.learning_rate, clip=training.clip)


def check_sizes(settings: Any) -> None:
    """Raise InputError for a number that no network can have."""
    for field in fields(settings):
        number = getattr(settings, field.name)
        if field.name == "dropout":
            check_between(0, 0.99, dropout=number)
        elif isinstance(number, float):
            check_least(0, **{field.name: number})
        elif isinstance(number, int):
            check_between(int(field.name in SIZES), MOST, **{field.name: number})


def _train(network: Network, train: Interactions, training: Training, judge: Callable[[], float] | None) -> None:
    """Train, and leave the network with the weights that the judge liked best."""
    device = next(network.parameters()).device
    rows = network.rows(train)
    optimizer = adamw(network, training.learning_rate, training.weight_decay)
    step, n_steps = 0, count_batches(rows, training.batch_size, seed=training.seed, epochs=training.epochs)
    best = Best(network)
    for epoch in range(training.epochs):
        network.train()
        for batch in batches(train, rows, training.batch_size, seed=training.seed, epoch=epoch):
            batch = batch.to(device)
            set_learning_rate(optimizer, learning_rate(training.learning_rate, step, n_steps))
            with torch.autocast(device.type, torch.bfloat16, enabled=training.half):
                loss = network.loss(batch) / batch.n_targets.sum()
            descend(loss, network, optimizer, training.clip, epoch + 1)
            step += 1
        if judge is not None:
            best.offer(judge())
        if best.since >= training.patience:
            break
    best.restore()
    network.eval()
