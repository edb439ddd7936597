"""`redraft recommend`: lists for a history given by hand, a file of them, or users of a data set."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import tyro
from rich.table import Table

from redraft.arrays import parquet_columns, read_parquet
from redraft.checkpoint import check_same_items
from redraft.data.store import load_dataset
from redraft.decode.correction import DEFAULT_CORRECTION, Correction
from redraft.decode.engine import Plan
from redraft.engines.options import EngineOptions, engine_of
from redraft.evidence.recommender import ReflectingRecommender
from redraft.files import atomic_file
from redraft.folders import Kind, check_file
from redraft.frames import lists_frame, read_histories
from redraft.options import check_unread, fitted
from redraft.recommender import GenerativeRecommender, check_used
from redraft.records import Catalogue, Dataset, FloatArray, InputError, IntArray, Interactions, Recommendations
from redraft.runs import Loaded, load
from redraft.serve.shards import chosen_users, lists_in_parts
from redraft.terminal import next_command, plain_console
from redraft.train.progress import progress_bar

__all__ = ["RecommendConfig", "data_histories", "item_numbers", "main", "one_history", "what_scores_are"]


BATCH = 1024
COLUMNS = ["user", "rank", "item", "title", "score"]
WRITERS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    ".parquet": pl.DataFrame.write_parquet,
    ".csv": pl.DataFrame.write_csv,
}


def _are_lists(path: Path) -> bool:
    names = pl.read_csv(path, n_rows=0).columns if path.suffix == ".csv" else parquet_columns(path)
    return list(names) in (COLUMNS, [name for name in COLUMNS if name != "title"])


LISTS = Kind("lists of recommendations", _are_lists)


@dataclass(frozen=True)
class RecommendConfig(EngineOptions):
    """Recommend the next items, with a run of any recipe."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    history: tuple[str, ...] = ()
    """Item ids, oldest first."""
    history_file: Path | None = None
    """Take histories from this Parquet or CSV file: item_id, and user_id and timestamp where there are any."""
    data: Path | None = None
    """Take histories from this data set: those of the users named, or everybody's."""
    user: tuple[str, ...] = ()
    """User ids of the data set."""
    users: Path | None = None
    """Text file of user ids of the data set, one per line: lists of these users alone. Lists of a data set's users are
    written part by part: the same command goes on where it was stopped."""
    k: int = 10
    """Items per list."""
    beams: int | None = None
    """Beam budget [50, or all items of a smaller catalogue]."""
    keep_seen: bool = False
    """Allow items of the history itself."""
    correction: Correction = field(default_factory=Correction)
    """For runs that correct themselves."""
    out: Path | None = None
    """Parquet or CSV file for the lists: user, rank, item, title, score; many users' need it, or --json. The score
    is log p(item); of a run that corrects itself, log p of drafts and corrections as the policy merges them; a verifier
    adds its logit; a baseline's is its own."""
    replace: bool = False
    """Lose the lists that are in that file."""
    json: bool = False
    """Print one line of JSON per list, and nothing else."""
    device: str = "cpu"
    """Where to compute: cpu, cuda."""


def main(config: RecommendConfig) -> None:
    """Print lists in words or as JSON, or write them to a file."""
    many = (config.history_file or config.data) is not None and not config.history and not config.user
    if config.out is not None:
        _check_out(config.out, replace=config.replace)
    if many and config.out is None and not config.json:
        raise InputError("lists of many users go to a file: pass --out FILE.parquet or FILE.csv, or --json")
    if config.data is not None and many and config.out is not None and not config.json:
        _write_in_parts(config, config.data, config.out)
        return
    check_unread(config, [field.name for field in fields(EngineOptions)], "a command without --data DATA --out FILE")
    model = load(config.run, beams=config.beams, device=config.device, correction=config.correction)
    if isinstance(model, GenerativeRecommender):
        check_used({config.run: model}, config.correction)
    config = fitted(config, model.catalogue.n_items, "k")
    histories, users = _histories(config, model.catalogue)
    lists = _lists(model, histories, config)
    if config.out is not None:
        write_lists(config.out, lists_frame(users, model.catalogue, lists))
    console = plain_console()
    if config.json:
        for line in json_lines(users, lists_frame(users, model.catalogue, lists)):
            print(line)
        return
    for row in range(0 if many else histories.n_users):
        console.print(f"history of {users[row]}, oldest first:" if config.user else "history, oldest first:")
        _print_list(model, histories.history(row), lists.items[row], lists.scores[row], config.k)
    if config.out is not None:
        console.print(f"wrote {config.out}: {histories.n_users:,} users x {config.k} items")
    if isinstance(model, GenerativeRecommender | ReflectingRecommender) and config.history_file is None:
        source = ["--history", *config.history] if config.history else ["--data", config.data, "--user", users[0]]
        console.print(next_command("explain", config.run, *source, *_options(config)))


