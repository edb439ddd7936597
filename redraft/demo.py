"""`redraft demo`: the whole road on a generated shop, from raw events to recommendations in words; read it downward."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from redraft.baselines.itemknn import ItemKNN
from redraft.baselines.popularity import Popularity
from redraft.bench.columns import terminal_table
from redraft.bench.results import check_result, write_result
from redraft.bench.tables.evaluate import COLUMNS, evaluate_methods
from redraft.data import shop
from redraft.data.split import split_of
from redraft.data.store import load_dataset
from redraft.folders import RUN, check_place
from redraft.options import check_counts
from redraft.recipes import tiny, train
from redraft.recommender import load
from redraft.records import Holdout, Interactions, Recommender
from redraft.terminal import next_command, plain_console
from redraft.train import tokenize

__all__ = ["DemoConfig", "main"]


@dataclass(frozen=True)
class DemoConfig:
    """Train and compare recommenders on a generated shop."""

    out: Path = Path("runs/demo")
    """Folder for the shop and the trained run."""
    users: int = 3000
    """Users of the shop."""
    items: int = 800
    """Items of the shop."""
    epochs: int = 14
    """Passes of the training over the shop's events."""
    seed: int = 0
    """Seed of the shop, the semantic IDs and the training."""
    result: str | None = None
    """Also write the table to results/NAME.json."""
    replace: bool = False
    """Lose the shop, the semantic IDs and the run of an earlier demo."""


def main(config: DemoConfig) -> None:
    """Shop -> semantic IDs -> generator -> table beside the oracle -> one user's list in words."""
    check_counts(config)
    check_result(config.result)
    console = plain_console()
    data, run = config.out / "shop", config.out / "generator"

    console.rule("1. a shop")
    again: dict[str, Any] = {"seed": config.seed, "replace": config.replace}
    check_place(run, RUN)
    shop.main(shop.ShopConfig(data, users=config.users, items=config.items, **again))
    dataset = load_dataset(data)
    split = split_of(dataset)

    console.rule("2. semantic IDs")
    tokenize.main(tokenize.TokenizeConfig(data, levels=3, codebook_size=64, **again))

    console.rule("3. a generative recommender")
    train(replace(tiny(data, run), epochs=config.epochs, **again))

    console.rule("4. what it is worth, on held-out items")
    generator, oracle = load(run, beams=min(200, config.items)), shop.load_oracle(data)
    test = Holdout(_order_only(split.test.histories), split.test.targets)
    methods: dict[str, Recommender] = {
        "popularity": Popularity.fit(split.train, dataset.catalogue),
        "item-kNN": ItemKNN.fit(split.train, dataset.catalogue),
        "generator": generator,
        "oracle": oracle,
    }
    rows = evaluate_methods(methods, test, dataset.catalogue.n_items)
    console.print(terminal_table(rows, COLUMNS, "generated shop, test, leave-one-out, full ranking"))
    console.print(
        "The oracle knows how the shop's customers choose; nobody can do better except by luck "
        f"(its expected R@10 here: {oracle.expected_recall(test.histories, (10,))[10]:.4f})."
    )
    if config.result:
        fingerprints = {"data": dataset.fingerprint, "semantic_ids": generator.ids.fingerprint}
        protocol = "generated shop, test, leave-one-out, full ranking, beams 200"
        write_result(config.result, rows, columns=COLUMNS, protocol=protocol, fingerprints=fingerprints)

    console.rule("5. one user, in words")
    user = int(np.argmax(test.histories.lengths >= 6))
    recommended = generator.recommend(test.histories.take(np.array([user])), 5)
    console.print("bought, oldest first:")
    for item in test.histories.history(user).tolist():
        console.print(f"  {dataset.catalogue.describe(item)}")
    console.print("recommended next:")
    for rank, item in enumerate(recommended.items[0].tolist(), start=1):
        bought = "   <- what was bought next" if item == test.targets[user] else ""
        console.print(f"  {rank}. {dataset.catalogue.describe(item)}{bought}")
    console.print()
    console.print(next_command("explain", run, "--data", data, "--user", dataset.user_ids[user]))


def _order_only(histories: Interactions) -> Interactions:
    """The models see only the order of events, so the oracle is given no more."""
    return Interactions(histories.items, histories.offsets)
