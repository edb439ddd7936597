"""`redraft evaluate`: runs and counting baselines on one data set, filtered and unfiltered, in one table."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from redraft.baselines.itemknn import ItemKNN
from redraft.baselines.markov import Markov
from redraft.baselines.popularity import Popularity
from redraft.bench.results import seeds_of, write_result
from redraft.data.split import leave_one_out
from redraft.data.store import load_dataset
from redraft.eval.evaluate import evaluate, save_ranks
from redraft.eval.metrics import KS
from redraft.recommender import Correction, Precision, load, use_half
from redraft.records import Catalogue, Holdout, InputError, Interactions, Recommender

__all__ = ["BASELINES", "COLUMNS", "EvaluateConfig", "evaluate_methods", "main", "metrics_table", "over_seeds"]

BASELINES: dict[str, Callable[[Interactions, Catalogue], Recommender]] = {
    "popularity": lambda train, catalogue: Popularity.fit(train, catalogue),
    "markov": lambda train, catalogue: Markov.fit(train, catalogue),
    "itemknn": lambda train, catalogue: ItemKNN.fit(train, catalogue),
}
COLUMNS = {"method": "{method}", "seen": "{seen}"} | {
    name: f"{{{name}:.4f}}" for name in ("R@5", "N@5", "R@10", "N@10", "R@50", "R@200")
}


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure on held-out next items: leave-one-out, full ranking."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder."""
    runs: tuple[Path, ...] = ()
    """Run folders; several are taken as seeds of one method, and their mean and standard deviation are added."""
    baselines: tuple[Literal["popularity", "markov", "itemknn"], ...] = ("popularity", "itemknn")
    """Counting baselines to fit and measure beside them."""
    split: Literal["test", "validation"] = "test"
    """What to predict: each user's last item, or the one before it."""
    beams: int = 200
    """Beam budget of the runs."""
    correction: Correction = field(default_factory=Correction)
    """For runs that correct themselves."""
    ranks: Path | None = None
    """Folder for each user's rank under each method, as Parquet [the run folder, if there is one]."""
    result: str | None = None
    """Also write results/NAME.json."""
    precision: Precision = "auto"
    """Matrix products of the runs: bfloat16, float32, or by what the processor can; scores are float32."""
    device: str = "cpu"
    """Where the runs compute: cpu, cuda."""


def main(config: EvaluateConfig) -> None:
    """Measure every method under both protocols, print the table, save the ranks."""
    dataset = load_dataset(config.data)
    split = leave_one_out(dataset.interactions)
    methods: dict[str, Recommender] = {
        name: BASELINES[name](split.train, dataset.catalogue) for name in config.baselines
    }
    fingerprints = {"data": dataset.fingerprint}
    half = use_half(config.precision, torch.device(config.device))
    for run in config.runs:
        methods[run.name] = recommender = load(
            run, beams=config.beams, half=half, device=config.device, correction=config.correction
        )
        if recommender.ids.n_items != dataset.catalogue.n_items:
            raise InputError(f"{run}: trained on another catalogue than {config.data}; evaluate it on its own data set")
        fingerprints[f"semantic_ids of {run.name}"] = recommender.ids.fingerprint
    holdout = split.test if config.split == "test" else split.validation
    rows = evaluate_methods(methods, holdout, ranks=config.ranks or (config.runs[0] if config.runs else None))
    if len(config.runs) > 1:
        rows += over_seeds(rows, [run.name for run in config.runs])
    console = Console()
    console.print(metrics_table(rows, f"{dataset.name}, {config.split}, leave-one-out, full ranking"))
    if config.result:
        products = "bfloat16" if half else "float32"
        protocol = (
            f"{dataset.name}, {config.split}, leave-one-out, full ranking, beams {config.beams}, {products} products"
        )
        path = write_result(
            config.result,
            rows,
            columns=COLUMNS,
            protocol=protocol,
            fingerprints=fingerprints,
            seeds=seeds_of(config.runs),
        )
        console.print(f"wrote {path}", soft_wrap=True)


def evaluate_methods(
    methods: dict[str, Recommender], holdout: Holdout, *, ranks: Path | None = None
) -> list[dict[str, Any]]:
    """One row a method and protocol: {"method", "seen", "R@5", "N@5", ...}; ranks go to a folder if given.

    seen: "kept" or "filtered", whether items of the user's own history may be recommended.
    """
    rows = []
    for name, filter_seen in track(
        [(name, seen) for name in methods for seen in (False, True)], "evaluating", transient=True
    ):
        found = evaluate(methods[name], holdout, ks=KS, filter_seen=filter_seen)
        seen = "filtered" if filter_seen else "kept"
        rows.append({"method": name, "seen": seen, **found.metrics})
        if ranks is not None:
            save_ranks(ranks / f"ranks-{name}-{seen}.parquet", holdout, found.ranks)
    return rows


def metrics_table(rows: list[dict[str, Any]], title: str) -> Table:
    """Rows of `evaluate_methods` for the terminal."""
    table = Table(*COLUMNS, title=title)
    for row in rows:
        table.add_row(*(cell.format_map(row) for cell in COLUMNS.values()))
    return table


def over_seeds(rows: list[dict[str, Any]], runs: list[str]) -> list[dict[str, Any]]:
    """Mean and standard deviation over the rows of these runs, for each protocol."""
    summary: list[dict[str, Any]] = []
    for seen in ("kept", "filtered"):
        mine = [row for row in rows if row["method"] in runs and row["seen"] == seen]
        for name, reduce in (("mean", np.mean), ("standard deviation", lambda x: np.std(x, ddof=1))):
            numbers = {key: float(reduce([row[key] for row in mine])) for key in mine[0] if "@" in key}
            summary.append({"method": f"{name} of {len(mine)} runs", "seen": seen, **numbers})
    return summary
