"""`redraft bench tables`: the paper's Tables 1 to 3 and Figure 3 for any data set, all methods trained alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from redraft.bench.columns import Column, latex_table, markdown_table, metric_columns, terminal_table
from redraft.bench.results import RESULTS, check_result, write_result
from redraft.bench.tables.correct import observe
from redraft.bench.tables.published import ABLATION, PUBLISHED, REFLECTION
from redraft.bench.tables.reflection import REFLECTION_COLUMNS, reflection_rows
from redraft.bench.tables.runs import (
    Measured,
    Seen,
    check_folder,
    in_order,
    latency,
    measure,
    test_users,
    train_missing,
)
from redraft.data.store import load_dataset
from redraft.device import Precision, find_device, use_half
from redraft.eval.metrics import KS, ndcg
from redraft.eval.significance import holm, paired_test
from redraft.files import atomic_file
from redraft.folders import Kind, check_file
from redraft.methods.registry import ABLATIONS, COEFFICIENTS, FIGURE, TABLE, find_method
from redraft.methods.task import SCALES, Task
from redraft.options import check_counts
from redraft.recommender import SelfCorrectingRecommender
from redraft.records import InputError
from redraft.terminal import next_command, plain_console

__all__ = ["TablesConfig", "main"]

METRICS = ("R@5", "N@5", "R@10", "N@10")
TAIL = ("R@5", "R@10", "R@100", "R@200", "N@10")
GAIN = "{gain:+.4f} ({low:+.4f} to {high:+.4f})"
SHOWN = {"method", "seen", "label", "coefficient", "value", "p_value", "accuracy@5", "accuracy@10", *METRICS, *TAIL}

Made = tuple[list[dict[str, Any]], list[Column]]
"""The rows of a table, and its columns."""

TEXT = Kind("a table beside its result", lambda path: path.with_suffix(".json").exists())


@dataclass(frozen=True)
class TablesConfig:
    """Train what is missing, measure it on the test users, and make the paper's tables."""

    data: Path
    """Data-set folder with semantic IDs."""
    tables: tuple[Literal["1", "2", "3", "figure3"], ...] = ("1",)
    """1 all methods, 2 reflection, 3 ablations, figure3 sensitivity."""
    methods: tuple[str, ...] = TABLE
    """Rows of Table 1; FILE.py:CLASS is one of your own."""
    ablations: tuple[str, ...] = ABLATIONS
    """Rows of Table 3; all are compared with the first."""
    coefficients: tuple[str, ...] = tuple(COEFFICIENTS)
    """Of Figure 3."""
    seeds: tuple[int, ...] = (0,)
    """Seeds to train and to average over."""
    out: Path | None = None
    """Folder for the runs and tables, one run METHOD-SEED each [runs/tables/NAME of the data set]."""
    scale: Literal["small", "tiny"] = "small"
    """How much is trained: small for real data, tiny for the generated shop."""
    seen: tuple[Seen, ...] = ("kept", "filtered")
    """Whether items of the user's own history stay in the lists of Table 1, or both; the others keep them."""
    users: int | None = None
    """Test users drawn by seed 0 [all]."""
    processes: int = 1
    """Processes that train methods, and measure them, at the same time."""
    result: str | None = None
    """Also write results/NAME_table1.json and so on, copies of the tables for the documents."""
    results: Path = RESULTS
    """The folder for them."""
    precision: Precision = "auto"
    """Matrix products: bfloat16, float32, or by what the processor can; scores are float32."""
    device: str = "cpu"
    """Where to measure, and to train what is not generative: cpu, cuda; `redraft train` chooses by itself."""