@dataclass(frozen=True)
class _Source:
    """What lists of a data set's users come from. files: of the run, as they were when the command began."""

    run: Path
    data: Path
    beams: int | None
    device: str
    correction: Correction
    files: tuple[Any, ...]


@lru_cache(maxsize=1)
def _opened(source: _Source) -> tuple[Loaded, Dataset]:
    """The run and the data set, read once in each process that makes lists of them."""
    model = load(source.run, beams=source.beams, device=source.device, correction=source.correction)
    dataset = load_dataset(source.data)
    check_same_items(source.run, model.catalogue, source.data, dataset.catalogue)
    return model, dataset


def _lists_of(source: _Source, k: int, filter_seen: bool, users: IntArray) -> pl.DataFrame:
    model, dataset = _opened(source)
    found = model.recommend(dataset.interactions.take(users), k, filter_seen=filter_seen)
    return lists_frame(dataset.user_ids.gather(users), model.catalogue, found)


def _write_in_parts(config: RecommendConfig, data: Path, out: Path) -> None:
    """Lists of a data set's users, going on from the parts that a stopped command left."""
    if config.history_file is not None:
        raise InputError("give either --history-file FILE or --data DATA")
    files = tuple(sorted((path.name, *path.stat()[6:9:2]) for path in config.run.rglob("*") if path.is_file()))
    source = _Source(config.run, data, config.beams, config.device, config.correction, files)
    try:
        model, dataset = _opened(source)
        if isinstance(model, GenerativeRecommender):
            check_used({config.run: model}, config.correction)
        config = fitted(config, model.catalogue.n_items, "k")
        chosen = chosen_users(config.users, dataset)
        asked = [config.k, config.beams, config.keep_seen, vars(config.correction), dataset.fingerprint, files]
        lists = partial(_lists_of, source, config.k, not config.keep_seen)
        shown = progress_bar("recommend", len(chosen), shown=len(chosen) > BATCH)
        with engine_of(config, default=1) as engine, shown as advance:
            gpus = int(config.device.startswith("cuda"))
            done = lists_in_parts(
                out, chosen, lists, {"asked": asked}, engine, gpus=gpus, done=partial(advance, "users")
            )
    finally:
        _opened.cache_clear()
    again = f" ({done} parts were there already)" if done else ""
    plain_console().print(f"wrote {out}: {len(chosen):,} users x {config.k} items{again}")


def _options(config: RecommendConfig) -> list[object]:
    """The flags that make `redraft explain` explain the same list."""
    words: list[object] = ["--k", config.k]
    words += ["--beams", config.beams] if config.beams is not None else []
    words += ["--keep-seen"] if config.keep_seen else []
    for name, value in vars(config.correction).items():
        words += [f"--correction.{name}", value] if value != getattr(DEFAULT_CORRECTION, name) else []
    return words + (["--device", config.device] if config.device != "cpu" else [])


def _histories(config: RecommendConfig, catalogue: Catalogue) -> tuple[Interactions, pl.Series]:
    """What is asked for, and whose it is; raises InputError unless exactly one source of histories is given."""
    given = (bool(config.history), config.history_file is not None, config.data is not None)
    if config.users is not None:
        raise InputError("--users FILE takes histories from --data DATA, and needs --out FILE.parquet or FILE.csv")
    if sum(given) != 1 or (config.user and config.data is None):
        raise InputError("give either --history ITEM ITEM ..., --history-file FILE, or --data DATA with --user USER")
    if config.data is not None:
        return data_histories(config.data, config.user, config.run, catalogue)
    if config.history_file is not None:
        return read_histories(_read_table(config.history_file), catalogue)
    return Interactions.from_lists([item_numbers(catalogue, config.history).tolist()]), pl.Series("user", ["history"])


def data_histories(data: Path, users: Sequence[str], run: Path, catalogue: Catalogue) -> tuple[Interactions, pl.Series]:
    """The histories of users of a data set, all of them if none is named. run: for messages.

    Raises InputError for an unknown user and for a data set of other items.
    """
    dataset = load_dataset(data)
    check_same_items(run, catalogue, data, dataset.catalogue)
    if not users:
        return dataset.interactions, dataset.user_ids
    rows = [dataset.user_ids.index_of(user) for user in users]
    if None in rows:
        raise InputError(f"{data}: no user {users[rows.index(None)]!r}; the first is {dataset.user_ids[0]!r}")
    return dataset.interactions.take(np.array(rows)), pl.Series("user", list(users))


