"""`redraft bench correct`: what reflection and correction buy, by merge policy, schedule and budget."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from redraft import runs
from redraft.bench.columns import Column, metric_columns, terminal_table
from redraft.bench.results import check_result, seeds_of, write_result
from redraft.bench.tables.oracle import ORACLE_COLUMNS, oracle_rows
from redraft.bench.tables.reflection import (
    REFLECTION_COLUMNS,
    Observed,
    confusion_table,
    reflection_rows,
    reliability_plot,
)
from redraft.checkpoint import check_same_items
from redraft.data.split import sample_users, split_of
from redraft.data.store import load_dataset
from redraft.decode.correct import TrajectoryBatch, ranked
from redraft.decode.correction import Correction
from redraft.decode.merge import POLICIES
from redraft.device import Precision, find_device, use_half
from redraft.eval import paired_test
from redraft.eval.evaluate import evaluate
from redraft.eval.metrics import KS, check_identity, ranking_metrics, ranks_of, recall
from redraft.eval.reflection import outcomes
from redraft.model.slots import Case, first_wrong_code
from redraft.recommender import GenerativeRecommender, SelfCorrectingRecommender, load
from redraft.records import MAX_COUNT, Dataset, Holdout, InputError, IntArray, Interactions, check_between, check_least
from redraft.terminal import plain_console
from redraft.train.settings import fitted

__all__ = ["CorrectBenchConfig", "corrected_rows", "list_row", "main", "observe"]

COLUMNS = [
    Column("method", "method"),
    Column("seen", "seen"),
    Column("budget", "budget"),
    Column("alpha", "alpha", ".1f"),
    Column("hypotheses", "hypotheses"),
    *metric_columns(("R@5", "R@10", "N@10", "R@50", "R@200")),
    Column("R@10 gain", "gain", "{gain:+.4f} ({low:+.4f} to {high:+.4f})"),
    Column("p", "p_value", ".4f"),
]

USERS, GPU_USERS = 16, 64
FATES = ("settled", "corrected", "survived", "improved", "harmed")


@dataclass(frozen=True)
class CorrectBenchConfig:
    """Measure drafts and corrected lists of the same weights on held-out next items, beside plain runs."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder."""
    runs: tuple[Path, ...]
    """Run folders, of any recipe; the last part of each folder's name names it in the table."""
    against: Path | None = None
    """Plain run to whose lists all others are compared [a run's own drafts]."""
    budgets: tuple[int, ...] = (50,)
    """How many drafts may be corrected."""
    alphas: tuple[float, ...] = (0.2, 0.0)
    """Weight of the entropy in the schedule; 0 is the schedule without it."""
    hypotheses: tuple[int, ...] = (1,)
    """Label vectors of each corrected draft that are followed."""
    trust: float = 1.0
    """Weight of the verifier's logits in the order of the lists, for runs that have one."""
    filtered: tuple[bool, ...] = (False, True)
    """Whether items of the user's own history are left out of the lists."""
    beams: int = 200
    """Drafts per user."""
    users: int | None = None
    """Users drawn by seed 0 [all]."""
    split: Literal["test", "validation"] = "test"
    """What to predict: test or validation."""
    oracle: bool = False
    """Measure what an ideal corrector makes of labels instead, by runs, filtered, beams, users and split alone."""
    result: str | None = None
    """Also write results/NAME.json and results/NAME_reflection.json; with --oracle the first alone."""
    precision: Precision = "auto"
    """Matrix products: bfloat16, float32, or by what the processor can; scores are float32."""
    device: str = "cpu"
    """Where to compute: cpu, cuda."""


