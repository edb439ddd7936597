"""The log of a generated shop, as far as it has come on a night: examples/nightly/shop.py FOLDER NIGHT

Writes FOLDER/events/night-N.parquet, with the columns of a service's journals, and FOLDER/items.csv. Every night some
items are new: nobody can have bought them before.
"""

import os
import sys
from pathlib import Path

import numpy as np
import polars as pl

from redraft.data.shop import generate_shop
from redraft.data.store import catalogue_to_frame

USERS, ITEMS = int(os.environ.get("SHOP_USERS", 2000)), int(os.environ.get("SHOP_ITEMS", 400))
FIRST, LATER = 0.7, 0.1
"""Of the shop's events, those before the first night, and those of every day after it."""
NEW = 0.02
"""Of the items, those that are new on every night but the first."""


def share_by(night: int) -> float:
    """How much of the log there is on a night."""
    return min(1.0, FIRST + LATER * (night - 1))


def main(folder: Path, night: int) -> None:
    """Write what is new on a night."""
    shop = generate_shop(USERS, ITEMS, seed=0).dataset
    events, items = shop.interactions, catalogue_to_frame(shop.catalogue).rename({"id": "item_id"})
    assert events.times is not None
    comes = np.ones(ITEMS, dtype=np.int64)  # the night from which on an item is sold
    late = np.random.default_rng(0).permutation(ITEMS)[: int(4 * NEW * ITEMS)]
    comes[late] = 2 + np.arange(len(late)) // max(1, int(NEW * ITEMS))

    starts, stops = (np.quantile(events.times, share_by(n)) * (n > 0) for n in (night - 1, night))
    today = (events.times >= starts) & (events.times <= stops) & (comes[events.items] <= night)
    users = np.repeat(np.arange(events.n_users), events.lengths)[today]
    log = pl.DataFrame(
        {
            "user_id": shop.user_ids.gather(users),
            "item_id": shop.catalogue.ids.gather(events.items[today]),
            "timestamp": pl.from_epoch(pl.Series(events.times[today]), time_unit="s").dt.cast_time_unit("us"),
        }
    ).with_columns(pl.col("timestamp").dt.replace_time_zone("UTC"), kind=pl.lit("purchase"))
    (folder / "events").mkdir(parents=True, exist_ok=True)
    log.write_parquet(folder / "events" / f"night-{night}.parquet")
    items.filter(pl.Series(comes <= night)).write_csv(folder / "items.csv")
    print(f"night {night}: {log.height:,} events, {(comes <= night).sum()} items, {(comes == night).sum()} of them new")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
