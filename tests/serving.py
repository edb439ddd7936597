"""A small service for tests: a model with random weights over thirty items, and forty users."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from starlette.testclient import TestClient
from tiny import tiny_backbone, tiny_catalogue, tiny_config, tiny_ids, tiny_interactions

from redraft.data.store import make_dataset
from redraft.recommender import GenerativeRecommender, load
from redraft.records import Dataset
from redraft.service.app import create_app
from redraft.service.keys import Caller, Keys
from redraft.service.live import LiveModel
from redraft.service.models import Models
from redraft.service.service import Service, Settings
from redraft.service.sql import SqliteStore
from redraft.service.store import Limits

__all__ = ["ALL_KEYS", "client_of", "dataset", "make_service", "recommender"]

N_ITEMS = 30
ALL_KEYS = {
    "reader-key-0123456789": Caller("reader", frozenset({"read"})),
    "writer-key-0123456789": Caller("writer", frozenset({"read", "write"})),
    "admin-key-0123456789a": Caller("admin", frozenset({"read", "write", "admin"})),
    "user-3-key-0123456789": Caller("phone", frozenset({"read", "write"}), "user-3"),
}


def dataset() -> Dataset:
    users = pl.Series("id", [f"user-{u}" for u in range(40)])
    return make_dataset("tiny", tiny_interactions(40), tiny_catalogue(N_ITEMS), users)


def recommender(seed: int = 0, **changes: Any) -> GenerativeRecommender:
    ids, catalogue = tiny_ids(N_ITEMS, 3, 5), tiny_catalogue(N_ITEMS)
    return GenerativeRecommender(tiny_backbone(tiny_config(), ids, catalogue, seed), ids, catalogue, **changes)


def make_service(folder: Path, clock: Callable[[], float] = time.time, **settings: Any) -> Service:
    """Runs lie in the folder, and are read without options."""
    models = Models(LiveModel("run", recommender()), folder, load)
    store = SqliteStore(folder / "store.sqlite", Limits(), clock)
    return Service(models, store, dataset(), folder, Settings(**settings), clock)


def client_of(service: Service, keys: Keys | None = None) -> TestClient:
    return TestClient(create_app(service, keys or Keys({})), raise_server_exceptions=False)
