"""`redraft evaluate`: runs, and methods of the tables, on one data set, filtered and unfiltered, in one table."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from redraft.bench.columns import Column, metric_columns, terminal_table
from redraft.bench.results import check_result, seeds_of, write_result
from redraft.bench.tables.comparable import check_learnt, ranks_file, seeds_of_one_method
from redraft.checkpoint import check_same_items
from redraft.data.split import split_of
from redraft.data.store import load_dataset
from redraft.decode.correction import Correction
from redraft.device import Precision, find_device, use_half
from redraft.eval.evaluate import RANKS, Evaluation, evaluate, save_ranks
from redraft.eval.metrics import GAINS, KS
from redraft.folders import check_file
from redraft.methods.registry import COUNTED, find_method, fit_counted
from redraft.methods.task import SCALES, Task
from redraft.recommender import GenerativeRecommender, check_used
from redraft.records import Dataset, Holdout, InputError, IntArray, Recommender
from redraft.runs import load
from redraft.terminal import next_command, plain_console
from redraft.train.progress import progress_bar

__all__ = [
    "COLUMNS",
    "EvaluateConfig",
    "evaluate_methods",
    "main",
    "over_seeds",
]

METRICS = (*(f"{name}@{k}" for k in (5, 10) for name in GAINS), "R@50", "R@200")
COLUMNS = [Column("method", "method"), Column("seen", "seen"), *metric_columns(METRICS)]


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure on held-out next items, by full ranking."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder."""
    runs: tuple[Path, ...] = ()
    """Run folders; of those that differ in their seed alone the mean and standard deviation are added."""
    methods: Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--baselines",))] = ("popularity", "itemknn")
    """Methods of Table 1 to measure beside them: popularity, markov and itemknn are counted on the spot, others read
    from where `redraft bench tables` trained them with seed 0."""
    root: Path | None = None
    """That folder [runs/tables/NAME of the data set]."""
    split: Literal["test", "validation"] = "test"
    """What to predict: each user's last item, or the one before it."""
    beams: int | None = None
    """Beam budget of the runs [200, or all items of a smaller catalogue]."""
    correction: Correction = field(default_factory=Correction)
    """For runs that correct themselves."""
    trust: float = 1.0
    """Weight of the verifier's logits in the order of the lists, for runs that have one."""
    other_events: bool = False
    """Measure runs that learnt from other events than this data set's, too; their numbers are marked."""
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
    check_result(config.result)
    dataset = load_dataset(config.data)
    split = split_of(dataset)
    beams = min(max(KS), dataset.catalogue.n_items) if config.beams is None else config.beams
    fingerprints = {"data": dataset.fingerprint}
    half = use_half(config.precision, find_device(config.device))
    loaded: dict[Path, GenerativeRecommender] = {}
    notes: list[str] = []
    methods: dict[str, Recommender] = {name: _method(name, config, dataset, half) for name in config.methods}
    for run in config.runs:
        if run.name in methods:
            raise InputError(f"{run}: two methods would be called {run.name!r} in the table; rename the folder")
        note = check_learnt(run, config.data, dataset.fingerprint, other_events=config.other_events)
        notes += [note] if note else []
        methods[run.name] = recommender = load(
            run,
            beams=beams,
            half=half,
            trust=config.trust,
            device=config.device,
            correction=config.correction,
        )
        check_same_items(run, recommender.catalogue, config.data, dataset.catalogue)
        if isinstance(recommender, GenerativeRecommender):
            loaded[run] = recommender
            fingerprints[f"semantic_ids of {run.name}"] = recommender.ids.fingerprint
    check_used(loaded, config.correction, config.trust)
    holdout = split.test if config.split == "test" else split.validation
    ranks = config.ranks or (config.runs[0] if config.runs else None)
    file_of = partial(ranks_file, ranks, dataset, config.split) if ranks else None
    if file_of:
        for name, seen in product(methods, ("kept", "filtered")):
            check_file(file_of(name, seen), RANKS, replace=True)
    kept: dict[tuple[str, str], IntArray] = {}
    rows = evaluate_methods(methods, holdout, dataset.catalogue.n_items, keep=kept.__setitem__)
    for runs in seeds_of_one_method(config.runs):
        rows += over_seeds(rows, [run.name for run in runs])
    console = plain_console()
    console.print(terminal_table(rows, COLUMNS, f"{dataset.name}, {config.split}, {dataset.protocol}, full ranking"))
    for note in notes:
        console.print(f"note: {note}")
    if file_of:
        for method, each in kept.items():
            save_ranks(file_of(*method), holdout, each)
        console.print(f"wrote {file_of('METHOD', 'SEEN')}, each user's rank")
    if config.result:
        products = "bfloat16" if half else "float32"
        protocol = (
            f"{dataset.name}, {config.split}, {dataset.protocol}, full ranking, beams {beams}, {products} products"
        )
        protocol += "".join(f"; {note}" for note in notes)
        path = write_result(
            config.result,
            rows,
            columns=COLUMNS,
            protocol=protocol,
            fingerprints=fingerprints,
            seeds=seeds_of(config.runs),
        )
        console.print(f"wrote {path}")
    if config.runs:
        console.print(next_command("recommend", config.runs[0], "--data", config.data, "--user", dataset.user_ids[0]))
    else:
        console.print(next_command("train", "small", config.data, Path("runs") / dataset.name))


