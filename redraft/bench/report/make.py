"""`redraft bench report`: one page to look at, made of what `redraft bench tables` left in a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import tyro

from redraft.bench.report.budgets import Sample, draw_sample, measure_budgets
from redraft.bench.report.page import Section, render
from redraft.bench.report.parts import (
    Entry,
    ablation_part,
    bucket_part,
    codes_part,
    comparison_part,
    curves_part,
    effort_part,
    reflection_part,
    sensitivity_part,
    stories_part,
)
from redraft.bench.report.stories import choose_users, story_of
from redraft.bench.tables.published import REFLECTION
from redraft.bench.tables.runs import ranks
from redraft.data.split import split_of
from redraft.data.store import load_dataset
from redraft.device import Precision, find_device, use_half
from redraft.files import atomic_file, read_json
from redraft.folders import Kind, check_file
from redraft.methods.registry import METHODS, TABLE, find_method
from redraft.methods.task import SCALES, Task
from redraft.options import check_counts
from redraft.recommender import SelfCorrectingRecommender
from redraft.records import Dataset, InputError, SemanticIds
from redraft.terminal import plain_console
from redraft.tokenizer.report import LevelReport, TokenizerReport, tokenizer_report
from redraft.tokenizer.semantic_ids import load_semantic_ids
from redraft.train.progress import read_metrics

__all__ = ["ReportConfig", "main"]

STORIES = 12
TABLES = ("table1", "table2", "table3", "figure3")


@dataclass(frozen=True)
class ReportConfig:
    """Draw tables, curves, costs, codes, reflection and single users on one page that needs no network."""

    root: Annotated[Path, tyro.conf.Positional]
    """Folder that `redraft bench tables` wrote."""
    data: Path
    """Its data-set folder."""
    out: Path | None = None
    """File to write [ROOT/report.html]."""
    users: int = 500
    """Test users for budgets and for single users, drawn by seed 0."""
    precision: Precision = "auto"
    """Matrix products: bfloat16, float32, or by what the processor can; scores are float32."""
    device: str = "cpu"
    """Where to compute: cpu, cuda."""


MADE = "Made by `redraft bench report`"
PAGE = Kind("a report", lambda path: MADE in path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Run:
    """One measured method and seed. about: the protocol of its measurement, and the hash of its weights."""

    task: Task
    about: dict[str, Any]


def main(config: ReportConfig) -> None:
    """Gather what is there, measure budgets on a sample, and write the page."""
    check_counts(config)
    out = config.out or config.root / "report.html"
    check_file(out, PAGE, replace=True)
    dataset = load_dataset(config.data)
    half = use_half(config.precision, find_device(config.device))
    runs = _measured(config, dataset, half)
    tables = {name: _table(config.root / f"{name}.json", config.data, dataset) for name in TABLES}
    first = next(iter(runs.values()))[0]
    seen = first.about["seen"]
    sample = draw_sample(first.task, first.about["users"], config.users)
    entries = [_entry(name, mine, sample, config.root / "budgets.json") for name, mine in runs.items()]
    measured = pl.read_parquet(first.task.folder / f"ranks-{seen}.parquet")
    train = split_of(dataset).train
    popularity = np.bincount(train.items, minlength=dataset.catalogue.n_items)[measured["target"].to_numpy()]
    parts = [
        comparison_part(tables["table1"]),
        reflection_part(tables["table2"]),
        ablation_part(tables["table3"]),
        sensitivity_part(tables["figure3"]),
        curves_part(entries),
        effort_part(entries, len(sample.rows), seen),
        bucket_part(entries, measured["history_length"].to_numpy(), popularity, seen),
        _codes(config.data, runs),
        _stories(entries, runs, sample),
    ]
    facts = (
        f"{dataset.interactions.n_users:,} users",
        f"{dataset.catalogue.n_items:,} items",
        f"{len(dataset.interactions.items):,} events",
        f"{len(measured):,} test users",
        f"{dataset.protocol}, full ranking",
    )
    footer = f"Data {dataset.fingerprint[:12]}. {MADE} from what `redraft bench tables` measured."
    text = render(f"{dataset.name}: what comes next?", facts, [part for part in parts if part], footer)
    with atomic_file(out) as partial:
        partial.write_text(text, encoding="utf-8")
    plain_console().print(f"wrote {out} ({len(text) / 1024:,.0f} KB, no network needed)")


def _measured(config: ReportConfig, dataset: Dataset, half: bool) -> dict[str, list[Run]]:
    """The measured methods of Table 1 with a run a seed, in the table's order; seen items kept if that was measured.

    Raises InputError if there are none, or if they were measured on other data or unlike each other.
    """
    measured: dict[str, list[Run]] = {}
    for seen in ("kept", "filtered"):
        for path in sorted(config.root.rglob(f"test-{seen}.json")):
            name, _, seed = path.parent.relative_to(config.root).as_posix().rpartition("-")
            if name not in TABLE and ":" not in name:
                continue
            result = read_json(path)
            _check_data(path, result["about"]["data"], config.data, dataset)
            task = Task(config.data, dataset, config.root, name, int(seed), SCALES["small"], config.device, half)
            measured.setdefault(name, []).append(Run(task, result["about"]))
        if measured:
            break
    else:
        raise InputError(
            f"{config.root}: holds no measured method; run "
            f"`redraft bench tables --data {config.data} --out {config.root}` first"
        )
    users = {run.about["users"] for mine in measured.values() for run in mine}
    if len(users) > 1:
        numbers = " and ".join(sorted(str(each or "all") for each in users))
        raise InputError(
            f"{config.root}: methods were measured on {numbers} users, and one page has one protocol; "
            "remove the test-*.json of some and run `redraft bench tables` again"
        )
    order = {name: number for number, name in enumerate(METHODS)}
    return dict(sorted(measured.items(), key=lambda item: order.get(item[0], len(order))))


def _check_data(path: Path, fingerprint: str, data: Path, dataset: Dataset) -> None:
    if fingerprint != dataset.fingerprint:
        raise InputError(f"{path}: measured on other data than {data}; give --data the folder it was measured on")


def _table(path: Path, data: Path, dataset: Dataset) -> dict[str, Any] | None:
    if not path.exists():
        return None
    result: dict[str, Any] = read_json(path)
    _check_data(path, result["fingerprints"]["data"], data, dataset)
    return result


def _entry(name: str, runs: Sequence[Run], sample: Sample, cache: Path) -> Entry:
    first = runs[0]
    label = METHODS[name].label if name in METHODS else name.rpartition(":")[2]
    budgets = measure_budgets(first.task, first.about, sample, cache)
    placed = np.stack([ranks(run.task, run.about["seen"]) for run in runs])
    return Entry(name, label, _curve(first.task.folder / "metrics.jsonl"), placed, budgets)


def _curve(log: Path) -> list[tuple[float, float]]:
    """(seconds, NDCG@10) of each validation after the first step."""
    return [(line["seconds"], line["N@10"]) for line in read_metrics(log) if "N@10" in line and line["seconds"] > 0]


def _codes(data: Path, runs: Mapping[str, Sequence[Run]]) -> Section | None:
    """Of the first generative run; what the tokenizer reported if it is still beside the same ids."""
    paths = [mine[0].task.folder / "semantic_ids.safetensors" for mine in runs.values()]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return None
    ids = load_semantic_ids(path)
    return codes_part(ids.codes, ids.codebook_size, _tokenizer_report(data / "semantic_ids.json", ids))


def _tokenizer_report(path: Path, ids: SemanticIds) -> TokenizerReport:
    if path.exists() and (known := read_json(path))["fingerprint"] == ids.fingerprint:
        levels = tuple(LevelReport(**level) for level in known["report"]["levels"])
        return TokenizerReport(**known["report"] | {"levels": levels})
    return tokenizer_report(ids.codes, ids)


def _stories(entries: Sequence[Entry], runs: Mapping[str, Sequence[Run]], sample: Sample) -> Section | None:
    """Of the last method of Table 2 that is there."""
    entry = next((each for name in reversed(REFLECTION) for each in entries if each.name == name), None)
    if entry is None:
        return None
    run = runs[entry.name][0]
    model = find_method(entry.name).load(run.task)
    assert isinstance(model, SelfCorrectingRecommender), "the methods of Table 2 reflect"
    by_budget = {each.budget: each.ranks for each in entry.budgets}
    drafts, final = by_budget[0], by_budget[model.budget]
    filter_seen = run.about["seen"] == "filtered"
    stories = [
        story_of(model, sample.questions, kind, row, (int(drafts[row]), int(final[row])), filter_seen=filter_seen)
        for kind, row in choose_users(drafts, final, STORIES)
    ]
    return stories_part(entry.label, stories, len(sample.rows))
