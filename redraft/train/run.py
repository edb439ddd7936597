"""What every training loop does around its losses: go on or begin, step, keep the best weights, log, save.

A loop stays a plain function that is read downward:

    run = begin(config, recommender, Learner(network, losses), {"model": network}, n_steps)
    with run.progress() as advance:
        while run.goes_on(config.epochs, config.patience):
            for batch in run.batches(train, windows, config.batch_size):
                run.learn(batch)
                run.step()
                advance(run.says(config.epochs))
            run.end_epoch(validate(...) if run.main and config.validates(run.at.epoch) else {})
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from redraft.checkpoint import save_backbone
from redraft.data.loader import Windows, batches
from redraft.optim import adamw, learning_rate, set_learning_rate
from redraft.recommender import GenerativeRecommender
from redraft.records import Batch, InputError, Interactions
from redraft.train.processes import join_processes
from redraft.train.progress import log_metrics, progress_bar
from redraft.train.settings import RunConfig
from redraft.train.state import Standing, begin_run, save_state

__all__ = ["Learner", "Losses", "Run", "begin", "split_batch"]


class Losses(NamedTuple):
    """What a model lost on a batch, summed over its targets: what is minimised, and by name what the log shows."""

    total: torch.Tensor
    parts: dict[str, torch.Tensor]


class Learner(nn.Module):
    """A network and its losses as one forward call, so that processes can share it.

    losses: a pure function of the network and what `Run.learn` is given, a batch first.
    """

    def __init__(self, network: nn.Module, losses: Callable[..., Losses]):
        super().__init__()
        self.network = network
        self.losses = losses

    def forward(self, *inputs: Any) -> Losses:
        """The losses of a batch."""
        return self.losses(self.network, *inputs)


@dataclass
class Run:
    """A run while it is trained: its folder, where it stands, and what the losses of a batch add up to.

    recommender: whose model's best weights are kept. trained: the modules that learn, by their name in the state.
    """

    config: RunConfig
    accelerator: Accelerator
    recommender: GenerativeRecommender
    learner: nn.Module
    trained: Mapping[str, nn.Module]
    optimizer: Optimizer
    n_steps: int
    at: Standing
    started: float
    count: torch.Tensor = field(default_factory=lambda: torch.ones(()))
    parts: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def main(self) -> bool:
        """Whether this is the first of several processes, which alone validates, logs and writes."""
        return self.accelerator.is_main_process

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.accelerator.device

    @property
    def log(self) -> Path:
        """The file of one line per epoch."""
        return self.config.out / "metrics.jsonl"

    @property
    def autocast(self) -> torch.autocast:
        """The precision of products."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recommender.half)

    def progress(self) -> AbstractContextManager[Callable[..., None]]:
        """A bar over all steps; see `progress_bar`."""
        return progress_bar("train", self.n_steps, completed=self.at.step, shown=self.main)

    def says(self, epochs: int) -> str:
        """The epoch of so many, its losses so far, and the best validation, for the bar."""
        losses = [f"{name} {x:.3f}" for name, x in self.at.means().items()]
        return " ".join([f"epoch {self.at.epoch + 1}/{epochs}", *losses, *self.judged()])

    def judged(self) -> list[str]:
        """The best validation so far in words; none before the first."""
        return [f"best N@10 {self.at.best:.4f}"] if self.at.best > -math.inf else []

    def goes_on(self, epochs: int, patience: int | None = None, unjudged: int = 0) -> bool:
        """Whether there is another epoch: not after the last one, nor `patience` epochs after the best one.

        unjudged: the first epochs, which are not validated and do not count.
        """
        best = max(self.at.best_epoch, unjudged)
        return self.at.epoch < epochs and (patience is None or self.at.epoch - best < patience)

    def batches(
        self, train: Interactions, windows: Windows, batch_size: int, at_most: int | None = None
    ) -> Iterator[Batch]:
        """What is left of the current epoch, this process's share.

        The learning rate is set before each batch, and every `save_every` steps the state is saved after one.
        """
        shard = {"rank": self.accelerator.process_index, "world": self.accelerator.num_processes}
        seed, epoch, skip = self.config.seed, self.at.epoch, self.at.batch
        for batch in islice(batches(train, windows, batch_size, seed=seed, epoch=epoch, skip=skip, **shard), at_most):
            set_learning_rate(self.optimizer, learning_rate(self.config.learning_rate, self.at.step, self.n_steps))
            targets = batch.n_targets.sum().to(self.device, torch.float32)
            self.count = self.accelerator.reduce(targets, "sum")
            yield batch
            if self.at.step % self.config.save_every == 0:
                self.save()

    def learn(self, *inputs: Any) -> None:
        """Add the gradient of the losses of a batch, or of a part of it, as a mean over all targets of the batch."""
        with self.autocast:
            losses: Losses = self.learner(*inputs)
        self.accelerator.backward(losses.total / self.count * self.accelerator.num_processes)
        for name, part in losses.parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + part.detach().float()

    def descend(self) -> dict[str, float]:
        """Step down the gradient; the named losses of the batch, summed over its targets in all processes.

        Raises InputError if anything is not finite; the weights are then as before.
        """
        sums = self.accelerator.reduce(torch.stack([*self.parts.values()]), "sum")
        weights = [weight for module in self.trained.values() for weight in module.parameters()]
        norm = self.accelerator.clip_grad_norm_(weights, self.config.clip)
        if not torch.isfinite(sums.sum() + norm):
            raise InputError(f"the loss is not finite at step {self.at.step}; train again with a lower learning rate")
        self.optimizer.step()
        self.optimizer.zero_grad()
        losses = dict(zip(self.parts, sums.tolist(), strict=True))
        self.parts = {}
        return losses

    def step(self) -> None:
        """Step down the gradient, and count the batch."""
        self.counted(self.descend())

    def counted(self, losses: dict[str, float]) -> None:
        """One more batch: its losses, summed over its targets."""
        self.at.count(losses, self.count.item(), time.monotonic() - self.started)

    def end_epoch(self, metrics: Mapping[str, float], *, eligible: bool = True) -> None:
        """Keep the weights if their metrics on validation are the best so far, log the epoch, and save the state.

        metrics: empty if there was no validation. eligible: whether these weights may be kept.
        """
        if self.main:
            if metrics and eligible:
                self.keep_best(metrics["N@10"])
            self.write_line({**self.at.line(), **metrics})
        self.at.next_epoch()
        best = torch.tensor(self.at.best_epoch * self.main, device=self.device)
        self.at.best_epoch = int(self.accelerator.reduce(best, "sum"))
        self.save()
        self.accelerator.wait_for_everyone()

    def keep_best(self, score: float) -> None:
        """Save the weights to model.safetensors if they score higher than any so far."""
        if score > self.at.best:
            self.at.best, self.at.best_epoch = score, self.at.epoch + 1
            kept = self.recommender
            save_backbone(kept.model, self.config.out / "model.safetensors", kept.ids, kept.catalogue)

    def write_line(self, line: Mapping[str, Any]) -> None:
        """Append a line to the log."""
        log_metrics(self.log, line, tensorboard=self.config.tensorboard)

    def save(self) -> None:
        """Write what `resume` goes on from."""
        if self.main:
            save_state(self.config.out / "state.safetensors", self.trained, self.optimizer, asdict(self.at))


