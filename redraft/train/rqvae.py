"""Train the RQ-VAE on the vectors of a catalogue."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from redraft.files import atomic_file
from redraft.optim import cosine, set_learning_rate
from redraft.records import FloatArray, InputError
from redraft.stored import check_tensors, read_tensors, record
from redraft.tokenizer.collisions import sharing
from redraft.tokenizer.kmeans import nearest_codes
from redraft.tokenizer.report import relative_errors
from redraft.tokenizer.rqvae import RQVAE
from redraft.train.processes import join_processes
from redraft.train.progress import keep_epochs, log_metrics, progress_bar
from redraft.train.state import load_state, save_state

__all__ = ["RqvaeConfig", "save_weights", "train_rqvae"]

# K-means, revival and evaluation look at this many random items; at all of a smaller catalogue.
MIN_SAMPLE = 65_536
ROWS_PER_CODE = 64
AGAIN = "start again without --resume"


@dataclass(frozen=True)
class RqvaeConfig:
    """How the RQ-VAE is trained."""

    epochs: int = 150
    """Passes over the catalogue."""
    batch_size: int = 256
    """Items per step, over all processes."""
    learning_rate: float = 2e-3
    """Peak of AdamW; a cosine takes it to zero."""
    weight_decay: float = 1e-4
    """AdamW's weight decay."""
    hidden: tuple[int, ...] = (512, 256)
    """Widths between the vector and the latent vector; the decoder mirrors them."""
    latent: int = 16
    """Width of the latent vector and of the codes."""
    commitment: float = 0.25
    """Weight of the commitment loss (beta)."""
    sinkhorn_epsilon: float = 0.05
    """How soft the even assignment of the last level is, relative to the mean squared distance."""
    evaluate_every: int = 10
    """Epochs between looks at the catalogue: dead codes are revived, and the best weights are kept."""


@dataclass(frozen=True)
class RqvaeStanding:
    """Where a training stands: epochs done, least error, the state of its generator, and a hash of its vectors.

    settings: what it was begun with; states of before lack it.
    """

    epoch: int
    best: float
    generator: str
    vectors: str
    settings: dict[str, Any] = field(default_factory=dict)


def train_rqvae(
    vectors: FloatArray,
    folder: Path,
    config: RqvaeConfig,
    *,
    levels: int,
    codebook_size: int,
    seed: int,
    resume: bool = False,
) -> RQVAE:
    """Train on vectors [N, width]; returns the weights of least reconstruction error, on the CPU.

    Writes metrics.jsonl, model.safetensors with these weights, and after every look at the catalogue state.safetensors,
    from which `resume` goes on, into `folder`. On one CPU the same seed gives the same weights, resumed or not.
    Raises InputError if N is below codebook_size, if training diverges, and if what is resumed had other vectors or
    settings.
    """
    sizes = {"levels": levels, "codebook_size": codebook_size, "seed": seed}
    settings: dict[str, Any] = json.loads(json.dumps(sizes | asdict(config)))
    accelerator = join_processes()
    data = torch.from_numpy(vectors)
    model = RQVAE(data, hidden=config.hidden, latent=config.latent, sinkhorn_epsilon=config.sinkhorn_epsilon, **sizes)
    generator = torch.Generator().manual_seed(seed)
    sample = data[torch.randperm(len(data), generator=generator)[: max(MIN_SAMPLE, ROWS_PER_CODE * codebook_size)]]
    log, state_file, best_weights = (
        folder / name for name in ("metrics.jsonl", "state.safetensors", "model.safetensors")
    )
    resume = resume and state_file.exists()
    if not resume:
        model.initialize_codebooks(sample, seed=seed)
        folder.mkdir(parents=True, exist_ok=True)
        state_file.unlink(missing_ok=True)
        log.write_text("")
    optimizer: Optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    losses, optimizer = accelerator.prepare(model, optimizer)
    data, sample = data.to(accelerator.device), sample.to(accelerator.device)
    about = {"vectors": hashlib.sha256(vectors.tobytes()).hexdigest(), "settings": settings}
    done, best = _resume(folder, model, optimizer, generator, about) if resume else (0, math.inf)
    with progress_bar("RQ-VAE", config.epochs, completed=done, shown=accelerator.is_main_process) as advance:
        for epoch in range(done + 1, config.epochs + 1):
            metrics = {"epoch": epoch} | _train_epoch(losses, optimizer, accelerator, data, config, epoch, generator)
            looked = epoch % config.evaluate_every == 0 or epoch == config.epochs
            if looked:
                metrics |= _evaluate(model, sample)
                better = metrics["relative_error"] < best
                best = min(best, metrics["relative_error"])
                if accelerator.is_main_process and better:
                    save_weights(model, best_weights)
                revives = epoch < config.epochs
                metrics["revived"] = model.revive_dead_codes(sample, generator=generator) if revives else [0] * levels
            if accelerator.is_main_process:
                log_metrics(log, metrics)
            if accelerator.is_main_process and looked:
                at = {"epoch": epoch, "best": best, "generator": generator.get_state().numpy().tobytes().hex()}
                save_state(state_file, {"model": model}, optimizer, at | about)
            advance(f"error {best:.4f}" if best < math.inf else "")
    accelerator.wait_for_everyone()
    _, tensors = read_tensors(best_weights, "file of weights", AGAIN)
    check_tensors(best_weights, tensors, model.state_dict(), AGAIN)
    model.load_state_dict(tensors)
    return model.cpu().eval()