def main(config: CorrectBenchConfig) -> None:
    """Measure every run under every setting; print and write the tables."""
    check_between(1, MAX_COUNT, users=1 if config.users is None else config.users)
    check_result(config.result)
    if config.oracle:
        _check_oracle(config)
    dataset = load_dataset(config.data)
    longest = min(max(KS), dataset.catalogue.n_items)
    config = fitted(config, dataset.catalogue.n_items, "beams")
    check_least(longest, beams=config.beams)
    if config.budgets == CorrectBenchConfig.budgets:
        config = replace(config, budgets=(min(*config.budgets, config.beams),))
    split = split_of(dataset)
    holdout = split.test if config.split == "test" else split.validation
    if config.users is not None:
        holdout = sample_users(holdout, config.users, 0)
    if config.oracle:
        _oracle(config, dataset, holdout)
        return
    half = use_half(config.precision, find_device(config.device))
    options: dict[str, Any] = {"beams": config.beams, "half": half, "trust": config.trust, "device": config.device}
    models: dict[str, GenerativeRecommender] = {}
    for run in _wanted(config):
        models[run.name] = load(run, **options)
        check_same_items(run, models[run.name].catalogue, config.data, dataset.catalogue)
    settings = product(config.budgets, config.alphas, config.hypotheses)
    corrections = [Correction(budget=b, alpha=a, hypotheses=h) for b, a, h in settings]
    for correction in corrections:
        if correction.spent(config.beams) == 0:
            raise InputError("a budget of 0 is the drafts, which are always measured; leave it out of --budgets")
    rows: list[dict[str, Any]] = []
    reflections: list[dict[str, Any]] = []
    for filter_seen in config.filtered:
        reference: IntArray | None = None
        for name, model in models.items():
            about = {"seen": "filtered" if filter_seen else "kept"}
            if not isinstance(model, SelfCorrectingRecommender):
                ranks = evaluate(model, holdout, longest=longest, filter_seen=filter_seen).ranks
                rows.append({"method": name, **about, **list_row(ranks, reference)})
            else:
                observations = observe(model, holdout, corrections, filter_seen=filter_seen)
                ranks = observations[0].ranks["drafts"]
                rows.append({"method": f"{name} drafts", **about, "budget": 0, **list_row(ranks, reference)})
                for correction, observed in zip(corrections, observations):
                    rows += corrected_rows(name, observed, correction, about, ranks if reference is None else reference)
                if filter_seen == config.filtered[0] and model.model.reflection:
                    slots = model.model.slots(dataset.catalogue.attribute_names)
                    reflections += reflection_rows(name, observations[0], slots)
            if config.against is not None and reference is None:
                reference = ranks
    _report(config, dataset, models, rows, reflections, n_users=len(holdout.targets), half=half)


def _wanted(config: CorrectBenchConfig) -> list[Path]:
    """The runs to measure, each once. Raises InputError for two whose folders are named alike."""
    wanted = list(dict.fromkeys((*((config.against,) if config.against else ()), *config.runs)))
    names = [run.name for run in wanted]
    for run in wanted:
        if names.count(run.name) > 1:
            raise InputError(f"{run}: two runs would be called {run.name!r} in the table; rename the folder")
    return wanted


def _check_oracle(config: CorrectBenchConfig) -> None:
    """Raise InputError for options that an ideal corrector has no use for."""
    for name in ("against", "budgets", "alphas", "hypotheses", "trust", "precision", "device"):
        if getattr(config, name) != getattr(CorrectBenchConfig, name):
            raise InputError(f"--oracle asks what labels are worth, whatever --{name} says; leave it out")


