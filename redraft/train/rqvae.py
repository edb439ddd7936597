"""Train the RQ-VAE on the vectors of a catalogue."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from redraft.files import atomic_file
from redraft.records import FloatArray, InputError
from redraft.tokenizer.collisions import sharing
from redraft.tokenizer.kmeans import nearest_codes
from redraft.tokenizer.report import relative_errors
from redraft.tokenizer.rqvae import RQVAE
from redraft.train.processes import join_processes
from redraft.train.progress import log_metrics, progress_bar

__all__ = ["RqvaeConfig", "train_rqvae"]

# K-means, revival and evaluation look at this many random items; a smaller catalogue is seen whole.
MIN_SAMPLE = 65_536
ROWS_A_CODE = 64


@dataclass(frozen=True)
class RqvaeConfig:
    """How the RQ-VAE is trained."""

    epochs: int = 150
    """Passes over the catalogue."""
    batch_size: int = 256
    """Items a step, over all processes."""
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


def train_rqvae(
    vectors: FloatArray,
    folder: Path,
    *,
    levels: int,
    codebook_size: int,
    seed: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    hidden: Sequence[int],
    latent: int,
    commitment: float,
    sinkhorn_epsilon: float,
    evaluate_every: int,
) -> RQVAE:
    """Train on vectors [N, width]; returns the weights of least reconstruction error, on the CPU.

    Writes metrics.jsonl, best.safetensors and last.safetensors into `folder`. On one CPU the same seed gives the same
    weights. Raises InputError if N is below codebook_size, or if training diverges.
    """
    accelerator = join_processes()
    data = torch.from_numpy(vectors)
    model = RQVAE(
        data,
        hidden=hidden,
        latent=latent,
        levels=levels,
        codebook_size=codebook_size,
        sinkhorn_epsilon=sinkhorn_epsilon,
        seed=seed,
    )
    generator = torch.Generator().manual_seed(seed)
    sample = data[torch.randperm(len(data), generator=generator)[: max(MIN_SAMPLE, ROWS_A_CODE * codebook_size)]]
    model.initialize_codebooks(sample, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    steps = epochs * max(1, round(len(data) / batch_size))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    losses, optimizer = accelerator.prepare(model, optimizer)
    data, sample = data.to(accelerator.device), sample.to(accelerator.device)
    best = math.inf
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "metrics.jsonl"
    log.unlink(missing_ok=True)
    with progress_bar("RQ-VAE", epochs, shown=accelerator.is_main_process) as advance:
        for epoch in range(1, epochs + 1):
            total = torch.zeros(3, device=accelerator.device)
            for rows in _batches(len(data), batch_size, generator):
                mine = rows[accelerator.process_index :: accelerator.num_processes]
                loss = losses(data[mine.to(accelerator.device)])
                accelerator.backward(loss.reconstruction + loss.codebook + commitment * loss.commitment)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                total += torch.stack([term.detach() for term in loss]) * len(rows) / len(data)
            metrics = dict(zip(("epoch", "reconstruction", "codebook", "commitment"), [epoch, *total.tolist()]))
            if epoch % evaluate_every == 0 or epoch == epochs:
                metrics |= _evaluate(model, sample)
                better = metrics["relative_error"] < best
                best = min(best, metrics["relative_error"])
                if accelerator.is_main_process:
                    _save(model, folder / "last.safetensors")
                    if better:
                        _save(model, folder / "best.safetensors")
                metrics["revived"] = [0] * levels
                if epoch < epochs:
                    metrics["revived"] = model.revive_dead_codes(sample, generator=generator)
            if accelerator.is_main_process:
                log_metrics(log, metrics)
            advance(f"error {best:.4f}" if best < math.inf else "")
    if best == math.inf:
        raise InputError(f"RQ-VAE: the error is not a number after {epochs} epochs; lower learning_rate")
    accelerator.wait_for_everyone()
    model.load_state_dict(load_file(folder / "best.safetensors"))
    return model.cpu().eval()


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


def _batches(n_items: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Item numbers of each step of one epoch: a random order cut into parts of about batch_size."""
    yield from torch.randperm(n_items, generator=generator).tensor_split(max(1, round(n_items / batch_size)))


def _save(model: RQVAE, path: Path) -> None:
    with atomic_file(path) as partial:
        save_file(model.state_dict(), partial)
