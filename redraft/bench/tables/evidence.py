"""`redraft bench evidence`: what drafts, reflection with evidence and corrections each add, for the same users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from redraft.bench.columns import Column, metric_columns, terminal_table
from redraft.bench.results import check_result, write_result
from redraft.bench.tables.comparable import check_learnt
from redraft.bench.tables.labels import LABEL_COLUMNS, label_rows
from redraft.checkpoint import check_same_items
from redraft.data.split import sample_users, split_of
from redraft.data.store import load_dataset
from redraft.eval.evaluate import evaluate
from redraft.eval.metrics import KS, ndcg, ranking_metrics, recall
from redraft.eval.significance import holm, paired_test
from redraft.evidence.fit import FitSettings, Sheet, draft_ranks, fit
from redraft.evidence.kinds import Case, Known, read_kinds
from redraft.evidence.recommender import ReflectingRecommender
from redraft.evidence.reflection import PARTS, ListReflection, parts_of
from redraft.methods.registry import fit_counted
from redraft.records import MAX_COUNT, Dataset, Holdout, InputError, IntArray, Recommender, check_between
from redraft.runs import load
from redraft.stored import read_settings, record
from redraft.terminal import plain_console
from redraft.train.reflect import kept_case

__all__ = ["EvidenceBenchConfig", "main"]

PART = 512
WHOLE = "reflection on drafts and corrections"
BUDGETS = (10, 25, 50)
"""Corrections, the first of those that there are, beside all of them."""
BY_PARTS = dict(zip(PARTS, ("drafts", "drafts by the item head", "drafts by the tower", "drafts by the memory")))
GAIN = "{{{0} gain:+.4f}} ({{{0} low:+.4f}} to {{{0} high:+.4f}})"
COLUMNS = [
    Column("list", "method"),
    Column("seen", "seen"),
    *metric_columns(("R@10", "N@10", "R@50", "R@200")),
    Column("rescued, damaged", "rescued", "{rescued:.2%}, {damaged:.2%}"),
    *(
        column
        for name in ("R@10", "N@10")
        for column in (
            Column(f"{name} of GRC above it", f"{name} gain", GAIN.format(name)),
            Column(f"p of {name}", f"{name} p", ".4f"),
        )
    ),
]


@dataclass(frozen=True)
class EvidenceBenchConfig:
    """Measure what each part of runs of recipe reflect adds to their drafts, on held-out next items."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder."""
    runs: tuple[Path, ...]
    """Run folders of recipe reflect, seeds of one method; the rows are means over them."""
    without: tuple[str, ...] = ()
    """Kinds of evidence to fit the reflection without, one row each."""
    seen: tuple[Literal["filtered", "kept"], ...] = ("filtered", "kept")
    """Whether items of the user's own history are left out of the lists."""
    split: Literal["test", "validation"] = "test"
    """What to predict; the reflection itself was fitted to validation events."""
    users: int | None = None
    """Users drawn by seed 0 [all]."""
    result: str | None = None
    """Also write results/NAME.json and results/NAME_reflection.json."""


def main(config: EvidenceBenchConfig) -> None:
    """Draft for every user, order the drafts in every way, and print and write the tables."""
    check_between(1, MAX_COUNT, users=1 if config.users is None else config.users)
    check_result(config.result)
    if not config.runs or not config.seen:
        raise InputError("nothing to do; give at least one run, and one of filtered and kept")
    dataset = load_dataset(config.data)
    split = split_of(dataset)
    holdout = split.test if config.split == "test" else split.validation
    if config.users is not None:
        holdout = sample_users(holdout, config.users, 0)
    models = {run: _loaded(run, config, dataset) for run in config.runs}
    _check_alike(models)
    rows: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for seen in config.seen:
        ranks_of: dict[str, list[IntArray]] = {}
        for run, model in models.items():
            case = _case(run, model, dataset, holdout, config, seen)
            targets = torch.from_numpy(holdout.targets)
            lists = _lists(model, case, targets) | _refitted(run, model, case, targets, dataset, config.without)
            others: dict[str, Recommender] = {
                type(model.tower).__name__: model.tower,
                "item-kNN": fit_counted("itemknn", split.train, dataset.catalogue),
            }
            for name, other in others.items():
                lists[name] = evaluate(other, holdout, longest=model.n_drafts, filter_seen=seen == "filtered").ranks
            for name, ranks in lists.items():
                ranks_of.setdefault(name, []).append(ranks)
            if seen == config.seen[0]:
                labels += [{"run": run.name} | row for row in label_rows(model, case, targets)]
        rows += _rows(ranks_of, seen, [k for k in KS if k <= model.n_drafts])
    _report(config, dataset, models, rows, labels, len(holdout.targets))


