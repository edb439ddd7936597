"""`redraft bench decode`: users per second and latency of lists, beside T5 as Hugging Face's `generate` searches it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from redraft.bench.columns import Column
from redraft.bench.measure import in_new_process, peak_memory, seconds
from redraft.bench.results import RESULTS, check_result, write_result
from redraft.bench.speed.roofline import roofline
from redraft.bench.speed.t5 import build_t5, flat_tokens, prefix_function, t5_search, trie_mask
from redraft.bench.speed.trie import random_codes
from redraft.decode.correction import Correction
from redraft.decode.engine import Engine, Plan, rank
from redraft.device import configure_attention, find_device, use_half
from redraft.model.backbone import ModelConfig
from redraft.model.template import GRC
from redraft.options import check_counts
from redraft.records import FloatArray, InputError, SemanticIds
from redraft.tokenizer.trie import Trie

__all__ = ["DecodeConfig", "World", "main", "measure", "world"]

N_ATTRIBUTES, N_VALUES = 2, 50
T5_PREFIX, T5_MASK = "T5, prefix_allowed_tokens_fn", "T5, vectorised mask"
T5_BATCH, T5_ROUNDS = 8, 3
MOST_IN_DICTIONARIES = 1_000_000
COLUMNS = [
    Column("items", "items", ","),
    Column("beams", "beams"),
    Column("batch", "batch"),
    Column("search", "name"),
    Column("products", "precision"),
    Column("users per second", "users_per_second", ",.1f"),
    Column("P50 (ms)", "p50_ms", ",.1f"),
    Column("P99 (ms)", "p99_ms", ",.1f"),
    Column("times (a)", "times_a", "{times_a:.1f} ({times_a_min:.1f} to {times_a_max:.1f})"),
    Column("times (b)", "times_b", "{times_b:.1f} ({times_b_min:.1f} to {times_b_max:.1f})"),
    Column("latency, of TIGER's", "of_tiger", ".2f"),
    Column("peak memory (GB)", "peak_gigabytes", ".2f"),
]


@dataclass(frozen=True)
class DecodeConfig:
    """Search random catalogues with random weights, all contenders in turn; the defaults take some ten minutes."""

    items: tuple[int, ...] = (12_000, 1_000_000, 25_000_000)
    """Catalogue sizes; the first is measured with all batches and beams, the others with the most beams and batch 8."""
    batches: tuple[int, ...] = (1, 8, 64)
    """Users a call."""
    beams: tuple[int, ...] = (20, 50, 200)
    """Beam budgets."""
    budgets: tuple[int, ...] = (25, 50, 200)
    """Drafts that may be corrected, where there are as many."""
    hypotheses: int = 1
    """Label vectors that are followed for each of them."""
    rounds: int = 5
    """Rounds over all contenders."""
    calls: int = 20
    """Calls a round at batch 1; at larger batches as many users, but at least one call."""
    t5: bool = True
    """Measure the two forms of T5, too."""
    codebook_size: int = 300
    """Codes per level, of 4."""
    history: int = 20
    """Items of a history."""
    device: str = "cpu"
    """Where to compute: cpu, cuda."""
    seed: int = 0
    """Seed of codes, weights and histories."""
    results: Path = RESULTS
    """The folder for decode.json, decode_beams.json and decode_roofline.json."""


@dataclass(frozen=True)
class World:
    """A random catalogue and a random model over it."""

    ids: SemanticIds
    trie: Trie
    model: GRC


def main(config: DecodeConfig) -> None:
    """Measure every catalogue in a process of its own, then the roofline; write the results."""
    check_counts(config)
    if max(config.beams) > min(config.items):
        raise InputError(f"beams = {max(config.beams)} exceeds a catalogue of {min(config.items)} items; ask for fewer")
    for name in ("decode", "decode_beams", "roofline"):
        check_result(name, config.results)
    device = configure_attention(find_device(config.device))
    shape = {"codebook_size": config.codebook_size, "history": config.history, "seed": config.seed}
    rows: list[dict[str, Any]] = []
    for number, n_items in enumerate(config.items):
        first = number == 0
        rows += in_new_process(
            measure,
            n_items,
            batches=config.batches if first else (T5_BATCH,),
            beams=config.beams if first else (max(config.beams),),
            budgets=config.budgets if first else (sorted(config.budgets)[len(config.budgets) // 2],),
            hypotheses=config.hypotheses,
            rounds=config.rounds,
            calls=config.calls,
            t5=config.t5,
            device=config.device,
            **shape,
        )
        print(f"measured {n_items:,} items")
    widest = max(config.beams)
    protocol = (
        f"Random codes of 4 levels of {config.codebook_size}, histories of {config.history} random items, all left out "
        f"of the lists but T5's; width 128, feed-forward 640, random weights, {N_ATTRIBUTES} attributes. GRC follows "
        f"{config.hypotheses} label vectors of each draft. (a) and (b) are Hugging Face's T5 of the same layers and "
        f"widths in float32, {T5_BATCH} users at a time: {T5_PREFIX.split()[1]} over a trie of dictionaries (up to "
        f"{MOST_IN_DICTIONARIES:,} items), and with a logits processor over our trie. All in turn for {config.rounds} "
        f"rounds (T5 {T5_ROUNDS}) after one call that does not count, on {config.device} with "
        f"{torch.get_num_threads()} threads. Times are medians over calls; ratios are of medians within each round: "
        "median (least to most). Peak memory is that of the process, with the catalogue, up to the row; it met them in "
        "this order."
    )
    for name, at_widest in (("decode", True), ("decode_beams", False)):
        chosen = [row for row in rows if (row["beams"] == widest) == at_widest]
        path = write_result(
            name, chosen, columns=COLUMNS, protocol=protocol, seeds=[config.seed], folder=config.results
        )
        print(f"wrote {path}")
    small = world(config.items[0], device, **shape)
    path = roofline(small.model, small.trie, n_beams=widest, history=config.history, folder=config.results)
    print(f"wrote {path}")


def world(n_items: int, device: torch.device, *, codebook_size: int, history: int, seed: int) -> World:
    """Random unique codes, attributes and weights; none of the weights is 0, so the model has all kinds of opinions."""
    ids = SemanticIds(random_codes(n_items, 4, codebook_size, seed), codebook_size)
    torch.manual_seed(seed)
    attributes = torch.randint(N_VALUES, (n_items, N_ATTRIBUTES))
    model = GRC(ModelConfig(history=history), torch.from_numpy(ids.codes), codebook_size, attributes).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.any():
                weight.normal_(0.0, model.config.width**-0.5)
    return World(ids, Trie.build(ids).to(device), model.to(device))


def measure(
    n_items: int,
    *,
    batches: Sequence[int],
    beams: Sequence[int],
    budgets: Sequence[int],
    hypotheses: int,
    rounds: int,
    calls: int,
    t5: bool,
    codebook_size: int,
    history: int,
    device: str,
    seed: int,
) -> list[dict[str, Any]]:
    """One row for each contender, number of beams and batch."""
    on = configure_attention(find_device(device))
    made = world(n_items, on, codebook_size=codebook_size, history=history, seed=seed)
    drawn = torch.randint(n_items, (max(batches), history), generator=torch.Generator().manual_seed(seed)).to(on)
    others = _t5_contenders(made, on, seed) if t5 else {}
    rows = []
    for n_beams in sorted(beams):
        ours = _our_contenders(made, on, n_beams, [b for b in budgets if b <= n_beams], hypotheses)
        contenders = ours | {(name, "float32"): partial(run, n_beams=n_beams) for name, run in others.items()}
        for batch in sorted(batches):
            peaks = _warm_up(contenders, drawn[:batch])
            times = _time(contenders, drawn[:batch], rounds, max(1, calls // batch), on)
            about = {"items": n_items, "beams": n_beams, "batch": batch}
            rows += [about | row for row in _rows(times, batch, peaks)]
    return rows


Contender = Callable[[torch.Tensor], object]
Times = dict[tuple[str, str], list[FloatArray]]


def _our_contenders(
    made: World, device: torch.device, n_beams: int, budgets: Sequence[int], hypotheses: int
) -> dict[tuple[str, str], Contender]:
    """TIGER in both precisions where the device has bfloat16, GRC with each budget in the faster one."""
    half = use_half("auto", device)
    plans = {("TIGER", "float32"): Plan(n_beams, n_beams, False, None)}
    if half:
        plans[("TIGER", "bfloat16")] = Plan(n_beams, n_beams, True, None)
    for budget in budgets:
        name = (f"GRC, budget {budget}", "bfloat16" if half else "float32")
        plans[name] = Plan(n_beams, n_beams, half, Correction(budget, hypotheses=hypotheses).plan(n_beams))
    return {
        name: partial(_search, Engine(partial(rank, made.model, made.trie, plan), device))
        for name, plan in plans.items()
    }


def _search(engine: Engine, history: torch.Tensor) -> None:
    for part in history.split(engine.buckets[-1]):
        engine(part, part)


def _t5_contenders(made: World, device: torch.device, seed: int) -> dict[str, Callable[..., object]]:
    torch.manual_seed(seed)
    model = build_t5(made.model.config, made.ids.n_levels, made.ids.codebook_size, use_cache=True).eval().to(device)

    def search(history: torch.Tensor, n_beams: int, **constraint: Any) -> None:
        for part in history.split(T5_BATCH):
            tokens = flat_tokens(part, made.model.codes, made.ids.codebook_size).flatten(1)
            t5_search(model, tokens, made.ids.n_levels, n_beams, **constraint)

    contenders: dict[str, Callable[..., object]] = {T5_MASK: partial(search, processors=[trie_mask(made.trie)])}
    if made.ids.n_items <= MOST_IN_DICTIONARIES:
        contenders[T5_PREFIX] = partial(search, prefix=prefix_function(made.ids))
    return contenders


def _warm_up(contenders: dict[tuple[str, str], Contender], history: torch.Tensor) -> dict[tuple[str, str], float]:
    """One call each; peak memory after it in GB."""
    peaks = {}
    for name, run in contenders.items():
        if history.is_cuda:
            torch.cuda.reset_peak_memory_stats()
        run(history)
        peaks[name] = (torch.cuda.max_memory_allocated() if history.is_cuda else peak_memory()) / 1e9
    return peaks


def _time(
    contenders: dict[tuple[str, str], Contender], history: torch.Tensor, rounds: int, calls: int, device: torch.device
) -> Times:
    """Seconds [calls] of each contender for each round, in turn; a T5 is called once a round, and not in all."""

    def call(run: Contender) -> None:
        run(history)
        if device.type == "cuda":
            torch.cuda.synchronize()

    times: Times = {name: [] for name in contenders}
    for number in range(rounds):
        for name, run in contenders.items():
            is_t5 = name[0] in (T5_PREFIX, T5_MASK)
            if not is_t5 or number < T5_ROUNDS:
                times[name].append(np.array([seconds(partial(call, run)) for _ in range(1 if is_t5 else calls)]))
    return times


def _rows(times: Times, batch: int, peaks: dict[tuple[str, str], float]) -> list[dict[str, Any]]:
    rows = []
    for (name, precision), rounds in times.items():
        every = np.concatenate(rounds)
        row: dict[str, Any] = {
            "name": name,
            "precision": precision,
            "calls": len(every),
            "users_per_second": batch / float(np.median(every)),
            "p50_ms": 1e3 * float(np.median(every)),
            "p99_ms": 1e3 * float(np.quantile(every, 0.99)),
            "peak_gigabytes": peaks[(name, precision)],
        }
        for key, other in (("times_a", T5_PREFIX), ("times_b", T5_MASK)):
            if (other, "float32") in times and other != name:
                ratios = _ratios(times[(other, "float32")], rounds)
                row |= {key: np.median(ratios), f"{key}_min": ratios.min(), f"{key}_max": ratios.max()}
        if name.startswith("GRC"):
            row["of_tiger"] = float(np.median(_ratios(rounds, times[("TIGER", precision)])))
        rows.append(row)
    return rows


def _ratios(above: Sequence[FloatArray], below: Sequence[FloatArray]) -> FloatArray:
    """Of the median times within each round that both took part in."""
    return np.array([float(np.median(a) / np.median(b)) for a, b in zip(above, below)])
