"""Methods of the tables: trained where they are missing, measured where that is missing."""

import hashlib
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch

from redraft.bench.measure import seconds
from redraft.data.split import sample_users, split_of
from redraft.eval.evaluate import evaluate, save_ranks
from redraft.eval.metrics import KS
from redraft.files import read_json, write_json
from redraft.folders import alone_in, held_in
from redraft.methods.registry import find_method
from redraft.methods.task import Method, Task
from redraft.recommender import GenerativeRecommender
from redraft.records import Holdout, InputError, IntArray, Recommender
from redraft.train.progress import read_metrics

__all__ = [
    "Measured",
    "Seen",
    "check_folder",
    "in_order",
    "latency",
    "measure",
    "most_needed_first",
    "ranks",
    "run_all",
    "test_users",
    "train_missing",
]

Seen = Literal["kept", "filtered"]
LATENCY_CALLS = 30


@dataclass(frozen=True)
class Measured:
    """What one method with one seed does on the test users.

    metrics: {"R@5": ...}. ranks: int64 [U]. n_weights: 0 for counts. training: seconds, of itself and all it starts
    from.
    """

    metrics: dict[str, float]
    ranks: IntArray
    n_weights: int
    training: float


def in_order(names: Sequence[str]) -> list[str]:
    """The methods with all that they need, each after what it needs."""
    ordered: dict[str, None] = {}
    for name in names:
        ordered |= dict.fromkeys(in_order(find_method(name).needs)) | {name: None}
    return list(ordered)


def check_folder(task: Task) -> None:
    """Raise InputError if a task's folder holds what is not its run on its data."""
    if not held_in(task.folder) or find_method(task.name).weights:
        return
    if not (task.folder / "config.json").exists():
        raise InputError(
            f"{task.folder}: half-written, it has no config.json; remove the folder to train {task.name} again"
        )
    if read_json(task.folder / "config.json")["fingerprints"]["data"] != task.dataset.fingerprint:
        raise InputError(f"{task.folder}: trained on other data than {task.data}; give another --out or remove it")


def train_missing(
    tasks: Sequence[Task], *, processes: int, measurements: Sequence[tuple[Task, Seen]] = (), n_users: int | None = None
) -> None:
    """Train all that is not trained yet, each after what it needs: in order, or so many at a time.

    measurements: what several processes also measure whenever no training is ready; a single one leaves it out.
    Raises InputError, naming the run, if one fails; the others are trained all the same, but for what needs it.
    """
    waiting = [task for task in tasks if not (task.folder / "trained.json").exists()]
    if processes == 1:
        for task in waiting:
            _train(task)
        return
    threads = max(1, (os.cpu_count() or 1) // processes)
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(threads,)) as pool:
            failures = run_all(pool, processes, most_needed_first(waiting), measurements, n_users)
    except BrokenProcessPool as error:
        raise InputError(
            f"one of {processes} processes was killed, most likely for memory; try again with fewer, "
            "what is done is kept"
        ) from error
    for task, failure in failures.items():
        if isinstance(failure, InputError):
            raise InputError(f"{task.folder}: {failure}") from failure
        failure.add_note(f"in {task.folder}")
        raise failure


def _begin(threads: int) -> None:
    """Of a process that trains: Ctrl-C ends it without a word, because the first process says what there is to say."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(threads)


def run_all(
    pool: Executor,
    processes: int,
    trainings: Sequence[Task],
    measurements: Sequence[tuple[Task, Seen]],
    n_users: int | None,
) -> dict[Task, BaseException]:
    """Train in the order given as soon as what is needed is there, measure in between, and return what failed.

    Raises BrokenProcessPool if a process dies.
    """
    needed = {task: {task.of(name) for name in find_method(task.name).needs} & {*trainings} for task in trainings}
    order = TopologicalSorter(needed)
    order.prepare()
    undone, unmeasured, ready = {*trainings}, list(measurements), list[Task]()
    running: dict[Future[Any], Task] = {}
    failures: dict[Task, BaseException] = {}
    while True:
        ready = sorted([*ready, *order.get_ready()], key=trainings.index)
        while len(running) < processes and ready:
            task = ready.pop(0)
            running[pool.submit(_train, task)] = task
        while len(running) < processes and (ask := next((a for a in unmeasured if a[0] not in undone), None)):
            unmeasured.remove(ask)
            running[pool.submit(measure, *ask, n_users)] = ask[0]
        if not running:
            return failures
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            task = running.pop(future)
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                raise error
            if error:
                failures[task] = error
            elif task in undone:
                undone.remove(task)
                order.done(task)


def most_needed_first(tasks: Sequence[Task]) -> list[Task]:
    """The tasks by how many of them cannot do without one, so that long chains start early."""
    needs = {name: in_order([name]) for name in {task.name for task in tasks}}
    return sorted(tasks, key=lambda task: -sum(task.name in needs[other.name] for other in tasks))


def _train(task: Task) -> None:
    method, path = find_method(task.name), task.folder / "trained.json"
    with alone_in(task.folder):
        spent = seconds(lambda: method.train(task))
    if not method.weights:
        write_json(path, {"seconds": max(spent, _logged_seconds(task.folder / "metrics.jsonl"))})


def _logged_seconds(log: Path) -> float:
    """What a training loop's log says that it took, over all times it was resumed."""
    return max((float(line["seconds"]) for line in read_metrics(log)), default=0.0)