def main(config: TablesConfig) -> None:
    """Train, measure, print and write."""
    check_counts(config)
    wanted = _wanted(config)
    dataset = load_dataset(config.data)
    root = config.out or Path("runs/tables") / dataset.name
    half = use_half(config.precision, find_device(config.device))

    def task(name: str, seed: int) -> Task:
        return Task(config.data, dataset, root, name, seed, SCALES[config.scale], config.device, half)

    tasks = [task(name, seed) for seed, name in product(config.seeds, in_order(wanted))]
    for each in tasks:
        check_folder(each)
    for title in map(_title, config.tables):
        check_result(title, root)
        for suffix in ("md", "tex"):
            check_file(root / f"{title}.{suffix}", TEXT, replace=True)
        if config.result is not None:
            check_result(f"{config.result}_{title}", config.results)
    measurements = [(task(name, seed), seen) for name, seen in _measured(config) for seed in config.seeds]
    train_missing(tasks, processes=config.processes, measurements=measurements, n_users=config.users)
    makers: dict[str, Callable[[], Made]] = {
        "1": lambda: _comparison(config, task),
        "2": lambda: _reflection(config, task),
        "3": lambda: _ablation(config, task),
        "figure3": lambda: _sensitivity(config, task),
    }
    console = plain_console()
    users = "all users" if config.users is None else f"{config.users:,} users"
    protocol = f"{dataset.name}, test, {users}, {dataset.protocol}, full ranking, 200 beams, scale {config.scale}"
    if dataset.interactions.times is None:
        protocol += "; the events have no times, so HSTU's time bias is off"
    for name in config.tables:
        rows, columns = makers[name]()
        title = _title(name)
        shown = [column for column in columns if column.field in SHOWN]
        console.print(terminal_table(rows, shown, f"{title}: {protocol}"))
        about: dict[str, Any] = {"columns": columns, "protocol": protocol, "seeds": config.seeds}
        about["fingerprints"] = {"data": dataset.fingerprint}
        write_result(title, rows, folder=root, **about)
        for suffix, text in (("md", markdown_table(rows, columns)), ("tex", latex_table(rows, columns))):
            with atomic_file(root / f"{title}.{suffix}") as partial:
                partial.write_text(text + "\n", encoding="utf-8")
        console.print(f"wrote {root}/{title}.json, .md and .tex")
        if config.result is not None:
            console.print(f"wrote {write_result(f'{config.result}_{title}', rows, folder=config.results, **about)}")
    console.print(next_command("bench", "report", root, "--data", config.data))


def _title(name: str) -> str:
    return f"table{name}" if name.isdigit() else name


def _wanted(config: TablesConfig) -> list[str]:
    """The methods of all tables; raises InputError for what does not exist, before any work."""
    for coefficient in config.coefficients:
        if coefficient not in FIGURE:
            raise InputError(f"no coefficient {coefficient!r}; there are {', '.join(FIGURE)}")
    if not all((config.seeds, config.seen, config.tables, config.methods, config.ablations)):
        raise InputError("nothing to do; give at least one seed, one of kept and filtered, one table and one row")
    rows = _rows(config)
    methods = list(dict.fromkeys(name for table in config.tables for name in rows[table]))
    for name in methods:
        if not find_method(name).row:
            raise InputError(f"{name} is only trained for other methods and has no lists; leave it out")
    names = [name.rpartition(":")[2] for name in methods]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"two methods are called {twice.pop()}, and each needs a folder of its own; rename one class")
    if len(set(config.seeds)) < len(config.seeds):
        raise InputError(f"seeds are {', '.join(map(str, config.seeds))}: one comes twice; give each once")
    return methods


def _rows(config: TablesConfig) -> dict[str, Sequence[str]]:
    """The methods of each table."""
    return {
        "1": config.methods,
        "2": tuple(REFLECTION),
        "3": config.ablations,
        "figure3": [name for coefficient in config.coefficients for name in FIGURE[coefficient].values()],
    }


def _measured(config: TablesConfig) -> list[tuple[str, Seen]]:
    """The methods that the tables measure, and how."""
    how: dict[str, tuple[Seen, ...]] = {"1": config.seen, "2": (), "3": ("kept",), "figure3": ("kept",)}
    rows = _rows(config)
    return list(dict.fromkeys((name, seen) for t in config.tables for name in rows[t] for seen in how[t]))


def _comparison(config: TablesConfig, task: Callable[[str, int], Task]) -> Made:
    """Table 1: mean and standard deviation over seeds, a paired test against the best that does not correct itself."""
    rows: list[dict[str, Any]] = []
    latencies = {name: _latency(task(name, config.seeds[0]), config.users) for name in config.methods}
    for seen in config.seen:
        measured = {name: [measure(task(name, s), seen, config.users) for s in config.seeds] for name in config.methods}
        others = [name for name in measured if not find_method(name).ours]
        best = max(others, key=lambda name: _mean(measured[name], "N@10"), default=None)
        tests = {name: _test(mine, measured[best]) for name, mine in measured.items() if best and name != best}
        corrected = dict(zip(tests, holm([test["p_value"] for test in tests.values()]), strict=True))
        for name, mine in measured.items():
            published = PUBLISHED.get(task(name, 0).dataset.name, {}).get(name)
            row = {"method": find_method(name).label, "name": name, "seen": seen, **_summary(mine)}
            row["latency"] = latencies[name]
            if published:
                row |= {"published": f"{published.recall_10:.4f}/{published.ndcg_10:.4f}", "source": published.source}
            if name in tests:
                row |= tests[name] | {"p_value": float(corrected[name])}
            rows.append(row)
    spread = len(config.seeds) > 1
    return rows, [
        Column("method", "method"),
        Column("seen", "seen"),
        *metric_columns(METRICS, spread=spread),
        Column("published R@10/N@10", "published"),
        Column("N@10 over the best baseline", "gain", GAIN),
        Column("p (Holm)", "p_value", ".4f"),
        Column("weights", "weights", ","),
        Column("training s", "training", ",.0f"),
        Column("ms per user", "latency", ".1f"),
    ]