def _train_epoch(
    losses: nn.Module,
    optimizer: Optimizer,
    accelerator: Accelerator,
    data: Tensor,
    config: RqvaeConfig,
    epoch: int,
    generator: torch.Generator,
) -> dict[str, Any]:
    """One pass over the catalogue, in a random order cut into equal parts; its losses as means over the items.

    Raises InputError if they are not finite.
    """
    n_batches = max(1, round(len(data) / config.batch_size))
    total = torch.zeros(3, device=accelerator.device)
    parts = torch.randperm(len(data), generator=generator).tensor_split(n_batches)
    for step, rows in enumerate(parts, start=(epoch - 1) * n_batches):
        set_learning_rate(optimizer, config.learning_rate * cosine(step, config.epochs * n_batches, least=0))
        mine = rows[accelerator.process_index :: accelerator.num_processes]
        loss = losses(data[mine.to(accelerator.device)])
        accelerator.backward(loss.reconstruction + loss.codebook + config.commitment * loss.commitment)
        optimizer.step()
        optimizer.zero_grad()
        total += torch.stack([term.detach() for term in loss]) * len(rows) / len(data)
    if not torch.isfinite(total).all():
        raise InputError(f"RQ-VAE: the loss is not finite in epoch {epoch}; lower --rqvae.learning-rate")
    return dict(zip(("reconstruction", "codebook", "commitment"), total.tolist()))


def _resume(
    folder: Path, model: RQVAE, optimizer: Optimizer, generator: torch.Generator, about: dict[str, Any]
) -> tuple[int, float]:
    """Put everything back; returns the epochs that are done and the least error so far."""
    path = folder / "state.safetensors"
    at = record(RqvaeStanding, load_state(path, {"model": model}, optimizer), path, AGAIN, newer=("settings",))
    if at.vectors != about["vectors"]:
        raise InputError(f"{folder}: cannot resume, its run has other vectors; {AGAIN}")
    for name, value in at.settings.items():
        if value != about["settings"].get(name):
            raise InputError(
                f"{folder}: cannot resume with {name} = {about['settings'].get(name)}, its run has {value}; "
                f"give that again, or {AGAIN}"
            )
    try:
        generator.set_state(torch.frombuffer(bytearray.fromhex(at.generator), dtype=torch.uint8))
    except (ValueError, RuntimeError):
        raise InputError(f"{path}: 'generator' is not the state of a random generator; {AGAIN}") from None
    keep_epochs(folder / "metrics.jsonl", at.epoch)
    return at.epoch, at.best


@torch.no_grad()
def _evaluate(model: RQVAE, data: Tensor) -> dict[str, Any]:
    """Error relative to the variance, codes in use a level, and items that share all codes."""
    latents, codebooks = model.encode(data).cpu().numpy(), model.codebooks.cpu().numpy()
    codes = nearest_codes(latents, codebooks)

    def decode(sums: FloatArray) -> FloatArray:
        return model.decode(torch.from_numpy(sums).to(data.device)).cpu().numpy()

    return {
        "relative_error": float(relative_errors(data.cpu().numpy(), codes, codebooks, decode)[-1]),
        "used": [len(np.unique(level)) for level in codes.T],
        "collisions": int(sharing(codes, model.codebooks.shape[1])[-1]),
    }


def save_weights(model: RQVAE, path: Path) -> None:
    """Write the weights, whole or not at all."""
    with atomic_file(path) as partial:
        save_file(model.state_dict(), partial)
