"""From your own events to recommendations, with the Python API instead of the command line."""

from dataclasses import replace
from pathlib import Path

import polars as pl

import redraft
from redraft.data.importer import ImportConfig, import_dataset
from redraft.recipes import tiny
from redraft.records import Interactions
from redraft.train import pretrain, tokenize

folder = Path("runs/own")
folder.mkdir(parents=True, exist_ok=True)
events = pl.DataFrame(
    [(f"user{u}", f"item{(u + 3 * t) % 40}", t) for u in range(200) for t in range(8)],
    schema=["user_id", "item_id", "timestamp"],
    orient="row",
)
items = pl.DataFrame({"item_id": [f"item{i}" for i in range(40)], "title": [f"thing number {i}" for i in range(40)]})
events.write_parquet(folder / "events.parquet")
items.write_parquet(folder / "items.parquet")

import_dataset(
    ImportConfig("table", folder / "events.parquet", folder / "data", items=folder / "items.parquet", replace=True)
)
tokenize.main(tokenize.TokenizeConfig(folder / "data", method="kmeans", levels=3, codebook_size=16, replace=True))
pretrain.main(replace(tiny(folder / "data", folder / "run"), epochs=10, batch_size=128, replace=True))

model = redraft.load(folder / "run")
bought = [model.catalogue.ids.index_of(name) for name in ("item5", "item8", "item11")]  # everybody goes on by threes
found = model.recommend(Interactions.from_lists([bought]), k=3)
print("recommended next:", [model.catalogue.describe(item) for item in found.items[0].tolist()])
