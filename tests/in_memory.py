"""What an import comes to, with the whole log in memory: what imports in parts are compared with."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from redraft.data.core import k_core
from redraft.data.raw import RawData
from redraft.data.ties import in_tie, random_order, with_previous
from redraft.ids import normal_ids

MOMENTS = ("time", "order")


@dataclass
class Built:
    items: list[int]
    offsets: list[int]
    times: list[int] | None
    user_ids: list[str]
    item_ids: list[str]
    tied: int | None
    dropped: dict[str, int]


def build(raw: RawData, *, core: int, duplicates: str, ties: str, seed: int) -> Built | str:
    """The data set, or what is wrong: "duplicate" or "nothing left"."""
    columns, distinct = zip(*(_normal(raw.events[name]) for name in ("user", "item")))
    described = pl.Series("id", [], dtype=pl.String) if raw.items is None else raw.items["id"]
    user_ids = _ordered(distinct[0])
    item_ids = _ordered(distinct[1] if core else pl.concat([distinct[1], described]).unique())
    events = (
        raw.events.with_columns(columns)
        .with_columns(
            pl.col("user").cast(pl.Enum(user_ids)).to_physical().cast(pl.Int32),
            pl.col("item").cast(pl.Enum(item_ids)).to_physical().cast(pl.Int32),
        )
        .with_row_index("row")
    )
    n_events = events.height
    events = events.sort([name for name in ("user", *MOMENTS, "row") if name in events.columns])
    if duplicates != "keep":
        timed = "time" in events.columns and duplicates != "first"
        first = events.unique(["user", "item", *(["time"] if timed else [])], keep="first", maintain_order=True)
        if duplicates == "error" and first.height < events.height:
            return "duplicate"
        events = first
    n_distinct = events.height
    if core:
        events = events.filter(k_core(events["user"].to_numpy(), events["item"].to_numpy(), core))
        if not events.height:
            return "nothing left"
    moments = [events[name].to_numpy() for name in MOMENTS if name in events.columns]
    tied = None
    if moments:
        same = with_previous(events["user"].to_numpy(), moments)
        tied = int(in_tie(same).sum())
        if ties == "random":
            events = events[random_order(same, events["user"].to_numpy(), events["item"].to_numpy(), seed=seed)]
    users, kept_users = np.unique(events["user"].to_numpy(), return_inverse=True)
    kept_items = np.unique(events["item"].to_numpy()) if core else np.arange(len(item_ids))
    dropped = {
        "duplicates": n_events - n_distinct,
        "interactions": n_distinct - events.height,
        "users": len(user_ids) - len(users),
        "items": len(item_ids) - len(kept_items),
    }
    return Built(
        np.searchsorted(kept_items, events["item"].to_numpy()).tolist(),
        [0, *np.cumsum(np.bincount(kept_users)).tolist()],
        (events["time"] // 1_000_000).to_list() if "time" in events.columns else None,
        user_ids.gather(users).to_list(),
        item_ids.gather(kept_items).to_list(),
        tied,
        dropped,
    )


def _normal(given: pl.Series) -> tuple[pl.Series, pl.Series]:
    distinct = given.unique()
    normal = normal_ids(distinct)
    return given.replace_strict(distinct, normal, return_dtype=pl.String), normal.unique()


def _ordered(ids: pl.Series) -> pl.Series:
    numbers = ids.cast(pl.Int64, strict=False)
    frame = pl.DataFrame({"id": ids, "n": numbers})
    return (frame.sort("id") if numbers.null_count() else frame.sort("n", "id"))["id"]
