"""The Python API: the same functions and configs that the command line is made of, with data frames in and out.

`import redraft` offers these names; redraft.import_data, tokenize, train, load, recommend and evaluate are the road
from logs to lists.
"""

import dataclasses
import os
import reprlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args, get_type_hints

import polars as pl
import tyro

from redraft import recipes
from redraft.bench.tables.comparable import check_learnt
from redraft.bench.tables.evaluate import evaluate_methods
from redraft.checkpoint import check_same_items
from redraft.data import shop
from redraft.data.importer import ImportConfig, Kind, import_dataset
from redraft.data.raw import Columns
from redraft.data.split import split_of
from redraft.data.store import load_dataset
from redraft.frames import Histories, is_frame, lists_frame, read_histories
from redraft.methods.registry import COUNTED, fit_counted
from redraft.options import fits
from redraft.records import Dataset, InputError, Interactions, Recommender, SemanticIds
from redraft.runs import Loaded, load
from redraft.tokenizer.semantic_ids import load_semantic_ids
from redraft.train.tokenize import TokenizeConfig
from redraft.train.tokenize import main as make_semantic_ids

__all__ = [
    "InputError",
    "Interactions",
    "evaluate",
    "import_data",
    "load",
    "load_data",
    "make_shop",
    "recommend",
    "tokenize",
    "train",
]

AnyPath = str | os.PathLike[str]
LISTED = 10
"""Items of a list, where nobody says how many."""


def import_data(events: Any, out: AnyPath, *, items: Any = None, kind: Kind = "table", **options: Any) -> Dataset:
    """Write a data set from logs, and open it.

    events: a data frame (polars, pandas, pyarrow), or the path of a Parquet, CSV or TSV file, with a row per event and
    the columns user_id, item_id and timestamp; with another `kind`, what `redraft data import KIND` reads.
    out: the data-set folder to write. items: a data frame or file with a row per item: item_id, title, description.
    options: those of `redraft data import`, such as user="customer", time=None, attributes=("brand",), core=5.
    Warns of what looks wrong, such as few events of a described item. Raises InputError for what cannot be used, before
    anything is written.
    """
    with _file_of(events, "events") as src, _file_of(items, "items") as described:
        names = {field.name for field in dataclasses.fields(Columns)}
        columns = {name: value for name, value in options.items() if name in names}
        others = {name: value for name, value in options.items() if name not in names}
        if src is None or kind not in get_args(Kind):
            raise InputError(f"no events to read as {kind!r}; give events, of kind {' or '.join(get_args(Kind))}")
        config = ImportConfig(kind, src, Path(out), items=described)
        dataset, account = import_dataset(_with_options(config, {**others, "columns": columns}, "import_data"))
    for warning in account.warnings():
        warnings.warn(warning, stacklevel=2)
    return dataset


def make_shop(out: AnyPath, *, users: int = 3000, items: int = 800, seed: int = 0, replace: bool = False) -> Dataset:
    """Write the embedded data set, a generated shop of any size, and open it; see `redraft.data.shop`."""
    options = {"users": users, "items": items, "seed": seed, "replace": replace}
    shop.main(_with_options(shop.ShopConfig(Path(out)), options, "make_shop"))
    return load_dataset(Path(out))


def load_data(path: AnyPath) -> Dataset:
    """Open a data-set folder; events stay on disk, memory-mapped. Raises InputError if it is none."""
    return load_dataset(Path(path))


def tokenize(data: AnyPath, **options: Any) -> SemanticIds:
    """Give every item of a data set its semantic ID, and write them into its folder.

    options: those of `redraft tokenize`, such as method="kmeans", levels=3, codebook_size=64, rqvae={"epochs": 50}.
    """
    config = _with_options(TokenizeConfig(Path(data)), options, "tokenize")
    make_semantic_ids(config)
    return load_semantic_ids(config.out or config.data / "semantic_ids.safetensors")


def train(recipe: str, data: AnyPath, out: AnyPath, **options: Any) -> Loaded:
    """Train a recommender on a tokenized data set, write its run folder, and load it.

    recipe: a name in `redraft.recipes.RECIPES`: "small" or "tiny" for a backbone, "grc" to teach one to correct itself.
    options: the knobs of the recipe, those of `redraft train RECIPE`, such as epochs=3, model={"width": 64},
    backbone="runs/small", resume=True.
    Raises InputError for an unknown recipe or option, and as the training itself does.
    """
    if recipe not in recipes.RECIPES:
        raise InputError(f"no recipe {recipe!r}; there are {', '.join(recipes.RECIPES)}")
    config = _with_options(recipes.RECIPES[recipe](Path(data), Path(out)), options, f"recipe {recipe!r}")
    needed = [field.name for field in dataclasses.fields(config) if getattr(config, field.name) is tyro.MISSING]
    if needed:
        raise InputError(f"recipe {recipe!r} needs a run to start from; pass {needed[0]}=FOLDER")
    recipes.train(config)
    return load(Path(out))


