"""What a search must compute and move, the time that this machine's measured peaks allow, and where ours goes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from redraft.bench.columns import Column
from redraft.bench.measure import seconds
from redraft.bench.results import write_result
from redraft.decode.engine import BUCKETS, CUDA_BUCKETS, Engine, Plan, rank
from redraft.device import use_half
from redraft.model.template import GRC
from redraft.tokenizer.trie import Trie

__all__ = ["least_bytes", "roofline"]

REPEATS = 7
GROUPS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "linear"),
    "attention of the encoder": ("scaled_dot_product",),
    "activation": ("gelu",),
    "normalisation": ("layer_norm",),
    "softmax": ("softmax",),
    "casts and copies": ("copy_", "_to_copy", "clone", "cat", "stack", "constant_pad_nd"),
    "gathers": ("index", "gather", "embedding", "scatter", "take"),
    "selection": ("topk", "sort", "searchsorted", "amax"),
}


def roofline(model: GRC, trie: Trie, *, n_beams: int, history: int, folder: Path) -> Path:
    """Measure peaks and a search without correction at the largest bucket; write decode_roofline.json."""
    device = model.codes.device
    users = (CUDA_BUCKETS if device.type == "cuda" else BUCKETS)[-1]
    read = torch.randint(trie.n_items, (users, history), generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        rank(model, trie, Plan(n_beams, n_beams, False, None), read, read)
    operations = counter.get_total_flops() / users
    rows = []
    for half in (False, True) if use_half("auto", device) else (False,):
        program = partial(rank, model, trie, Plan(n_beams, n_beams, half, None))
        dtype = torch.bfloat16 if half else torch.float32
        n_bytes = least_bytes(model, n_beams, users, dtype.itemsize)
        multiply, move = _peak_products(users * n_beams, model, dtype), _peak_copy(device)
        took = _median(partial(Engine(program, device), read, read), device) / users
        allowed = max(operations / multiply, n_bytes / move)
        rows.append(
            {
                "products": str(dtype).removeprefix("torch."),
                "gigaoperations": operations / 1e9,
                "megabytes": n_bytes / 1e6,
                "peak_gigaoperations": multiply / 1e9,
                "peak_gigabytes": move / 1e9,
                "allowed_ms": 1e3 * allowed,
                "measured_ms": 1e3 * took,
                "distance": took / allowed,
                "profile": _profile(partial(program, read, read)),
            }
        )
    return write_result(
        "decode_roofline",
        rows,
        columns=[
            Column("products", "products"),
            Column("operations per user (10⁹)", "gigaoperations", ".2f"),
            Column("bytes per user (10⁶)", "megabytes", ".2f"),
            Column("peak (10⁹/s)", "peak_gigaoperations", ",.0f"),
            Column("peak (GB/s)", "peak_gigabytes", ".1f"),
            Column("allowed (ms)", "allowed_ms", ".2f"),
            Column("measured (ms)", "measured_ms", ".2f"),
            Column("times", "distance", ".1f"),
        ],
        protocol=f"TIGER, {n_beams} beams, {users} users per batch, on {device.type} with {torch.get_num_threads()} "
        "threads. Operations are those of all matrix products that run, two a multiply-add; bytes are the weights once "
        "a batch, the keys and values of every position written once and read by each later step, the memory of the "
        "history read by each step, and the logits written and read. Peaks are measured: the best product of the "
        f"search's own shapes, and a copy of 256 MB. Times are medians of {REPEATS}. The profile is the share of each "
        "kind of operation in the time of one batch.",
        folder=folder,
    )


def least_bytes(model: GRC, n_beams: int, n_users: int, item_size: int) -> float:
    """Bytes a user that a search cannot do without, with weights and products of item_size bytes and float32 scores."""
    config, levels = model.config, model.n_levels
    weights = sum(weight.numel() for weight in model.parameters()) * item_size / n_users
    position = 2 * config.width * config.decoder_layers * item_size
    written = n_beams * (levels - 1) * position
    read = n_beams * position * levels * (levels - 1) / 2
    memory = config.history * position * levels
    logits = 2 * n_beams * levels * model.codebook_size * 4
    return weights + written + read + memory + logits


def _peak_products(n_rows: int, model: GRC, dtype: torch.dtype) -> float:
    """Operations a second of the best of the search's matrix products."""
    width, hidden, device = model.config.width, model.config.feed_forward, model.codes.device
    best = 0.0
    for inner, outer in ((width, width), (width, hidden), (hidden, width)):
        x, w = torch.randn(n_rows, inner, device=device).to(dtype), torch.randn(outer, inner, device=device).to(dtype)
        with torch.inference_mode():
            took = _median(partial(torch.nn.functional.linear, x, w), device)
        best = max(best, 2 * n_rows * inner * outer / took)
    return best


def _peak_copy(device: torch.device) -> float:
    """Bytes a second that a copy reads and writes."""
    x = torch.zeros(1 << 26, device=device)
    y = torch.empty_like(x)
    return 2 * x.nbytes / _median(partial(y.copy_, x), device)


def _median(work: Callable[[], object], device: torch.device) -> float:
    def whole() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()

    whole()
    return float(np.median([seconds(whole) for _ in range(REPEATS)]))


def _profile(work: Callable[[], object]) -> dict[str, float]:
    """Share of each kind of operation in the time of a call, by the operations' own time."""
    with torch.inference_mode():
        work()
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            work()
    shares: dict[str, float] = dict.fromkeys([*GROUPS, "other"], 0.0)
    events: list[Any] = [e for e in seen.key_averages() if e.key.startswith("aten::")]
    total = sum(e.self_cpu_time_total for e in events)
    for event in events:
        name = event.key.removeprefix("aten::")
        group = next((g for g, parts in GROUPS.items() if any(_belongs(name, part) for part in parts)), "other")
        shares[group] += event.self_cpu_time_total / total
    return shares


def _belongs(name: str, part: str) -> bool:
    return name == part or (len(part) > 4 and part in name)
