"""`redraft bench pretrain`: training targets per second of the backbone's forms, beside a T5 of the same size."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from redraft.bench.columns import Column
from redraft.bench.results import RESULTS, check_result, write_result
from redraft.bench.speed.t5 import PADDING, build_t5, flat_tokens
from redraft.bench.speed.trie import random_codes
from redraft.checkpoint import build_backbone
from redraft.data.loader import Windows, batches, every_prefix, shared_prefixes
from redraft.data.shop import generate_shop
from redraft.data.split import split_of
from redraft.data.store import load_dataset
from redraft.device import configure_attention, find_device
from redraft.model.backbone import Backbone, ModelConfig
from redraft.options import check_counts
from redraft.records import Batch, Dataset, FloatArray, Interactions, SemanticIds
from redraft.terminal import next_command
from redraft.tokenizer.semantic_ids import load_semantic_ids, read_published
from redraft.train.pretrain import teacher_forced

__all__ = ["PretrainBenchConfig", "main", "t5_inputs"]

LEARNING_RATE, CLIP = 1e-4, 1.0


@dataclass(frozen=True)
class PretrainBenchConfig:
    """Train each contender on the same targets in turn and compare their speed with that of a T5."""

    data: Path | None = None
    """A data-set folder [a generated shop]."""
    ids: Path | None = None
    """Its semantic IDs: semantic_ids.safetensors or a published index.json [random codes: 4 levels of 300]."""
    users: int = 960
    """Users of a round, drawn by seed; every contender trains on all targets of all of them."""
    batch_size: int = 512
    """Targets a batch, about, for every contender."""
    history: int = 20
    """Items of the history that the encoder reads."""
    rounds: int = 5
    """Rounds over all contenders that count, after one that does not."""
    compile: bool = False
    """Also measure torch.compile; compiling takes minutes."""
    compile_minutes: float = 10.0
    """Leave the compiled contender out if its first round takes longer."""
    device: str = "cpu"
    """Where to train: cpu, cuda."""
    seed: int = 0
    """Seed of users, weights, order and dropout."""
    results: Path = RESULTS
    """The folder for pretrain_speed.json."""


def main(config: PretrainBenchConfig) -> None:
    """Time the rounds and write results/pretrain_speed.json."""
    check_counts(config)
    check_result("pretrain_speed", config.results)
    dataset, ids = _load(config.data, config.ids, config.seed)
    train = split_of(dataset).train
    users = np.sort(np.random.default_rng(config.seed).permutation(train.n_users)[: config.users])
    contenders = _contenders(
        train.take(users),
        dataset,
        ids,
        batch_size=config.batch_size,
        history=config.history,
        device=configure_attention(find_device(config.device)),
        seed=config.seed,
        compile=config.compile,
    )
    contenders, seconds = _time_rounds(contenders, config.rounds, 60 * config.compile_minutes)
    n_targets = len(every_prefix(train.take(users), config.history))
    path = write_result(
        "pretrain_speed",
        _rows(contenders, n_targets / seconds),
        columns=[
            Column("training", "name"),
            Column("targets per second", "targets_per_second", ",.0f"),
            Column("times T5", "ratio", "{ratio:.1f} ({ratio_min:.1f} to {ratio_max:.1f})"),
            Column("parameters", "parameters", ","),
            Column("batches per round", "batches"),
        ],
        protocol=f"{dataset.name}, {n_targets:,} targets of {len(users):,} users, the same for all, trained in turn "
        f"for {config.rounds} rounds after one that does not count, on {config.device} with {torch.get_num_threads()} "
        "threads; forward, backward, gradient clipping and AdamW. Speed is the median over rounds; the ratio to T5 is "
        "taken within each round: median (least to most).",
        fingerprints={"data": dataset.fingerprint, "semantic_ids": ids.fingerprint},
        seeds=[config.seed],
        folder=config.results,
    )
    print(f"wrote {path}")
    print(next_command("bench", "documents"))


@dataclass(frozen=True)
class _Contender:
    """A model, and one call a batch that gives its mean loss."""

    name: str
    model: nn.Module
    losses: Sequence[Callable[[], torch.Tensor]]
    compiled: bool = False


def _contenders(
    train: Interactions,
    dataset: Dataset,
    ids: SemanticIds,
    *,
    batch_size: int,
    history: int,
    device: torch.device,
    seed: int,
    compile: bool,
) -> list[_Contender]:
    """The T5 first, then our plain forms, then shared prefixes, with bfloat16 and compiled."""
    item = ModelConfig(history=history)
    bidirectional = replace(item, encoder="bidirectional")

    def drawn(windows: Windows) -> list[Batch]:
        return [batch.to(device) for batch in batches(train, windows, batch_size, seed=seed, epoch=0)]

    def ours(
        name: str, shape: ModelConfig, on: list[Batch], *, bfloat16: bool = False, compiled: bool = False
    ) -> _Contender:
        torch.manual_seed(seed)
        model = build_backbone(shape, ids, dataset.catalogue).to(device)
        if compiled:
            model.compile(dynamic=True)
        losses = [partial(_backbone_loss, model, batch, bfloat16) for batch in on]
        return _Contender(name, model, losses, compiled)

    one_by_one, together = drawn(every_prefix(train, history)), drawn(shared_prefixes(train, history))
    codes = torch.from_numpy(ids.codes).to(device)
    contenders = [
        _t5(item, ids, [t5_inputs(batch, codes, ids.codebook_size) for batch in one_by_one], device, seed),
        ours("one row per prefix, one position per code", replace(bidirectional, positions="code"), one_by_one),
        ours("one row per prefix, one position per item", bidirectional, one_by_one),
        ours("shared prefixes", item, together),
        ours("shared prefixes, bfloat16", item, together, bfloat16=True),
    ]
    if compile:
        contenders.append(ours("shared prefixes, compiled", item, together, compiled=True))
        contenders.append(ours("shared prefixes, bfloat16, compiled", item, together, bfloat16=True, compiled=True))
    return contenders


def _backbone_loss(model: Backbone, batch: Batch, bfloat16: bool) -> torch.Tensor:
    with torch.autocast(batch.history.device.type, torch.bfloat16, enabled=bfloat16):
        losses, has_loss = teacher_forced(model, batch, model.codes, 0.0)
    return losses.sum() / has_loss.sum()


def _t5(
    shape: ModelConfig, ids: SemanticIds, inputs: list[dict[str, torch.Tensor]], device: torch.device, seed: int
) -> _Contender:
    torch.manual_seed(seed)
    model = build_t5(shape, ids.n_levels, ids.codebook_size, use_cache=False).to(device)
    return _Contender("T5 (transformers), one row per prefix", model, [partial(_t5_loss, model, x) for x in inputs])


def _t5_loss(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    loss: torch.Tensor = model(**inputs).loss
    return loss


def t5_inputs(batch: Batch, codes: torch.Tensor, codebook_size: int) -> dict[str, torch.Tensor]:
    """TIGER's flat form of U histories: input_ids and attention_mask [U, T * L], labels [U, L], padded to the right.

    codes: int64 [N, L]. Code c of level l is token 2 + l * C + c; 0 pads.
    """
    first = (batch.history < 0).sum(dim=1, keepdim=True)
    positions = torch.arange(batch.history.shape[1], device=codes.device) + first
    real = positions < batch.history.shape[1]
    items = batch.history.gather(1, positions.clamp(max=batch.history.shape[1] - 1))
    flat = flat_tokens(torch.where(real, items, -1), codes, codebook_size).flatten(1)
    labels = flat_tokens(batch.target, codes, codebook_size)
    return {"input_ids": flat, "attention_mask": (flat != PADDING).long(), "labels": labels}


def _time_rounds(
    contenders: Sequence[_Contender], n_rounds: int, compile_limit: float
) -> tuple[list[_Contender], FloatArray]:
    """The contenders that stayed, and seconds [rounds, contenders] that each took for an epoch, in turn."""
    steps = {c.name: torch.optim.AdamW(c.model.parameters(), LEARNING_RATE, fused=True) for c in contenders}
    stayed = []
    for contender in contenders:
        limit = compile_limit if contender.compiled else float("inf")
        if _epoch(contender, steps[contender.name], limit) is not None:
            stayed.append(contender)
        else:
            print(f"{contender.name}: left out, still compiling after {compile_limit / 60:.0f} minutes")
    rounds = [[_epoch(contender, steps[contender.name]) for contender in stayed] for _ in range(n_rounds)]
    return stayed, np.array(rounds, dtype=np.float64)


def _epoch(contender: _Contender, optimizer: torch.optim.Optimizer, limit: float = float("inf")) -> float | None:
    """Train on every batch once: seconds, or None if there were batches left when the limit was over."""
    contender.model.train()
    start = time.perf_counter()
    for loss_of_batch in contender.losses:
        if time.perf_counter() - start > limit:
            return None
        loss = loss_of_batch()
        loss.backward()
        nn.utils.clip_grad_norm_(contender.model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
    if loss.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _rows(contenders: Sequence[_Contender], speed: FloatArray) -> list[dict[str, Any]]:
    """speed: targets per second [rounds, contenders], the T5 first."""
    ratios = speed / speed[:, :1]
    return [
        {
            "name": contender.name,
            "targets_per_second": float(np.median(own)),
            "targets_per_second_min": float(own.min()),
            "targets_per_second_max": float(own.max()),
            "ratio": float(np.median(ratio)),
            "ratio_min": float(ratio.min()),
            "ratio_max": float(ratio.max()),
            "parameters": sum(weight.numel() for weight in contender.model.parameters()),
            "batches": len(contender.losses),
        }
        for contender, own, ratio in zip(contenders, speed.T, ratios.T)
    ]


def _load(data: Path | None, ids: Path | None, seed: int) -> tuple[Dataset, SemanticIds]:
    dataset = generate_shop(3000, 800, seed).dataset if data is None else load_dataset(data)
    if ids is None:
        return dataset, SemanticIds(random_codes(dataset.catalogue.n_items, 4, 300, seed), 300)
    published = ids.suffix == ".json"
    return dataset, read_published(ids, dataset.catalogue.n_items) if published else load_semantic_ids(ids)
