"""What a training loop needs to go on as if nothing had happened, in one file that is replaced at once."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer

from redraft.files import atomic_file
from redraft.records import InputError

__all__ = ["load_state", "save_state"]


def save_state(path: Path, modules: dict[str, nn.Module], optimizer: Optimizer, progress: dict[str, Any]) -> None:
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


def load_state(path: Path, modules: dict[str, nn.Module], optimizer: Optimizer) -> dict[str, Any]:
    """Put everything back in place and return the progress.

    Raises InputError if the file is damaged or belongs to a model of another shape.
    """
    try:
        with safe_open(path, "pt") as file:
            progress: dict[str, Any] = json.loads(file.metadata()["progress"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
        for name, module in modules.items():
            module.load_state_dict(_below(tensors, f"{name}."))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot resume from it ({reason}); start again in another folder") from None
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in _below(tensors, "optimizer.").items():
        index, name = key.split(".")
        moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    return progress


def _below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
