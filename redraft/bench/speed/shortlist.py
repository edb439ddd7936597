"""`redraft bench shortlist`: what the short list of a generator's search changes in its lists, and what it costs."""

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from redraft.bench.columns import Column
from redraft.bench.results import RESULTS, check_result, seeds_of, write_result
from redraft.bench.speed.precision import overlap
from redraft.checkpoint import build_backbone, check_same_items
from redraft.data.split import sample_users, split_of
from redraft.data.store import load_dataset
from redraft.model.backbone import ModelConfig
from redraft.model.generator import Generator
from redraft.options import check_counts
from redraft.recommender import GenerativeRecommender, load
from redraft.records import InputError, Interactions
from redraft.train.settings import fitted

__all__ = ["ShortlistConfig", "main"]

COLUMNS = [
    Column("search", "search"),
    Column("vectors per node", "vectors"),
    Column("overlap of the top 10", "overlap_10", ".4f"),
    Column("of the whole list", "overlap_all", ".4f"),
    Column("ms a user, one by one", "ms_1", ".1f"),
    Column("in batches of 8", "ms_8", ".1f"),
    Column("TIGER's time, one by one", "ratio_1", ".2f"),
    Column("TIGER's time, in batches of 8", "ratio_8", ".2f"),
]


@dataclass(frozen=True)
class ShortlistConfig:
    """Search with short lists of several lengths and compare with reading the vectors of all children."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder."""
    run: Annotated[Path, tyro.conf.Positional]
    """Run folder of a generator that knows its items (recipe small)."""
    lengths: tuple[int, ...] = (16, 32, 64, 128)
    """Children of a node whose own vectors are read."""
    beams: int = 200
    """Beam budget, and length of the lists."""
    users: int = 256
    """Test users drawn by seed 0 whose lists are compared."""
    rounds: int = 3
    """Times that each search is timed, in turn with the others."""
    results: Path = RESULTS
    """The folder for shortlist.json."""


def main(config: ShortlistConfig) -> None:
    """Compare, time, and write results/shortlist.json."""
    check_counts(config)
    check_result("shortlist", config.results)
    dataset = load_dataset(config.data)
    config = fitted(config, dataset.catalogue.n_items, "beams")
    run = load(config.run, beams=config.beams, trust=0.0)
    check_same_items(config.run, run.catalogue, config.data, dataset.catalogue)
    if not isinstance(run.model, Generator):
        raise InputError(f"{config.run}: its model does not know its items; give a run of recipe small")
    histories = sample_users(split_of(dataset).test, config.users, 0).histories
    widest = max(run.trie.fan_out[1:], default=1)
    lengths = {widest} if run.model.exact else {*config.lengths, widest}
    searches = {length: _with_shortlist(run, length) for length in sorted(lengths) if length <= widest}
    lists = {length: search.recommend(histories, config.beams).items for length, search in searches.items()}
    plain = build_backbone(ModelConfig(), run.ids, run.catalogue).eval()
    contenders: dict[int, GenerativeRecommender] = {
        0: GenerativeRecommender(plain, run.ids, run.catalogue, beams=config.beams)
    }
    times = {batch: _times(contenders | searches, histories, batch, config) for batch in (1, 8)}
    rows: list[dict[str, Any]] = [{"search": "TIGER"}]
    for length, items in lists.items():
        shared = {
            "overlap_10": overlap(lists[widest], items, 10),
            "overlap_all": overlap(lists[widest], items, items.shape[1]),
        }
        if run.model.exact:
            rows.append({"search": "generator, by the item head's sums"} | shared)
        else:
            rows.append({"search": "generator, exact" if length == widest else "generator", "vectors": length} | shared)
    for row, name in zip(rows, times[1], strict=True):
        for batch, seconds in times.items():
            row[f"ms_{batch}"] = 1e3 * float(np.median(seconds[name]))
            row[f"ratio_{batch}"] = float(np.median(seconds[name] / seconds[0]))
    path = write_result(
        "shortlist",
        rows,
        columns=COLUMNS,
        protocol=f"{dataset.name}, test, {histories.n_users:,} users, run {config.run.name}, drafts alone, "
        f"{config.beams} beams, seen items filtered, float32, {torch.get_num_threads()} threads. Overlap is the "
        "share of items in common with the search that reads the vectors of all children. Times are processor seconds "
        f"per user, medians of {config.rounds} rounds in turn; ratios are of times within a round. TIGER has its "
        "default shape and random weights.",
        fingerprints={"data": dataset.fingerprint, "semantic_ids": run.ids.fingerprint},
        seeds=seeds_of([config.run]),
        folder=config.results,
    )
    print(f"wrote {path}")


def _with_shortlist(run: GenerativeRecommender, length: int) -> GenerativeRecommender:
    """The same recommender with a short list of another length; the weights are shared."""
    model = run.model
    assert isinstance(model, Generator), "a generator that knows its items"
    other = object.__new__(Generator)
    other.__dict__.update(model.__dict__)
    other.config = replace(model.config, shortlist=length)
    return GenerativeRecommender(other, run.ids, run.catalogue, beams=run.beams, trust=0.0)


def _times(
    contenders: dict[int, GenerativeRecommender], histories: Interactions, batch: int, config: ShortlistConfig
) -> dict[int, Any]:
    """Processor seconds per user of each contender, one number per round: after one call that does not count."""
    users = min(histories.n_users, 32)
    parts = [histories.take(np.arange(at, min(at + batch, users))) for at in range(0, users, batch)]
    calls = {name: partial(each.recommend, k=config.beams) for name, each in contenders.items()}
    for call in calls.values():
        call(parts[0])
    times: dict[int, list[float]] = {name: [] for name in calls}
    for _ in range(config.rounds):
        for name, call in calls.items():
            start = time.process_time()
            for part in parts:
                call(part)
            times[name].append((time.process_time() - start) / users)
    return {name: np.array(seconds) for name, seconds in times.items()}
