"""`redraft data show`: what is in a data set, in numbers, bars and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.table import Table

from redraft.data.split import later_share, split_of
from redraft.data.store import load_dataset, load_meta
from redraft.data.ties import count_ties
from redraft.records import Catalogue, Dataset, IntArray, check_least
from redraft.terminal import can_print, next_command, plain_console

__all__ = ["ShowConfig", "attribute_table", "bars", "describe_counts", "describe_ties", "main"]

LENGTH_EDGES = (3, 5, 10, 20, 50, 100, 200, 500)
POPULARITY_EDGES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000)
BAR_WIDTH = 40


@dataclass(frozen=True)
class ShowConfig:
    """Show what is in a data set."""

    dataset: Annotated[Path, tyro.conf.Positional]
    """The data-set folder."""
    limit: int = 20
    """The history limit: how many recent events a model is to read."""
    rows: int = 3
    """How many users to show in words."""


def main(config: ShowConfig) -> None:
    """Print counts, histograms, attributes and the first histories."""
    check_least(1, limit=config.limit)
    check_least(0, rows=config.rows)
    dataset, meta = load_dataset(config.dataset), load_meta(config.dataset)
    console = plain_console()
    console.print(f"{dataset.name} ({meta['source']}, fingerprint {dataset.fingerprint[:12]})", style="bold")
    for line in [*describe_counts(dataset, config.limit), *describe_ties(dataset, meta["options"])]:
        console.print(line)
    popularity = np.bincount(dataset.interactions.items, minlength=dataset.catalogue.n_items)
    for title, values, edges in [
        ("events per user", dataset.interactions.lengths, LENGTH_EDGES),
        ("events per item", popularity, POPULARITY_EDGES),
    ]:
        console.print(f"\n{title}", style="bold")
        for line in bars(values, edges, block="█" if can_print("█") else "#"):
            console.print(line)
    console.print(attribute_table(dataset.catalogue))
    console.print("first users", style="bold")
    for line in _first_users(dataset, config.rows):
        console.print(line)
    console.print()
    console.print(next_command("tokenize", config.dataset))


def describe_counts(dataset: Dataset, limit: int) -> list[str]:
    """Lines of plain counts: events, density, cold items, users over the history limit, items without text.

    An item is cold if it has no training event.
    """
    interactions, catalogue = dataset.interactions, dataset.catalogue
    n_users, n_items, n_events = interactions.n_users, catalogue.n_items, len(interactions.items)
    lengths = interactions.lengths
    trained = np.bincount(split_of(dataset).train.items, minlength=n_items)
    cold, over = int((trained == 0).sum()), int((lengths > limit).sum())
    without_text = int(((catalogue.titles == "") & (catalogue.descriptions == "")).sum())
    return [
        f"{n_users:,} users, {n_items:,} items, {n_events:,} interactions, density {n_events / n_users / n_items:.4%}",
        f"events per user: median {np.median(lengths):.0f}, mean {lengths.mean():.1f}, longest {lengths.max():,}",
        f"cold items (no training event): {cold:,} ({cold / n_items:.1%})",
        f"users with more than {limit} events: {over:,} ({over / n_users:.1%})",
        f"items without title and description: {without_text:,} ({without_text / n_items:.1%})",
        "times: " + _span(interactions.times),
        _describe_split(dataset),
    ]


def _describe_split(dataset: Dataset) -> str:
    """What is to be predicted, and how much of what others did later training knows."""
    if dataset.split:
        validation, test = (str(np.datetime64(moment, "s").astype("datetime64[D]")) for moment in dataset.split)
        return f"split: in time, validation from {validation}, test from {test}; nothing later leaks into training"
    line = "split: leave-one-out"
    if share := later_share(dataset.interactions):
        line += f"; what others did later leaks: of the training events, {share:.1%} came after the test target (mean)"
    return line


def describe_ties(dataset: Dataset, options: Mapping[str, Any]) -> list[str]:
    """Lines on events that share their second with another of the user: what came first is then not known.

    options: of the import, which say how their order was settled.
    """
    n_events, n_users = len(dataset.interactions.items), dataset.interactions.n_users
    tied, last = count_ties(dataset.interactions)
    if not tied:
        return []
    if options.get("tied") == 0:
        return [f"events that share their second with another of the user: {tied:,}, all in a known order"]
    order = f"at random (seed {options['seed']})" if options.get("ties") == "random" else "as in the file"
    lines = [f"events that share their second with another of the user: {tied:,} ({tied / n_events:.1%}), {order}"]
    if last:
        lines.append(
            f"warning: for {last:,} users ({last / n_users:.1%}) the test target shares its second with the event "
            f"before it, so which of them came last is not known; they stand {order}"
        )
    return lines


def bars(values: IntArray, edges: Sequence[int], *, block: str = "█") -> list[str]:
    """A histogram as one line per bin: its range, a bar in proportion to its count, and the count.

    Bin i holds the values from edges[i] up to, not including, edges[i + 1]; the last bin has no end. Values below
    edges[0] are not counted, empty bins at either end are not shown.
    """
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)[1:]
    names = [str(low) if high == low + 1 else f"{low:,}-{high - 1:,}" for low, high in pairwise(edges)]
    names.append(f"{edges[-1]:,}+")
    filled = np.flatnonzero(counts)
    shown = range(filled[0], filled[-1] + 1) if len(filled) else range(0)
    width = max((len(names[i]) for i in shown), default=0)
    return [
        f"{names[i]:>{width}} {block * round(BAR_WIDTH * counts[i] / counts.max()):<{BAR_WIDTH}} {counts[i]:,}"
        for i in shown
    ]


def attribute_table(catalogue: Catalogue) -> Table:
    """One row per attribute: values, share of items that have one, the commonest value and its share of those."""
    table = Table("attribute", "values", "known", "commonest", title="attributes", title_justify="left")
    for k, name in enumerate(catalogue.attribute_names):
        known = catalogue.attributes[:, k][catalogue.attributes[:, k] >= 0]
        counts = np.bincount(known)
        common = int(counts.argmax())
        share = counts[common] / len(known)
        value = catalogue.attribute_values[k][common]
        table.add_row(name, f"{len(counts):,}", f"{len(known) / catalogue.n_items:.1%}", f"{value} ({share:.1%})")
    if not catalogue.attribute_names:
        table.add_row("none", "", "", "")
    return table


def _span(times: IntArray | None) -> str:
    if times is None:
        return "not known, only the order"
    return " to ".join(
        str(np.datetime64(int(moment), "s").astype("datetime64[D]")) for moment in (times.min(), times.max())
    )


def _first_users(dataset: Dataset, rows: int) -> list[str]:
    """For each of the first users, the last three items in words, most recent last."""
    lines = []
    for user in range(min(rows, dataset.interactions.n_users)):
        recent = dataset.interactions.items[: dataset.interactions.offsets[user + 1]][-3:]
        lines.append(f"user {dataset.user_ids[user]}, {dataset.interactions.lengths[user]} events, the last three:")
        lines += [f"  {dataset.catalogue.describe(int(item))}" for item in recent]
    return lines
