"""A generated shop: the data set that is always there, any size, and whose best possible recommender is known.

The catalogue is a tree of departments, categories and leaves with brands, titles and descriptions made from word
lists; shop_process.py says how its customers choose.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import tyro

from redraft.data.shop_process import Oracle, ShopProcess, draw_process, simulate
from redraft.data.store import catalogue_from_frame, load_dataset, load_meta, make_dataset, save_dataset
from redraft.folders import DATASET, check_replace
from redraft.options import check_counts
from redraft.records import Catalogue, Dataset, InputError, IntArray
from redraft.terminal import next_command, plain_console

__all__ = ["Shop", "ShopConfig", "generate_shop", "load_oracle", "main"]

SHORTEST, LONGEST, MEAN_LENGTH = 5, 30, 12  # events per user

TREE = {
    "Outdoor": {
        "Camping": ("tent", "sleeping bag", "camping stove"),
        "Hiking": ("hiking boot", "backpack", "trekking pole"),
        "Climbing": ("climbing helmet", "climbing rope", "carabiner"),
        "Paddling": ("kayak", "paddle", "dry bag"),
    },
    "Sport": {
        "Running": ("running shoe", "running shirt", "water bottle"),
        "Cycling": ("road bike", "bike helmet", "bike light"),
        "Fitness": ("yoga mat", "dumbbell", "jump rope"),
        "Racket games": ("tennis racket", "tennis ball", "sports bag"),
    },
    "Kitchen": {
        "Cooking": ("frying pan", "saucepan", "spatula"),
        "Baking": ("mixing bowl", "cake tin", "rolling pin"),
        "Coffee": ("coffee grinder", "espresso machine", "milk jug"),
        "Table": ("dinner plate", "tumbler", "linen napkin"),
    },
    "Music": {
        "Guitar": ("acoustic guitar", "guitar strap", "guitar tuner"),
        "Keys": ("digital piano", "keyboard stand", "sustain pedal"),
        "Drums": ("snare drum", "cymbal", "drumstick"),
        "Recording": ("microphone", "microphone stand", "audio interface"),
    },
    "Home": {
        "Desk": ("desk lamp", "office chair", "notebook"),
        "Bedroom": ("pillow", "duvet", "alarm clock"),
        "Garden": ("watering can", "plant pot", "garden trowel"),
        "Bathroom": ("bath towel", "bath mat", "shower curtain"),
    },
}
BRANDS = {
    "Outdoor": ("Northwind", "Alderpeak", "Fernway", "Stonebridge"),
    "Sport": ("Swiftline", "Pacemark", "Corvane", "Haldenby"),
    "Kitchen": ("Copperleaf", "Saltbrook", "Marrowpine", "Ovenby"),
    "Music": ("Larkstone", "Tonewell", "Quaverhall", "Ebbing"),
    "Home": ("Willowmere", "Plainfold", "Duskhaven", "Hearthly"),
}
SERIES = ("Ridge", "Harbour", "Meadow", "Ember", "Drift", "Willow", "Summit", "Cove", "Aspen", "Lark", "Tide", "Birch")
COLOURS = ("blue", "green", "red", "black", "white", "grey", "yellow", "orange", "teal", "sand")
QUALITIES = ("lightweight", "sturdy", "compact", "classic", "hard-wearing", "simple", "handmade", "practical")
PROMISES = (
    "Built to last and easy to repair.",
    "Comes with a two-year warranty.",
    "Made from recycled materials.",
    "A favourite with beginners.",
    "Trusted by professionals.",
    "Packs away small.",
    "Easy to clean.",
    "A good gift.",
)

LEAVES = pl.DataFrame(
    [(top, middle, noun) for top, branch in TREE.items() for middle, nouns in branch.items() for noun in nouns],
    schema=["department", "category", "noun"],
    orient="row",
)


@dataclass(frozen=True)
class ShopConfig:
    """Generate a shop: items with texts, users with tastes and sessions, and an oracle to measure models against."""

    dst: Annotated[Path, tyro.conf.Positional]
    """The data-set folder to write."""
    users: int = 3000
    """How many users; each has 5 to 30 events, 12 on average."""
    items: int = 800
    """How many items, at least 60."""
    seed: int = 0
    """The same seed and sizes give the same shop."""
    replace: bool = False
    """Lose the data set that is in DST, with its semantic IDs."""


def main(config: ShopConfig) -> None:
    """Generate a shop, say what was written and what to run next."""
    check_counts(config)
    check_replace(config.dst, DATASET, replace=config.replace)
    dataset = generate_shop(config.users, config.items, config.seed).dataset
    options = {"users": config.users, "items": config.items, "seed": config.seed}
    save_dataset(dataset, config.dst, source="shop", options=options, replace=config.replace)
    events = len(dataset.interactions.items)
    console = plain_console()
    console.print(f"{dataset.name}: {config.users:,} users, {config.items:,} items, {events:,} interactions")
    console.print(f"wrote {config.dst}")
    console.print(next_command("data", "show", config.dst))


@dataclass(frozen=True)
class Shop:
    """A generated data set and the true process behind it."""

    dataset: Dataset
    process: ShopProcess

    def oracle(self) -> Oracle:
        """The recommender that knows the process."""
        return Oracle(self.process)


def generate_shop(n_users: int, n_items: int, seed: int) -> Shop:
    """Draw a shop and the events of its users; equal arguments give an equal shop.

    Raises InputError if there are no users, fewer items than the tree has leaves, or a negative seed.
    """
    if n_users < 1:
        raise InputError(f"users is {n_users} and a shop needs customers; it must be >= 1")
    catalogue, process = _catalogue_and_process(n_items, seed)
    rng = np.random.default_rng([seed, 1])
    lengths = np.minimum(SHORTEST - 1 + rng.geometric(1 / (MEAN_LENGTH + 1 - SHORTEST), n_users), LONGEST)
    user_ids = pl.select(_numbered("customer", pl.int_range(n_users)).alias("id"))["id"]
    return Shop(make_dataset("shop", simulate(process, lengths, rng), catalogue, user_ids), process)


def load_oracle(path: Path) -> Oracle:
    """The oracle of a shop that `main` wrote to a data-set folder, from its seed and sizes.

    Raises InputError if the folder holds no data set, one of another kind, or a shop that is drawn differently now.
    """
    meta = load_meta(path)
    if meta["source"] != "shop":
        raise InputError(f"{path}: read from {meta['source']}, and only `redraft data shop` makes data with an oracle")
    catalogue, process = _catalogue_and_process(meta["options"]["items"], meta["options"]["seed"])
    if not catalogue.titles.equals(load_dataset(path).catalogue.titles):
        raise InputError(f"{path}: another version wrote this shop; run `redraft data shop {path}` again")
    return Oracle(process)


def _catalogue_and_process(n_items: int, seed: int) -> tuple[Catalogue, ShopProcess]:
    F = LEAVES.height
    if n_items < F:
        raise InputError(f"items is {n_items} and the shop sells {F} kinds of thing; it must be >= {F}")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be >= 0")
    rng = np.random.default_rng([seed, 0])
    leaf = np.repeat(np.arange(F), 1 + rng.multinomial(n_items - F, np.full(F, 1 / F)))
    department = LEAVES["department"].rle_id().to_numpy()
    per_department = len(BRANDS["Outdoor"])
    brand = department[leaf].astype(np.int64) * per_department + rng.integers(per_department, size=n_items)
    interest_of_leaf = LEAVES["category"].rle_id().to_numpy().astype(np.int64)
    return _catalogue(leaf, brand, rng), draw_process(leaf, brand, interest_of_leaf, rng)


def _catalogue(leaf: IntArray, brand: IntArray, rng: np.random.Generator) -> Catalogue:
    """Texts for items of given leaves and brands; attributes are the category path and the brand."""

    def words(choices: tuple[str, ...]) -> pl.Series:
        return pl.Series(choices).gather(rng.integers(len(choices), size=len(leaf)))

    words_of_items = LEAVES[leaf].with_columns(
        brand=pl.Series([name for names in BRANDS.values() for name in names]).gather(brand),
        series=words(SERIES),
        colour=words(COLOURS),
        quality=words(QUALITIES),
        promise=words(PROMISES),
    )
    mark = pl.int_range(1, pl.len() + 1).over("brand", "series", "noun", "colour")
    mark = pl.when(mark > 1).then(pl.format(" mark {}", mark)).otherwise(pl.lit(""))
    frame = words_of_items.select(
        id=_numbered("item", pl.int_range(pl.len())),
        title=pl.format("{} {} {}{}, {}", "brand", "series", "noun", mark, "colour"),
        description=pl.format(
            "A {} {} from the {} range of {}. {}",
            "quality",
            "noun",
            pl.col("category").str.to_lowercase(),
            "brand",
            "promise",
        ),
        category=pl.format("{} > {} > {}s", "department", "category", "noun"),
        brand="brand",
    )
    return catalogue_from_frame(frame, ("category", "brand"))


def _numbered(prefix: str, numbers: pl.Expr) -> pl.Expr:
    return pl.format("{}-{}", pl.lit(prefix), numbers.cast(pl.String).str.zfill(6))
