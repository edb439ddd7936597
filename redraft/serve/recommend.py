"""`redraft recommend`: lists for one history given by hand, or for all users of a data set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import tyro
from rich.table import Table

from redraft.checkpoint import check_same_items
from redraft.data.store import load_dataset
from redraft.decode.engine import Plan
from redraft.decode.rewriting import DEFAULT_CORRECTION, Correction
from redraft.files import atomic_file
from redraft.folders import Kind, check_file
from redraft.recommender import GenerativeRecommender, check_used, load
from redraft.records import Catalogue, InputError, IntArray, Interactions, Recommendations
from redraft.terminal import next_command, plain_console

__all__ = ["RecommendConfig", "item_numbers", "main", "one_history", "what_scores_are"]

COLUMNS = ["user", "rank", "item", "score"]
WRITERS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    ".parquet": pl.DataFrame.write_parquet,
    ".csv": pl.DataFrame.write_csv,
}


def _are_lists(path: Path) -> bool:
    names = pl.read_csv(path, n_rows=0).columns if path.suffix == ".csv" else pl.read_parquet_schema(path)
    return list(names) == COLUMNS


LISTS = Kind("lists of recommendations", _are_lists)


@dataclass(frozen=True)
class RecommendConfig:
    """Recommend the next items."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    history: tuple[str, ...] = ()
    """Item ids, oldest first."""
    data: Path | None = None
    """Take histories from this data set instead: one user's, or everybody's if no user is named."""
    user: str | None = None
    """A user id of the data set."""
    k: int = 10
    """Items a list."""
    beams: int | None = None
    """Beam budget [50, or all items of a smaller catalogue]."""
    keep_seen: bool = False
    """Allow items of the history itself."""
    correction: Correction = field(default_factory=Correction)
    """For runs that correct themselves."""
    out: Path | None = None
    """File for the lists, .parquet or .csv: user, rank, item, score. Needed for everybody's lists. The score is log
    p(item); of a run that corrects itself, log p of drafts and corrections as the policy merges them; a verifier adds
    its logit."""
    replace: bool = False
    """Lose the lists that are in that file."""
    device: str = "cpu"
    """Where to compute: cpu, cuda."""


def main(config: RecommendConfig) -> None:
    """Print one user's list in words, or write everybody's to a file."""
    if config.out is not None:
        _check_out(config.out, replace=config.replace)
    model = load(config.run, beams=config.beams, device=config.device, correction=config.correction)
    check_used({config.run: model}, config.correction)
    console = plain_console()
    if config.data is not None and config.user is None and not config.history:
        if config.out is None:
            raise InputError(
                "lists for all users of a data set go to a file: pass --out FILE.parquet, or name a --user"
            )
        dataset = load_dataset(config.data)
        check_same_items(config.run, model.catalogue, config.data, dataset.catalogue)
        found = model.recommend(dataset.interactions, config.k, filter_seen=not config.keep_seen)
        write_lists(config.out, dataset.user_ids, model.catalogue, found)
        console.print(f"wrote {config.out}: {dataset.interactions.n_users:,} users x {config.k} items")
        asked = ["--data", config.data, "--user", dataset.user_ids[0]]
        console.print(next_command("explain", config.run, *asked, *_options(config)))
        return
    history = one_history(model, config.run, config.history, config.data, config.user)
    found = model.recommend(Interactions.from_lists([history.tolist()]), config.k, filter_seen=not config.keep_seen)
    console.print("history, oldest first:")
    for item in history[-model.model.config.history :]:
        console.print(f"  {model.catalogue.ids[int(item)]}  {model.catalogue.describe(int(item))}")
    meaning = what_scores_are(model.plan(config.k))
    table = Table("rank", "item", "what it is", "score", title="recommended next", caption=meaning)
    for rank, (item, score) in enumerate(zip(found.items[0], found.scores[0]), start=1):
        if item >= 0:
            name = model.catalogue.describe(int(item))
            table.add_row(str(rank), model.catalogue.ids[int(item)], name, f"{score:.2f}")
    console.print(table)
    if config.out is not None:
        write_lists(config.out, pl.Series("user", [config.user or "history"]), model.catalogue, found)
        console.print(f"wrote {config.out}")
    asked = ["--history", *config.history] if config.history else ["--data", config.data, "--user", config.user]
    console.print(next_command("explain", config.run, *asked, *_options(config)))


def _options(config: RecommendConfig) -> list[object]:
    """The flags that make `redraft explain` explain the same list."""
    words: list[object] = ["--k", config.k]
    words += ["--beams", config.beams] if config.beams is not None else []
    words += ["--keep-seen"] if config.keep_seen else []
    for name, value in vars(config.correction).items():
        words += [f"--correction.{name}", value] if value != getattr(DEFAULT_CORRECTION, name) else []
    return words + (["--device", config.device] if config.device != "cpu" else [])


def _check_out(path: Path, *, replace: bool) -> None:
    if path.suffix not in WRITERS:
        raise InputError(f"{path}: lists are written as {' or '.join(WRITERS)}; give a name that ends in one of these")
    check_file(path, LISTS, replace=replace)


def one_history(
    model: GenerativeRecommender, run: Path, history: Sequence[str], data: Path | None, user: str | None
) -> IntArray:
    """Item numbers from ids given by hand, or from a user of a data set. run: the model's folder, for messages.

    Raises InputError for an unknown item or user, if neither or both are given, and for a data set of other items.
    """
    given = (bool(history), data is not None, user is not None)
    if given not in ((True, False, False), (False, True, True)):
        raise InputError("give either --history ITEM ITEM ... or --data DATA with --user USER")
    if data is None:
        return item_numbers(model.catalogue, history)
    dataset = load_dataset(data)
    check_same_items(run, model.catalogue, data, dataset.catalogue)
    found = dataset.user_ids.index_of(user)
    if found is None:
        raise InputError(f"{data}: no user {user!r}; the first is {dataset.user_ids[0]!r}")
    return np.asarray(dataset.interactions.history(found))


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
    if plan.rewriting is not None:
        written = f"log p of drafts and corrections, merged by {plan.rewriting.policy}"
    return f"score: {written}" + (f", plus {plan.trust:g} x {plan.judge}'s logit" if plan.trust else "")


def write_lists(path: Path, user_ids: pl.Series, catalogue: Catalogue, found: Recommendations) -> None:
    """One row a recommended item, as Parquet or CSV by the name's end: user, rank from 1, item, score."""
    n_users, k = found.items.shape
    frame = pl.DataFrame(
        {
            "user": user_ids.gather(np.repeat(np.arange(n_users), k)),
            "rank": np.tile(np.arange(1, k + 1), n_users),
            "number": found.items.ravel(),
            "score": found.scores.ravel(),
        }
    ).filter(pl.col("number") >= 0)
    frame = frame.with_columns(catalogue.ids.gather(frame["number"]).alias("item"))
    with atomic_file(path) as partial:
        WRITERS[path.suffix](frame.select(COLUMNS), partial)