def _loaded(run: Path, config: EvidenceBenchConfig, dataset: Dataset) -> ReflectingRecommender:
    """A run; raises InputError for one of another recipe, or that learnt from other events."""
    model = load(run)
    if not isinstance(model, ReflectingRecommender):
        raise InputError(f"{run}: not a run of recipe reflect; make one with `redraft train reflect`")
    check_same_items(run, model.catalogue, config.data, dataset.catalogue)
    check_learnt(run, config.data, dataset.fingerprint, other_events=False)
    if unknown := [kind for kind in config.without if kind not in model.kinds]:
        raise InputError(f"{run}: does not read {unknown[0]!r}; it reads {', '.join(model.kinds)}")
    return model


def _check_alike(models: Mapping[Path, ReflectingRecommender]) -> None:
    """Raise InputError for runs that are not seeds of one method."""
    (first, one), *others = models.items()
    for run, other in others:
        for what in ("n_drafts", "rewriting", "kinds"):
            mine, theirs = getattr(one, what), getattr(other, what)
            if mine != theirs:
                raise InputError(
                    f"{run}: {what} is {theirs}, and {mine} in {first}; give runs that differ in their seed"
                )


def _case(
    run: Path, model: ReflectingRecommender, dataset: Dataset, holdout: Holdout, config: EvidenceBenchConfig, seen: str
) -> Case:
    """What the run writes for these users, kept in its folder."""
    folder = run / "drafts" / f"{config.split}-{seen}-{config.users or 'all'}"
    about = {"data": dataset.fingerprint, "seen": seen}
    return kept_case(model.drafting(), holdout.histories, folder, about, filter_seen=seen == "filtered")


def _lists(model: ReflectingRecommender, case: Case, targets: torch.Tensor) -> dict[str, IntArray]:
    """The targets' ranks in lists as long as there are drafts, for every way to order these."""
    alone, weights = case.drafts, model.reflection.weights
    ways: dict[str, tuple[Case, Any]] = {
        name: (alone, lambda part, at=at: parts_of(part, model.known)[..., at])
        for at, name in enumerate(BY_PARTS.values())
    }
    ways |= {
        "mixture of drafts": (alone, lambda part: parts_of(part, model.known) @ weights),
        "mixture of drafts and corrections": (case, lambda part: parts_of(part, model.known) @ weights),
        "reflection on drafts": (alone, lambda part: model.judged(part, 0).right[:, :-1]),
        **{
            f"reflection on drafts and {n} corrections": (
                case.with_corrections(n),
                lambda part: model.judged(part, 0).right[:, :-1],
            )
            for n in BUDGETS
            if n < case.items.shape[1] - alone.items.shape[1]
        },
        WHOLE: (case, lambda part: model.judged(part, 0).right[:, :-1]),
    }
    return {name: _ranks(one, targets, score, alone.items.shape[1]) for name, (one, score) in ways.items()}


def _ranks(case: Case, targets: torch.Tensor, score: Any, longest: int) -> IntArray:
    """int64 [U]: where targets stand by the scores [U, R] that a part of a case is given; -1 beyond the longest."""
    ranks = []
    for part, wanted in zip(_parts(case), targets.split(PART)):
        hit = part.items == wanted[:, None]
        position = torch.where(hit.any(dim=1), hit.byte().argmax(dim=1), hit.shape[1])
        ranks.append(draft_ranks(score(part), position))
    together = np.concatenate(ranks)
    return np.where(together <= longest, together, -1)


def _parts(case: Case) -> list[Case]:
    return [Case(*part) for part in zip(*(x.split(PART) for x in case))]