def _read_table(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        return read_parquet(path)
    try:
        return pl.read_csv(path, infer_schema=False)
    except (FileNotFoundError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: not a readable table ({str(error).splitlines()[0]}); give Parquet or CSV") from None


def _lists(model: Loaded, histories: Interactions, config: RecommendConfig) -> Recommendations:
    """Lists in batches, with a bar."""
    parts = []
    with progress_bar("recommend", histories.n_users, shown=histories.n_users > BATCH and not config.json) as advance:
        for start in range(0, histories.n_users, BATCH):
            some = histories.take(slice(start, start + BATCH))
            parts.append(model.recommend(some, config.k, filter_seen=not config.keep_seen))
            advance("users", some.n_users)
    items, scores = ([getattr(part, name) for part in parts] for name in ("items", "scores"))
    return Recommendations(np.concatenate(items), np.concatenate(scores))


def _print_list(model: Loaded, history: IntArray, items: IntArray, scores: FloatArray, k: int) -> None:
    console, catalogue = plain_console(), model.catalogue
    meaning = "score: the method's own"
    if isinstance(model, GenerativeRecommender):
        history, meaning = history[-model.model.config.history :], what_scores_are(model.plan(k))
    elif isinstance(model, ReflectingRecommender):
        meaning = "score: log p(right)"
    for item in history:
        console.print(f"  {catalogue.ids[int(item)]}  {catalogue.describe(int(item))}")
    table = Table("rank", "item", "what it is", "score", title="recommended next", caption=meaning)
    for rank, (item, score) in enumerate(zip(items.tolist(), scores), start=1):
        if item >= 0:
            table.add_row(str(rank), catalogue.ids[item], catalogue.describe(item), f"{score:.2f}")
    console.print(table)


def json_lines(users: pl.Series, lists: pl.DataFrame) -> Iterator[str]:
    """One JSON object per user: user, and items with rank, item, title and score."""
    rows: dict[str, list[dict[str, Any]]] = {user: [] for user in users.to_list()}
    for row in lists.iter_rows(named=True):
        rows[row.pop("user")].append(row)
    for user, items in rows.items():
        yield json.dumps({"user": user, "items": items}, ensure_ascii=False)


def _check_out(path: Path, *, replace: bool) -> None:
    if path.suffix not in WRITERS:
        raise InputError(f"{path}: lists are written as {' or '.join(WRITERS)}; give a name that ends in one of these")
    check_file(path, LISTS, replace=replace)


def one_history(model: Loaded, run: Path, history: Sequence[str], data: Path | None, user: str | None) -> Interactions:
    """One history from ids given by hand, or of a user of a data set. run: the model's folder, for messages.

    Raises InputError for an unknown item or user, if neither or both are given, and for a data set of other items.
    """
    given = (bool(history), data is not None, user is not None)
    if given not in ((True, False, False), (False, True, True)):
        raise InputError("give either --history ITEM ITEM ... or --data DATA with --user USER")
    if data is None or user is None:
        return Interactions.from_lists([item_numbers(model.catalogue, history).tolist()])
    return data_histories(data, [user], run, model.catalogue)[0]


def item_numbers(catalogue: Catalogue, ids: Sequence[str]) -> IntArray:
    """int64 [T] item numbers of the shop's own ids; InputError names the first that is not in the catalogue."""
    numbers = []
    for position, item in enumerate(ids, start=1):
        number = catalogue.ids.index_of(item)
        if number is None:
            raise InputError(f"history: item {item!r} at position {position} is not in the catalogue; leave it out")
        numbers.append(number)
    return np.array(numbers, dtype=np.int64)


def what_scores_are(plan: Plan) -> str:
    """What lists made by this plan are ordered by, in words."""
    written = "log p(item)"
    if plan.correction is not None:
        written = f"log p of drafts and corrections, merged by {plan.correction.policy}"
    return f"score: {written}" + (f", plus {plan.trust:g} x {plan.judge}'s logit" if plan.trust else "")


def write_lists(path: Path, lists: pl.DataFrame) -> None:
    """Write lists as CSV or Parquet, by the name of the file, whole or not at all."""
    with atomic_file(path) as partial:
        WRITERS[path.suffix](lists, partial)