def begin(
    config: RunConfig,
    recommender: GenerativeRecommender,
    learner: Learner,
    trained: Mapping[str, nn.Module],
    n_steps: int,
    *,
    weight_decay: float = 0.0,
) -> Run:
    """Go on with the run in the folder `out` if `resume` says so and it has a state, else begin; see `Run`.

    n_steps: of the optimizer's schedule. Seeds torch's random state anew, for each process another.
    """
    accelerator = join_processes()
    (module,) = trained.values()
    learner, optimizer = accelerator.prepare(learner, adamw(module, config.learning_rate, weight_decay))
    torch.manual_seed(config.seed + accelerator.process_index)
    ids, catalogue = recommender.ids, recommender.catalogue
    at = begin_run(config.out, ids, catalogue, trained, optimizer, resume=config.resume)
    started = time.monotonic() - at.seconds
    return Run(config, accelerator, recommender, learner, trained, optimizer, n_steps, at, started)


def split_batch(batch: Batch, n: int) -> Iterator[Batch]:
    """A batch in n parts of about as many rows; where rows are too few, a part is a row that carries no loss."""
    fields = vars(batch)
    for rows in torch.arange(len(batch.target)).tensor_split(n):
        part = Batch(**{name: column[rows if len(rows) else [0]] for name, column in fields.items()})
        yield part if len(rows) else Batch(part.history, part.target, torch.zeros_like(part.n_targets), part.event)
