"""What a training loop needs to go on as if nothing had happened, in one file that is replaced at once."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer

from redraft.files import atomic_file
from redraft.recommender import save_items
from redraft.records import Catalogue, InputError, SemanticIds
from redraft.stored import check_tensors, parsed, read_tensors, record
from redraft.tokenizer.semantic_ids import load_semantic_ids
from redraft.train.processes import join_processes
from redraft.train.progress import keep_epochs

__all__ = ["Standing", "begin_run", "load_state", "save_state"]

FIX = "cannot resume from it; start again in another folder"


@dataclass
class Standing:
    """Where a run stands: epochs done, batches of the current one, steps in all, sums of the current epoch.

    best, best_epoch: the best validation so far, and after how many epochs it was.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    targets: float = 0.0
    best: float = -math.inf
    best_epoch: int = 0
    seconds: float = 0.0

    def count(self, losses: dict[str, float], targets: float, seconds: float) -> None:
        """One more step: its losses summed over so many targets, and the seconds since the run began."""
        self.batch, self.step, self.seconds = self.batch + 1, self.step + 1, seconds
        self.losses = {name: self.losses.get(name, 0.0) + loss for name, loss in losses.items()}
        self.targets += targets

    def means(self) -> dict[str, float]:
        """Losses per target in this epoch so far."""
        return {name: loss / self.targets for name, loss in self.losses.items()}

    def line(self) -> dict[str, float]:
        """What the log says of the epoch that is over."""
        return {"epoch": self.epoch + 1, "step": self.step, **self.means(), "seconds": self.seconds}

    def next_epoch(self) -> None:
        """Start the next epoch."""
        self.epoch, self.batch, self.losses, self.targets = self.epoch + 1, 0, {}, 0.0


def begin_run(
    out: Path,
    ids: SemanticIds,
    catalogue: Catalogue,
    modules: Mapping[str, nn.Module],
    optimizer: Optimizer,
    *,
    resume: bool,
) -> Standing:
    """Go on from out/state.safetensors if there is one and `resume` says so, else begin with an empty log."""
    state_file = out / "state.safetensors"
    if resume and state_file.exists():
        return _resume(out, ids, modules, optimizer)
    if join_processes().is_main_process:
        state_file.unlink(missing_ok=True)
        save_items(out, ids, catalogue)
        (out / "metrics.jsonl").write_text("")
    return Standing()


def _resume(out: Path, ids: SemanticIds, modules: Mapping[str, nn.Module], optimizer: Optimizer) -> Standing:
    """Go on from out/state.safetensors; epochs that will be run again leave the log.

    Of several processes the first goes on with its own random state, the others start new ones.

    Raises InputError if the run there was made with other semantic IDs.
    """
    if load_semantic_ids(out / "semantic_ids.safetensors").fingerprint != ids.fingerprint:
        raise InputError(f"{out}: cannot resume, its run has other semantic IDs; start again in another folder")
    seed = torch.initial_seed()
    state_file = out / "state.safetensors"
    at = record(Standing, load_state(state_file, modules, optimizer), state_file, FIX, newer=("best_epoch",))
    if join_processes().process_index > 0:  # the state holds the first process's random state alone
        torch.manual_seed((seed + (at.step << 32)) % 2**63)
    keep_epochs(out / "metrics.jsonl", at.epoch)
    return at


def save_state(path: Path, modules: Mapping[str, nn.Module], optimizer: Optimizer, progress: dict[str, Any]) -> None:
    """Write weights, optimizer moments, the random state and the progress (plain values) as one safetensors file."""
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in values.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    with atomic_file(path) as partial:
        save_file(
            {k: v.detach().cpu().clone() for k, v in tensors.items()}, partial, {"progress": json.dumps(progress)}
        )


def load_state(path: Path, modules: Mapping[str, nn.Module], optimizer: Optimizer) -> dict[str, Any]:
    """Put everything back and return the progress.

    Raises InputError if the file is damaged or belongs to a model of another shape.
    """
    metadata, tensors = read_tensors(path, "state", FIX)
    progress: dict[str, Any] = parsed(path, metadata, "progress", FIX)
    moments = _below(tensors, "optimizer.")
    weights = [part for group in optimizer.param_groups for part in group["params"]]
    wanted = {f"{name}.{key}": value for name, part in modules.items() for key, value in part.state_dict().items()}
    for key in moments:
        index, _, name = key.partition(".")
        if index.isdecimal() and int(index) < len(weights):
            wanted[f"optimizer.{key}"] = torch.zeros(()) if name == "step" else weights[int(index)].detach()
    states = {name: tensor for name, tensor in tensors.items() if name != "random.cuda"}
    check_tensors(path, states, wanted | {"random.cpu": torch.get_rng_state()}, FIX)
    for name, module in modules.items():
        module.load_state_dict(_below(tensors, f"{name}."))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in moments.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    try:
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: its random state is damaged ({reason}); {FIX}") from None
    return progress


def _below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