def recommend(
    model: Loaded | AnyPath,
    histories: Histories,
    k: int | None = None,
    *,
    filter_seen: bool = True,
    user: str = "user_id",
    item: str = "item_id",
    time: str = "timestamp",
) -> pl.DataFrame:
    """The k best next items for each history, as a data frame: user, rank from 1, item, title, score.

    k: how many [10, or all items of a smaller catalogue].
    model: a loaded model or a run folder. histories: external item ids, oldest first, as lists, arrays, a data frame, a
    data set; see `redraft.frames.read_histories`. filter_seen: leave out what the history holds.
    Raises InputError for an unknown item and for k above the catalogue.
    """
    loaded = _model(model)
    wanted = min(LISTED, loaded.catalogue.n_items) if k is None else k
    interactions, users = read_histories(histories, loaded.catalogue, user=user, item=item, time=time)
    return lists_frame(users, loaded.catalogue, loaded.recommend(interactions, wanted, filter_seen=filter_seen))


def evaluate(
    models: Recommender | AnyPath | Mapping[str, Recommender | AnyPath] | Sequence[Recommender | AnyPath],
    data: Dataset | AnyPath,
    *,
    baselines: Sequence[str] = (),
    split: Literal["test", "validation"] = "test",
) -> pl.DataFrame:
    """Recall and NDCG on held-out next items: leave-one-out, full ranking, seen items kept and filtered.

    models: a model or run folder, several, or {name: model}. data: a data set or its folder. baselines: "popularity",
    "markov", "itemknn", fitted on the training events. split: what to predict, each user's last item or the one before.
    Returns a row per method and protocol: method, seen, unreachable, R@5, N@5, R@10, ...; see `evaluate_methods`.
    Raises InputError for a model of other items, and for a run that learnt from other events: it may know the answers.
    """
    dataset = data if isinstance(data, Dataset) else load_dataset(Path(data))
    parts = split_of(dataset)
    unknown = [name for name in baselines if name not in COUNTED]
    if unknown:
        raise InputError(f"no counted baseline {unknown[0]!r}; there are {', '.join(COUNTED)}; give others as models")
    methods: dict[str, Recommender] = {name: fit_counted(name, parts.train, dataset.catalogue) for name in baselines}
    for name, model in _named(models).items():
        if isinstance(model, str | os.PathLike):
            check_learnt(Path(model), Path(dataset.name), dataset.fingerprint, other_events=False)
        methods[name] = loaded = _model(model)
        if isinstance(loaded, Loaded):
            check_same_items(Path(name), loaded.catalogue, Path(dataset.name), dataset.catalogue)
    holdout = parts.test if split == "test" else parts.validation
    return pl.DataFrame(evaluate_methods(methods, holdout, dataset.catalogue.n_items))


def _model(model: Any) -> Any:
    if isinstance(model, str | os.PathLike):
        return load(Path(model))
    if not hasattr(model, "recommend"):
        raise InputError(f"{reprlib.repr(model)} is no model; give a model or a run folder")
    return model


def _named(models: Any) -> dict[str, Any]:
    """{name: model}; a run folder is called by its own name, a model by the name of its class."""
    if isinstance(models, Mapping):
        return dict(models)
    several = models if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    named = {Path(m).name if isinstance(m, str | os.PathLike) else type(m).__name__: m for m in several}
    if len(named) < len(several):
        raise InputError("two models would have the same name in the table; give {name: model}")
    return named


@contextmanager
def _file_of(table: Any, name: str) -> Iterator[Any]:
    """The path of a table: its own, None if there is none, or a Parquet file while the block runs for a data frame."""
    if not is_frame(table):
        if not isinstance(table, str | os.PathLike | None):
            raise InputError(f"{name} are a {type(table).__name__}; give a data frame or the path of a file")
        yield None if table is None else Path(table)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.parquet"
        pl.DataFrame(table).write_parquet(path)
        try:
            yield path
        except InputError as error:
            raise InputError(str(error).replace(str(path), name)) from None


def _with_options(config: Any, options: Mapping[str, Any], whose: str) -> Any:
    """A config with some fields changed: a mapping changes fields of a nested config, text becomes a path where due."""
    types, names = get_type_hints(type(config)), [field.name for field in dataclasses.fields(config)]
    changed = {}
    for name, value in options.items():
        if name not in names:
            raise InputError(f"{whose} has no option {name!r}; there are {', '.join(names)}")
        if dataclasses.is_dataclass(getattr(config, name)) and isinstance(value, Mapping):
            value = _with_options(getattr(config, name), value, f"{name} of {whose}")
        elif isinstance(value, str) and Path in (types[name], *get_args(types[name])):
            value = Path(value)
        elif isinstance(value, list | tuple):
            value = tuple(Path(v) if Path in get_args(types[name]) else v for v in value)
        if not fits(value, types[name]):
            kind = getattr(types[name], "__name__", "") if not get_args(types[name]) else ""
            wanted = kind or str(types[name]).replace("typing.", "").replace("pathlib.", "")
            raise InputError(f"{name} of {whose} is {reprlib.repr(value)}; it must be {wanted}")
        changed[name] = value
    return dataclasses.replace(config, **changed)
