"""A small world to reflect in: a data set, a generator and a tower that learnt from it, and quick settings."""

from pathlib import Path

import polars as pl
from tiny import tiny_catalogue, tiny_generator, tiny_generator_config, tiny_ids

from redraft.baselines.fitted import BaselineRecommender
from redraft.baselines.hstu import HSTU, HSTUSettings
from redraft.baselines.neural import Training
from redraft.data.split import leave_one_out
from redraft.data.store import load_dataset, make_dataset, save_dataset
from redraft.evidence.fit import FitSettings
from redraft.files import write_json
from redraft.recommender import GenerativeRecommender
from redraft.records import Interactions
from redraft.train.reflect import ReflectConfig

N_ITEMS = 30
QUICK = FitSettings(epochs=6, hidden=16, labelled=4)


def a_world(folder: Path, events: Interactions) -> ReflectConfig:
    """A data set, and on its training events a generator and a tower."""
    ids, catalogue = tiny_ids(N_ITEMS, 3, 8), tiny_catalogue(N_ITEMS)
    users = pl.Series("id", [f"user-{u}" for u in range(events.n_users)])
    save_dataset(make_dataset("tiny", events, catalogue, users), folder / "data", source="test")
    about = {"config": {"method": "hstu"}, "fingerprints": {"data": load_dataset(folder / "data").fingerprint}}
    writer = GenerativeRecommender(tiny_generator(tiny_generator_config(), ids, catalogue), ids, catalogue)
    writer.save(folder / "generator")
    write_json(folder / "generator" / "config.json", about | {"config": {}})
    settings = HSTUSettings(history=8, width=8, heads=2, layers=1, training=Training(epochs=1))
    tower = HSTU.fit(leave_one_out(events).train, catalogue, settings)
    BaselineRecommender(tower, catalogue).save(folder / "tower")
    write_json(folder / "tower" / "config.json", about)
    return ReflectConfig(
        folder / "data", folder / "run", run=folder / "generator", tower=folder / "tower", beams=10, fit=QUICK
    )
