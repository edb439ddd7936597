"""`redraft bench trie`: what the trie of a large catalogue costs to build, to keep and to ask."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from redraft.bench.columns import Column
from redraft.bench.measure import in_new_process, peak_memory, seconds
from redraft.bench.results import RESULTS, check_result, write_result
from redraft.options import check_counts
from redraft.records import InputError, IntArray, SemanticIds
from redraft.terminal import next_command
from redraft.tokenizer.trie import Trie

__all__ = ["TrieConfig", "main", "measure_tries", "random_codes"]


@dataclass(frozen=True)
class TrieConfig:
    """Build tries over random semantic IDs and measure them."""

    items: int = 25_000_000
    """Items of the large catalogue."""
    small_items: int = 12_000
    """Items of the catalogue it is compared with."""
    levels: int = 4
    """Codes per item."""
    codebook_sizes: tuple[int, ...] = (300, 8192)
    """Codes per level; a trie of each size is built in a process of its own."""
    beams: int = 200
    """Nodes that are asked for at once."""
    repeats: int = 300
    """How often; the median counts."""
    seed: int = 0
    """Seed of the codes and of the nodes."""
    results: Path = RESULTS
    """The folder for trie.json."""


def main(config: TrieConfig) -> None:
    """Measure each codebook size and write results/trie.json."""
    check_counts(config)
    check_result("trie", config.results)
    rows = []
    for codebook_size in config.codebook_sizes:
        rows += in_new_process(
            measure_tries,
            (config.small_items, config.items),
            n_levels=config.levels,
            codebook_size=codebook_size,
            n_beams=config.beams,
            repeats=config.repeats,
            seed=config.seed,
        )
    depths = range(config.levels)
    path = write_result(
        "trie",
        rows,
        columns=[
            Column("items", "items", ","),
            Column("codes per level", "codebook_size", ","),
            Column("check ids (s)", "check_seconds", ".1f"),
            Column("build (s)", "build_seconds", ".1f"),
            Column("peak memory (GB)", "peak_gigabytes", ".2f"),
            Column("bytes per item", "bytes_per_item", ".1f"),
            Column(
                f"mask at depth 0 to {config.levels - 1} (µs)",
                "mask_us_0",
                " / ".join(f"{{mask_us_{d}:.0f}}" for d in depths),
            ),
            Column(
                f"choices at depth 0 to {config.levels - 1} (µs)",
                "choices_us_0",
                " / ".join(f"{{choices_us_{d}:.0f}}" for d in depths),
            ),
            Column("mask, times the smaller catalogue", "mask_ratio", ".2f"),
        ],
        protocol=f"Random unique codes of {config.levels} levels. Checking is what SemanticIds does to prove the codes "
        "unique, building is Trie.build alone; peak memory is that of the whole process, generated codes included; "
        "bytes per item are those of the finished tables. Mask and choices are asked for "
        f"{config.beams} random nodes at once: medians of {config.repeats} calls that alternate between the two "
        "catalogues, the ratio that of the medians summed over depths.",
        seeds=[config.seed],
        folder=config.results,
    )
    print(f"wrote {path}")
    print(next_command("bench", "documents"))


def measure_tries(
    sizes: Sequence[int], *, n_levels: int, codebook_size: int, n_beams: int, repeats: int, seed: int
) -> list[dict[str, Any]]:
    """One row for each catalogue size, smallest first; times alternate between the catalogues.

    Peak memory is read after each build, so it belongs to the largest trie so far.
    """
    rows: list[dict[str, Any]] = []
    tries = []
    for n_items in sorted(sizes):
        codes = random_codes(n_items, n_levels, codebook_size, seed)
        start = time.perf_counter()
        ids = SemanticIds(codes, codebook_size)
        checked = time.perf_counter()
        tries.append(Trie.build(ids))
        built = time.perf_counter()
        rows.append(
            {
                "items": n_items,
                "codebook_size": codebook_size,
                "levels": n_levels,
                "check_seconds": checked - start,
                "build_seconds": built - checked,
                "peak_gigabytes": peak_memory() / 1e9,
                "bytes_per_item": tries[-1].n_bytes / n_items,
                "nodes": [len(tokens) for tokens in tries[-1].tokens],
            }
        )
    for depth in range(n_levels):
        for row, times in zip(rows, _ask(tries, depth, n_beams, repeats, seed)):
            row |= times
    totals = [sum(row[f"mask_us_{depth}"] for depth in range(n_levels)) for row in rows]
    return [row | {"mask_ratio": total / totals[0]} for row, total in zip(rows, totals)]


def _ask(tries: Sequence[Trie], depth: int, n_beams: int, repeats: int, seed: int) -> list[dict[str, float]]:
    """Median time of a mask and of the choices in each trie, in microseconds, for new random nodes each time."""
    generator = torch.Generator().manual_seed(seed)
    times = np.empty((repeats, len(tries), 2))
    for repeat in range(repeats):
        for number, trie in enumerate(tries):
            n_nodes = len(trie.child_start[depth]) - 1
            for kind, ask in enumerate((trie.mask, trie.choices)):
                nodes = torch.randint(n_nodes, (n_beams,), generator=generator)
                times[repeat, number, kind] = seconds(partial(ask, nodes, depth))
    medians = np.median(times, axis=0) * 1e6
    return [{f"mask_us_{depth}": float(mask), f"choices_us_{depth}": float(choices)} for mask, choices in medians]


def random_codes(n_items: int, n_levels: int, codebook_size: int, seed: int) -> IntArray:
    """Distinct code sequences int32 [N, L], drawn evenly from all, in random order.

    Raises InputError if there are fewer code sequences than items.
    """
    n_sequences = codebook_size**n_levels
    if n_items > n_sequences:
        raise InputError(
            f"items is {n_items}, but {n_levels} levels of {codebook_size} codes name only {n_sequences}; "
            "give fewer items or more codes"
        )
    rng = np.random.default_rng(seed)
    keys = np.empty(0, dtype=np.int64)
    while len(keys) < n_items:
        keys = np.sort(np.concatenate([keys, rng.integers(n_sequences, size=n_items - len(keys))]))
        keys = keys[np.diff(keys, prepend=-1) > 0]
    rng.shuffle(keys)
    codes = np.empty((n_items, n_levels), dtype=np.int32)
    for level in reversed(range(n_levels)):
        codes[:, level] = keys % codebook_size
        keys //= codebook_size
    return codes