def _refitted(
    run: Path, model: ReflectingRecommender, case: Case, targets: torch.Tensor, dataset: Dataset, kinds: Sequence[str]
) -> dict[str, IntArray]:
    """The targets' ranks under reflections fitted as the run's, each without one kind of evidence."""
    if not kinds:
        return {}
    settings = read_settings(run).config
    how = record(FitSettings, settings["fit"], run / "config.json", "train it again")
    validation = split_of(dataset).validation
    users = np.random.default_rng(how.seed).permutation(len(validation.targets))[: settings["users"]]
    about = {"data": dataset.fingerprint, "seen": "filtered"}
    learnt = kept_case(model.drafting(), validation.histories.take(users), run / "drafts", about)
    ranks = {}
    for kind in kinds:
        left = [name for name in model.kinds if name != kind]
        sheet = Sheet.of(left, learnt, validation.targets[users], model.known)
        other = fit(sheet, model.known, how, [name for name in PARTS if name != kind])
        ranks[f"without {kind}"] = _ranks(case, targets, partial(_score, other, left, model.known), model.n_drafts)
    return ranks


def _score(reflection: ListReflection, kinds: Sequence[str], known: Known, case: Case) -> torch.Tensor:
    return reflection.reflect(case, read_kinds(kinds, case, known), known, 0).right[:, :-1]


def _rows(ranks_of: dict[str, list[IntArray]], seen: str, ks: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each list: means over seeds, and how far the whole is above it, paired over users, p by Holm."""
    drafts, whole = np.stack(ranks_of["drafts"]), np.stack(ranks_of[WHOLE])
    others = [name for name in ranks_of if name != WHOLE]
    rows: dict[str, dict[str, Any]] = {
        name: {"method": name, "seen": seen} | _means(ranks, ks) | _moved(np.stack(ranks), drafts)
        for name, ranks in ranks_of.items()
    }
    for metric, gain in (("R@10", recall), ("N@10", ndcg)):
        tests = [paired_test(whole, np.stack(ranks_of[name]), 10, gain=gain) for name in others]
        for name, test, p in zip(others, tests, holm([test.p_value for test in tests])):
            about = {"gain": test.difference, "low": test.low, "high": test.high, "p": float(p)}
            rows[name] |= {f"{metric} {part}": number for part, number in about.items()}
    return list(rows.values())


def _moved(ranks: IntArray, drafts: IntArray) -> dict[str, float]:
    """Shares of users whose target enters the first ten, where the drafts have it further down, and that leave them."""
    now, before = recall(ranks, 10), recall(drafts, 10)
    return {"rescued": float((now > before).mean()), "damaged": float((now < before).mean())}


def _means(ranks: list[IntArray], ks: Sequence[int]) -> dict[str, float]:
    """Every metric, the mean over seeds, and with several its standard deviation."""
    each = [ranking_metrics(one, ks) for one in ranks]
    means = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    spread = {f"std {name}": float(np.std([one[name] for one in each], ddof=1)) for name in means if len(each) > 1}
    return means | spread


def _report(
    config: EvidenceBenchConfig,
    dataset: Dataset,
    models: dict[Path, ReflectingRecommender],
    rows: list[dict[str, Any]],
    labels: list[dict[str, Any]],
    n_users: int,
) -> None:
    model = next(iter(models.values()))
    protocol = (
        f"{dataset.name}, {config.split}, {n_users:,} users, {dataset.protocol}, full ranking, {model.n_drafts} drafts "
        f"and {model.rewriting.budget} corrections of each user, lists of {model.n_drafts}; means over {len(models)} "
        "runs. Gains of the whole over each list are paired over users, with a 95 % bootstrap interval; p-values by "
        "sign flips, corrected by Holm over the lists of one protocol."
    )
    fingerprints = {"data": dataset.fingerprint, "semantic_ids": model.writer.ids.fingerprint}
    seeds = [read_settings(run).config["fit"]["seed"] for run in models]
    console = plain_console()
    for title, columns, table in (("lists", COLUMNS, rows), ("reflection", LABEL_COLUMNS, labels)):
        console.print(terminal_table(table, columns, f"{dataset.name}, {config.split}: {title}"))
        if config.result:
            name = config.result if title == "lists" else f"{config.result}_{title}"
            about: dict[str, Any] = {"fingerprints": fingerprints, "seeds": seeds}
            console.print(f"wrote {write_result(name, table, columns=columns, protocol=protocol, **about)}")