def _reflection(config: TablesConfig, task: Callable[[str, int], Task]) -> Made:
    """Table 2: Acc_loc and the accuracy of each attribute's match, beside that of the commonest label."""
    rows: list[dict[str, Any]] = []
    for name, published in REFLECTION.items():
        parts = []
        for seed in config.seeds:
            model = find_method(name).load(task(name, seed))
            assert isinstance(model, SelfCorrectingRecommender), "both methods reflect"
            [observed] = observe(
                model, test_users(task(name, seed), config.users), (model.correction,), filter_seen=False
            )
            slots = model.model.slots(model.catalogue.attribute_names)
            parts.append(reflection_rows(find_method(name).label, observed, slots))
        for same in zip(*parts):
            numbers = {key: np.mean([row[key] for row in same], axis=0).tolist() for key in same[0] if "@" in key}
            row = same[0] | numbers | {"name": name}
            theirs = {"location": published[:2], "category": published[2:]}.get(row["label"])
            rows.append(row | ({"published": f"{theirs[0]:.3f}/{theirs[1]:.3f}"} if theirs else {}))
    judged = [column for column in REFLECTION_COLUMNS if column.field != "calibration_error"]
    return rows, [*judged, Column("published Acc@5/Acc@10", "published")]


def _ablation(config: TablesConfig, task: Callable[[str, int], Task]) -> Made:
    """Table 3: each term of the reward, and the schedule, left out; a paired test against the first row, the whole."""
    measured = {name: [measure(task(name, s), "kept", config.users) for s in config.seeds] for name in config.ablations}
    whole, *others = measured
    tests = {name: _test(measured[name], measured[whole]) for name in others}
    corrected = dict(zip(tests, holm([test["p_value"] for test in tests.values()]), strict=True))
    rows = []
    for name, mine in measured.items():
        row: dict[str, Any] = {"method": find_method(name).label, "name": name, **_summary(mine)}
        if name in ABLATION:
            row["published"] = "/".join(f"{x:.3f}" for x in ABLATION[name])
        rows.append(row | (tests[name] | {"p_value": float(corrected[name])} if name in tests else {}))
    spread = len(config.seeds) > 1
    return rows, [
        Column("method", "method"),
        *metric_columns(TAIL, spread=spread),
        Column(f"N@10 over {find_method(whole).label}", "gain", GAIN),
        Column("p (Holm)", "p_value", ".4f"),
        Column("published, industrial R@5/10/100/200", "published"),
    ]


def _sensitivity(config: TablesConfig, task: Callable[[str, int], Task]) -> Made:
    """Figure 3: each coefficient at five values, the others as they are."""
    rows = [
        {
            "coefficient": coefficient,
            "value": value,
            "name": name,
            **_summary([measure(task(name, seed), "kept", config.users) for seed in config.seeds]),
        }
        for coefficient in config.coefficients
        for value, name in FIGURE[coefficient].items()
    ]
    spread = len(config.seeds) > 1
    return rows, [
        Column("coefficient", "coefficient"),
        Column("value", "value", ".1f"),
        *metric_columns(TAIL, spread=spread),
    ]


def _latency(task: Task, n_users: int | None) -> float:
    """Measured anew for each table, one method after another: at different times a machine has different loads."""
    return latency(find_method(task.name).load(task), test_users(task, n_users), task.beams(max(KS)))


def _mean(seeds: Sequence[Measured], metric: str) -> float:
    return float(np.mean([each.metrics[metric] for each in seeds]))


def _summary(seeds: Sequence[Measured]) -> dict[str, Any]:
    """Means of all metrics over the seeds, their standard deviations, and what the method costs."""
    row: dict[str, Any] = {metric: _mean(seeds, metric) for metric in seeds[0].metrics}
    if len(seeds) > 1:
        row |= {f"std {m}": float(np.std([each.metrics[m] for each in seeds], ddof=1)) for m in seeds[0].metrics}
    cost = {"weights": seeds[0].n_weights} if seeds[0].n_weights else {}
    return row | cost | {"training": float(np.mean([each.training for each in seeds]))}


def _test(mine: Sequence[Measured], others: Sequence[Measured]) -> dict[str, float]:
    """The paired difference in NDCG@10, each user's averaged over the seeds."""
    a, b = (np.stack([each.ranks for each in seeds]) for seeds in (mine, others))
    test = paired_test(a, b, 10, gain=ndcg)
    return {"gain": test.difference, "low": test.low, "high": test.high, "p_value": test.p_value}
