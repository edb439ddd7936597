"""A small service for tests: a model with random weights over thirty items, and forty users."""

import dataclasses
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from starlette.testclient import TestClient
from tiny import (
    tiny_backbone,
    tiny_catalogue,
    tiny_config,
    tiny_generator,
    tiny_generator_config,
    tiny_ids,
    tiny_interactions,
)

from redraft.baselines.hstu import HSTU, HSTUSettings
from redraft.baselines.neural import Training
from redraft.data.store import make_dataset
from redraft.evidence.drafting import Rewriting
from redraft.evidence.kinds import KINDS, columns_of
from redraft.evidence.memory import Memory
from redraft.evidence.recommender import ReflectingRecommender, known_of
from redraft.evidence.reflection import ListReflection, Shape
from redraft.recommender import GenerativeRecommender
from redraft.records import Dataset
from redraft.service.app import create_app
from redraft.service.keys import Caller, Keys
from redraft.service.live import LiveModel
from redraft.service.models import Models
from redraft.service.served import Servable, load_servable
from redraft.service.service import Service, Settings
from redraft.service.sql import SqliteStore
from redraft.service.store import Limits

__all__ = ["ALL_KEYS", "client_of", "dataset", "make_service", "recommender", "reflecting", "running"]

N_ITEMS = 30
ALL_KEYS = {
    "reader-key-0123456789": Caller("reader", frozenset({"read"})),
    "writer-key-0123456789": Caller("writer", frozenset({"read", "write"})),
    "admin-key-0123456789a": Caller("admin", frozenset({"read", "write", "admin"})),
    "user-3-key-0123456789": Caller("phone", frozenset({"read", "write"}), "user-3"),
}


def dataset(*, timed: bool = False, n_items: int = N_ITEMS) -> Dataset:
    """timed: the n-th event of a user came after n hours."""
    users, events = pl.Series("id", [f"user-{u}" for u in range(40)]), tiny_interactions(40)
    if timed:
        times = np.concatenate([3600 * np.arange(1, length + 1) for length in events.lengths])
        events = dataclasses.replace(events, times=times)
    return make_dataset("tiny", events, tiny_catalogue(n_items), users)


def recommender(seed: int = 0, **changes: Any) -> GenerativeRecommender:
    ids, catalogue = tiny_ids(N_ITEMS, 3, 5), tiny_catalogue(N_ITEMS)
    return GenerativeRecommender(tiny_backbone(tiny_config(), ids, catalogue, seed), ids, catalogue, **changes)


def reflecting(seed: int = 0) -> ReflectingRecommender:
    """Random weights but those of the tower, which reads times."""
    ids, catalogue = tiny_ids(N_ITEMS, 3, 5), tiny_catalogue(N_ITEMS)
    writer = GenerativeRecommender(tiny_generator(tiny_generator_config(), ids, catalogue, seed), ids, catalogue)
    train = dataset(timed=True).interactions
    settings = HSTUSettings(history=8, width=8, heads=2, layers=1, training=Training(epochs=1, seed=seed))
    tower = HSTU.fit(train, catalogue, settings)
    popularity = torch.from_numpy(np.bincount(train.items, minlength=N_ITEMS))
    known = known_of(writer, popularity, Memory.of(train, catalogue))
    shape = Shape(len(columns_of(tuple(KINDS), known.attribute_names)), 3, 1, hidden=8)
    torch.manual_seed(seed)
    reflection = ListReflection(shape).eval()
    for weight in reflection.parameters():
        torch.nn.init.normal_(weight, 0.0, 0.3)
    return ReflectingRecommender(writer, tower, known, reflection, tuple(KINDS), Rewriting(budget=4))


def make_service(
    folder: Path,
    clock: Callable[[], float] = time.time,
    model: Servable | None = None,
    known: Dataset | None = None,
    **settings: Any,
) -> Service:
    """Runs lie in the folder, and are read without options."""
    models = Models(LiveModel("run", model or recommender()), folder, load_servable)
    store = SqliteStore(folder / "store.sqlite", Limits(), clock)
    return Service(models, store, known or dataset(), folder, Settings(**settings), clock)


def client_of(service: Service, keys: Keys | None = None) -> TestClient:
    return TestClient(create_app(service, keys or Keys({})), raise_server_exceptions=False)


@contextmanager
def running(run: Path, *words: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`redraft serve` as a process of its own, and its address."""
    command = [sys.executable, "-m", "redraft", "serve", run, "--port", 0, *words]
    server = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        said = server.stdout.readline()
        address = re.search(r"http://\S+", said)
        assert address, said + server.stderr.read()
        yield server, address[0]
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        server.stderr.close()