def _method(name: str, config: EvaluateConfig, dataset: Dataset, half: bool) -> Recommender:
    """A method of the tables; raises InputError if it is not trained."""
    method, root = find_method(name), config.root or Path("runs/tables") / dataset.name
    if name in COUNTED:
        return fit_counted(name, split_of(dataset).train, dataset.catalogue)
    task = Task(config.data, dataset, root, name, 0, SCALES["small"], config.device, half)
    if not (task.of(method.weights or name).folder / "trained.json").exists():
        words = f"redraft bench tables --data {config.data} --methods {name} --out {root}"
        raise InputError(f"{task.folder}: {name} is not trained there; run `{words}`, or give its run as --runs")
    return method.load(task)


def evaluate_methods(
    methods: dict[str, Recommender],
    holdout: Holdout,
    n_items: int,
    *,
    keep: Callable[[tuple[str, str], IntArray], None] = lambda method, ranks: None,
) -> list[dict[str, Any]]:
    """One row per method and protocol: {"method", "seen", "unreachable", "R@5", "N@5", ...}.

    keep: called with (method, seen) and each user's rank under them.
    seen: "kept" or "filtered", whether items of the user's own history may be recommended. unreachable: users who can
    only be missed because their target was filtered. A K beyond the n_items of the catalogue is left out.
    """
    rows: list[dict[str, Any]] = []
    ks = [k for k in KS if k <= n_items] or [n_items]
    n_users = len(holdout.targets)
    with progress_bar("evaluate", 2 * len(methods) * n_users) as advance:
        for name, filter_seen in [(name, seen) for name in methods for seen in (False, True)]:
            evaluation = _counted(methods[name], holdout, ks, filter_seen, partial(advance, name))
            seen = "filtered" if filter_seen else "kept"
            rows.append({"method": name, "seen": seen, "unreachable": evaluation.n_unreachable, **evaluation.metrics})
            keep((name, seen), evaluation.ranks)
    return rows


def _counted(
    recommender: Recommender, holdout: Holdout, ks: list[int], filter_seen: bool, advance: Callable[[int], None]
) -> Evaluation:
    done = 0

    def progress(users: int) -> None:
        nonlocal done
        advance(users - done)
        done = users

    return evaluate(recommender, holdout, ks=ks, filter_seen=filter_seen, progress=progress)


def over_seeds(rows: list[dict[str, Any]], runs: list[str]) -> list[dict[str, Any]]:
    """Mean and standard deviation over the rows of these runs, for each protocol."""
    summary: list[dict[str, Any]] = []
    for seen in ("kept", "filtered"):
        mine = [row for row in rows if row["method"] in runs and row["seen"] == seen]
        for name, reduce in (("mean", np.mean), ("standard deviation", lambda x: np.std(x, ddof=1))):
            numbers = {key: float(reduce([row[key] for row in mine])) for key in mine[0] if "@" in key}
            summary.append({"method": f"{name} of {', '.join(runs)}", "seen": seen, **numbers})
    return summary