def _oracle(config: CorrectBenchConfig, dataset: Dataset, holdout: Holdout) -> None:
    """The rows of every run under every protocol: print and write them."""
    rows, fingerprints = [], {"data": dataset.fingerprint}
    for run in _wanted(config):
        model = runs.load(run, beams=config.beams)
        check_same_items(run, model.catalogue, config.data, dataset.catalogue)
        for filter_seen in config.filtered:
            seen = {"seen": "filtered" if filter_seen else "kept"}
            rows += [row | seen for row in oracle_rows(run.name, model, holdout, filter_seen=filter_seen)]
    title = f"{dataset.name}, {config.split}, {len(holdout.targets):,} users: the ideal corrector"
    console = plain_console()
    console.print(terminal_table(rows, ORACLE_COLUMNS, title))
    if config.result:
        protocol = (
            f"{dataset.name}, {config.split}, {len(holdout.targets):,} users, {dataset.protocol}, "
            f"{config.beams} drafts, lists of 10; the generator restricted to items that agree with labels of its best "
            "drafts."
        )
        about: dict[str, Any] = {"fingerprints": fingerprints, "seeds": seeds_of(config.runs)}
        console.print(f"wrote {write_result(config.result, rows, columns=ORACLE_COLUMNS, protocol=protocol, **about)}")


def _report(
    config: CorrectBenchConfig,
    dataset: Dataset,
    models: dict[str, GenerativeRecommender],
    rows: list[dict[str, Any]],
    reflections: list[dict[str, Any]],
    *,
    n_users: int,
    half: bool,
) -> None:
    compared = config.against.name if config.against else "the same weights' drafts"
    protocol = (
        f"{dataset.name}, {config.split}, {n_users:,} users, {dataset.protocol}, full ranking, {config.beams} drafts, "
        f"{'bfloat16' if half else 'float32'} products. Gains are over {compared}, paired over users, with a 95 % "
        "bootstrap interval and a sign-flip p-value."
    )
    fingerprints = {"data": dataset.fingerprint}
    fingerprints |= {f"semantic_ids of {name}": model.ids.fingerprint for name, model in models.items()}
    seeds = seeds_of(config.runs)
    console = Console()
    for title, columns, table in (("lists", COLUMNS, rows), ("reflection", REFLECTION_COLUMNS, reflections)):
        console.print(terminal_table(table, columns, f"{dataset.name}, {config.split}: {title}"))
        if config.result and table:
            name = config.result if title == "lists" else f"{config.result}_{title}"
            path = write_result(name, table, columns=columns, protocol=protocol, fingerprints=fingerprints, seeds=seeds)
            console.print(f"wrote {path}", soft_wrap=True)
    console.print(_fates(rows))
    console.print(_hits_by_rank(rows))
    for row in reflections:
        console.print(reliability_plot(row))
        if row["label"] == "location":
            console.print(confusion_table(row))


def _fates(rows: list[dict[str, Any]]) -> Table:
    table = Table("method", "budget", "alpha", *FATES, title="shares of the drafts")
    for row in rows:
        if "drafts" in row and row["method"].endswith(POLICIES[0]):
            shares = (f"{row['drafts'][fate]:.1%}" for fate in FATES)
            table.add_row(row["method"].removesuffix(f" {POLICIES[0]}"), str(row["budget"]), str(row["alpha"]), *shares)
    return table


def _hits_by_rank(rows: list[dict[str, Any]]) -> Table:
    table = Table(
        "method", "budget", "seen", *map(str, range(1, 11)), title="share of users whose target stands at rank"
    )
    for row in rows:
        hits = (f"{share:.2%}" for share in row["hit rate by rank"])
        table.add_row(row["method"], str(row.get("budget", "-")), row["seen"], *hits)
    return table


def observe(
    model: SelfCorrectingRecommender, holdout: Holdout, corrections: Sequence[Correction], *, filter_seen: bool
) -> list[Observed]:
    """Run the two-stage search for every user, once for each way to correct, and compare what came of it with the
    target.
    """
    parts: list[list[dict[str, Any]]] = [[] for _ in corrections]
    n_users, size = len(holdout.targets), GPU_USERS if model.model.codes.is_cuda else USERS
    for start in track(range(0, n_users, size), "correcting", transient=True):
        users = np.arange(start, min(start + size, n_users))
        histories = holdout.histories.take(users)
        trajectories = model.trajectories(histories, corrections, filter_seen=filter_seen)
        for mine, batch in zip(parts, trajectories):
            mine.append(_compare(model, histories, batch, holdout.targets[users]))
    return [_observed(mine) for mine in parts]


