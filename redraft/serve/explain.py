"""`redraft explain`: how each recommendation was written, code by code."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from redraft.recommender import load
from redraft.serve.recommend import one_history

__all__ = ["ExplainConfig", "main"]


@dataclass(frozen=True)
class ExplainConfig:
    """Show the codes of each recommendation: how sure the model was, and how many items each code left."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    history: tuple[str, ...] = ()
    """Item ids, oldest first."""
    data: Path | None = None
    """Take the history of a user of this data set instead."""
    user: str | None = None
    """A user id of the data set."""
    k: int = 5
    """How many recommendations to explain."""
    beams: int = 50
    """Beam budget."""
    device: str = "cpu"
    """Where to compute: cpu, cuda."""


def main(config: ExplainConfig) -> None:
    """Print one row a recommendation, one cell a code."""
    model = load(config.run, beams=config.beams, device=config.device)
    history = one_history(model, config.history, config.data, config.user)
    levels = [f"code {level}" for level in range(1, model.ids.n_levels + 1)]
    table = Table("item", *levels, "p(item)", title="code, its probability -> items that still fit", show_lines=True)
    for found in model.explain(history.tolist(), config.k):
        cells = [f"{step.code}, {step.probability:.0%} -> {step.items_left:,}" for step in found.steps]
        name = model.catalogue.describe(found.item)
        table.add_row(f"{model.catalogue.ids[found.item]} {name}", *cells, f"{math.exp(found.log_prob):.2%}")
    Console().print(table)