def test_users(task: Task, n_users: int | None) -> Holdout:
    """The test holdout, or so many of its users, drawn by seed 0."""
    test = split_of(task.dataset).test
    return test if n_users is None else sample_users(test, n_users, 0)


def measure(task: Task, seen: Seen, n_users: int | None) -> Measured:
    """Evaluate a trained method, or read what was measured before of these weights and this way of making lists.

    Raises InputError if that was under another protocol.
    """
    method, path = find_method(task.name), task.folder / f"test-{seen}.json"
    recommender = method.load(task)
    ks = [k for k in KS if k <= task.dataset.catalogue.n_items]
    about = {
        "data": task.dataset.fingerprint,
        "split": "test",
        "seen": seen,
        "users": n_users,
        "weights": _hash(method, task),
        "lists": asdict(recommender.plan(max(ks))) if isinstance(recommender, GenerativeRecommender) else None,
    }
    if path.exists():
        _check_protocol(path, read_json(path)["about"], about)
    if not path.exists() or read_json(path)["about"] != about:
        holdout = test_users(task, n_users)
        evaluation = evaluate(recommender, holdout, ks=ks, filter_seen=seen == "filtered")
        save_ranks(task.folder / f"ranks-{seen}.parquet", holdout, evaluation.ranks)
        content = {"about": about, "metrics": evaluation.metrics, "unreachable": evaluation.n_unreachable}
        write_json(path, content | {"weights": _n_weights(recommender)})
    content = read_json(path)
    needed = [task.of(name).folder / "trained.json" for name in in_order([task.name])]
    training = sum(read_json(each)["seconds"] for each in needed if each.exists())
    return Measured(content["metrics"], ranks(task, seen), content["weights"], training)


def ranks(task: Task, seen: Seen) -> IntArray:
    """int64 [U]: each user's rank of the target as `measure` found it, -1 where it was not in the list."""
    return pl.read_parquet(task.folder / f"ranks-{seen}.parquet")["rank"].fill_null(-1).to_numpy()


def _check_protocol(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    for name in ("data", "users"):
        if before[name] != now[name]:
            raise InputError(
                f"{path}: measured with other {name} ({before[name] or 'all'}, now {now[name] or 'all'}), and one "
                "table has one protocol; remove the file to measure again"
            )


def _hash(method: Method, task: Task) -> str:
    folder = task.of(method.weights or task.name).folder
    [path] = [p for p in (folder / "model.safetensors", folder / "fitted" / "model.safetensors") if p.exists()]
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _n_weights(recommender: Recommender) -> int:
    network = getattr(recommender, "network", None) or getattr(recommender, "model", None)
    return sum(weight.numel() for weight in network.parameters()) if isinstance(network, torch.nn.Module) else 0


def latency(recommender: Recommender, holdout: Holdout, k: int) -> float:
    """Median milliseconds of a call for one user, after calls to warm up."""
    one = [holdout.histories.take(np.array([user % len(holdout.targets)])) for user in range(LATENCY_CALLS)]
    taken = []
    for histories in (*one[:3], *one):
        started = time.perf_counter()
        recommender.recommend(histories, k, filter_seen=False)
        taken.append(time.perf_counter() - started)
    return 1000 * float(np.median(taken[3:]))
