"""The steps of a night that others do the work of: import, semantic IDs, lists."""

from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import sha256
from typing import Any

import polars as pl

from redraft.arrays import parquet_columns, read_parquet
from redraft.data.importer import Duplicates, ImportConfig, import_dataset
from redraft.data.raw import Columns
from redraft.data.store import load_dataset
from redraft.engines.options import EngineOptions, engine_of
from redraft.engines.tasks import UnfinishedError
from redraft.frames import lists_frame
from redraft.ids import places_among
from redraft.nightly.gathering import EVENTS, ITEMS, LISTED
from redraft.nightly.learning import FirstConfig
from redraft.nightly.night import Night
from redraft.options import fitted
from redraft.recommender import GenerativeRecommender, load
from redraft.records import BoolArray, Dataset, InputError, IntArray
from redraft.serve.shards import chosen_users, lists_in_parts
from redraft.tokenizer.frozen import appended
from redraft.tokenizer.semantic_ids import save_semantic_ids
from redraft.train.progress import progress_bar
from redraft.train.tokenize import item_vectors, kmeans_ids

__all__ = ["LISTS", "import_events", "make_ids", "write_lists"]

LISTS = "lists.parquet"
DIM = 64


def import_events(
    night: Night, found: dict[str, Any], duplicates: Duplicates, options: EngineOptions
) -> dict[str, Any]:
    """Import what was gathered into the night's data set, split at the moments that were found.

    Returns its fingerprint, and what the import has to say. Raises InputError as the import; what that refuses is
    gathered anew by the next try.
    """
    items = night.notes / ITEMS
    attributes = [name for name in parquet_columns(items) if name not in ("item_id", "title", "description", LISTED)]
    config = ImportConfig(
        "table",
        night.notes / EVENTS,
        night.data,
        name=night.folder.resolve().name,
        duplicates=duplicates,
        items=items,
        columns=Columns(title="title", description="description", attributes=tuple(attributes)),
        split="time",
        validation_from=_date(found["validation_from"]),
        test_from=_date(found["test_from"]),
        replace=True,
        engine=options.engine,
        address=options.address,
        processes=options.processes,
    )
    try:
        dataset, account = import_dataset(config)
    except UnfinishedError:
        raise
    except InputError:
        night.undo("events")
        raise
    said = [*account.lines(), *(f"warning: {warning}" for warning in account.warnings())]
    return {"fingerprint": dataset.fingerprint, "said": said}


def make_ids(night: Night, dataset: Dataset, first: FirstConfig, seed: int) -> dict[str, Any]:
    """Give every item its semantic ID: new items beside those of the model in service, all of them on the first night.

    The first night's are made by residual k-means, since what its codes stand for can be read back from them.
    """
    catalogue, source = dataset.catalogue, {"night": night.name, "data_fingerprint": dataset.fingerprint}
    if night.parent is None:
        first = fitted(first, catalogue.n_items, "codebook_size")
        vectors = item_vectors(catalogue, "tfidf", dim=DIM, allow_empty=True, seed=seed, source=night.data)
        ids, _ = kmeans_ids(vectors, levels=first.levels, codebook_size=first.codebook_size, seed=seed)
        new, made = ids.n_items, {"method": "kmeans"}
    else:
        known = load(night.parent.run)
        if known.catalogue.attribute_names != catalogue.attribute_names:
            raise InputError(
                f"{night.data}: items have the attributes {catalogue.attribute_names}, and the model in service knows "
                f"{known.catalogue.attribute_names}; give the same table of items and --attributes as before"
            )
        ids = appended(known.catalogue, known.ids, catalogue)
        new = ids.n_items - known.ids.n_items
        made = {"method": "appended", "parent": known.ids.fingerprint, "parent_night": night.parent.name}
    save_semantic_ids(ids, night.data / "semantic_ids.safetensors", source=source | made)
    return {"fingerprint": ids.fingerprint, "items": ids.n_items, "new": new}


def write_lists(night: Night, k: int, device: str, options: EngineOptions) -> dict[str, Any]:
    """Write lists of all users, of items that are sold now, going on from the shards that are there."""
    night = Night(night.folder.absolute(), night.name)
    try:
        model, dataset, sold = _opened(night, device)
        users = chosen_users(None, dataset)
        lists = partial(_lists_of, night, device, min(k, model.catalogue.n_items))
        about = {
            "data": dataset.fingerprint,
            "model": night.done("model"),
            "sold": sha256(sold.tobytes()).hexdigest(),
            "k": k,
        }
        with engine_of(options, default=1) as engine, progress_bar("lists", len(users)) as advance:
            gpus, done = int(device.startswith("cuda")), partial(advance, "users")
            lists_in_parts(night.run / LISTS, users, lists, about, engine, gpus=gpus, done=done)
    finally:
        _opened.cache_clear()
    return {"users": len(users), "items": int(sold.sum())}


@lru_cache(maxsize=1)
def _opened(night: Night, device: str) -> tuple[GenerativeRecommender, Dataset, BoolArray]:
    """A night's run and data set, and bool [N], which items are sold; read once in each process that makes lists."""
    dataset = load_dataset(night.data)
    items = read_parquet(night.notes / ITEMS, ("item_id", LISTED))
    sold = places_among(items.filter(LISTED)["item_id"], dataset.catalogue.ids) >= 0
    return load(night.run, device=device), dataset, sold


def _lists_of(night: Night, device: str, k: int, users: IntArray) -> pl.DataFrame:
    model, dataset, sold = _opened(night, device)
    found = model.recommend(dataset.interactions.take(users), k, allow=sold)
    return lists_frame(dataset.user_ids.gather(users), model.catalogue, found)


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