def _observed(parts: list[dict[str, Any]]) -> Observed:
    joined = {name: _join([part[name] for part in parts]) for name in parts[0] if name != "ranks"}
    ranks = {name: np.concatenate([part["ranks"][name] for part in parts]) for name in parts[0]["ranks"]}
    return Observed(ranks, **joined)


def _join(parts: list[Any]) -> Any:
    return tuple(map(_join, map(list, zip(*parts)))) if isinstance(parts[0], tuple) else np.concatenate(parts)


def _compare(
    model: SelfCorrectingRecommender, histories: Interactions, batch: TrajectoryBatch, targets: IntArray
) -> dict[str, Any]:
    codes, attributes = model.model.codes, model.model.attributes
    target = torch.from_numpy(targets).to(codes.device)[:, None]
    read = torch.from_numpy(histories.padded(model.model.config.history)).to(codes.device)[:, None]
    drafts, written = batch.drafts.items.clamp(min=0), batch.corrections.items.clamp(min=0)
    labels = model.model.labels(drafts, target, read)
    location, right = (first_wrong_code(Case(x, target, read, codes, attributes)) for x in (drafts, written))
    origins = batch.rows.gather(1, batch.origins)
    rank = torch.arange(origins.shape[1], device=origins.device).expand_as(origins)
    rank = torch.where(batch.corrections.items >= 0, rank, origins.shape[1])
    first = torch.full_like(drafts, origins.shape[1]).scatter_reduce(1, origins, rank, "amin")
    after = torch.nn.functional.pad(right, (0, 1), value=-1).gather(1, first)
    k = min(max(KS), batch.drafts.items.shape[1])
    merged = {"drafts": (batch.drafts.items, batch.drafts.log_probs)}
    merged |= {policy: ranked(batch, policy, batch.drafts.items.shape[1]) for policy in POLICIES}
    lists = {name: model.verified(histories, *ranking, k)[0] for name, ranking in merged.items()}
    reflection = batch.reflection
    return {
        "ranks": {name: ranks_of(items.cpu().numpy(), targets) for name, items in lists.items()},
        "location": location.cpu().numpy(),
        "labels": labels.cpu().numpy(),
        "probabilities": tuple(x.softmax(-1).cpu().numpy() for x in (reflection.slots() if reflection else ())),
        "settled": batch.settled.cpu().numpy(),
        "sent": torch.zeros_like(batch.settled).scatter(1, batch.rows, batch.used).cpu().numpy(),
        "after": after.cpu().numpy(),
    }


def list_row(ranks: IntArray, reference: IntArray | None) -> dict[str, Any]:
    """Metrics of ranks [U], hit rates at ranks 1 to 10, and the paired difference in R@10 to a reference, if any."""
    metrics = ranking_metrics(ranks, KS)
    check_identity(metrics)
    by_rank = np.bincount(ranks[(ranks > 0) & (ranks <= 10)], minlength=11)[1:] / len(ranks)
    row: dict[str, Any] = {**metrics, "hit rate by rank": by_rank.tolist()}
    if reference is None:
        return row
    test = paired_test(ranks, reference, 10, gain=recall)
    return row | {"gain": test.difference, "low": test.low, "high": test.high, "p_value": test.p_value}


def corrected_rows(
    name: str, observed: Observed, correction: Correction, about: dict[str, Any], reference: IntArray
) -> list[dict[str, Any]]:
    """One row a merge policy: metrics, gain over the reference, what happened to the drafts."""
    fates = outcomes(observed.location, observed.after, observed.settled, observed.sent)
    knobs = {"budget": correction.budget, "alpha": correction.alpha, "hypotheses": correction.hypotheses}
    return [
        {"method": f"{name} {policy}", **about, **knobs, **list_row(observed.ranks[policy], reference), "drafts": fates}
        for policy in POLICIES
    ]
