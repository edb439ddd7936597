"""`redraft experiment run`: an experiment from assignment to decision, on customers whose true answers are known."""

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from redraft.bench.columns import Column
from redraft.bench.results import check_result, write_result
from redraft.data import shop
from redraft.data.shop import load_oracle
from redraft.data.store import load_dataset
from redraft.decode.correction import Correction
from redraft.experiment.analysis.conclude import NAMES, Analysis, sentence_of
from redraft.experiment.customers.people import Answers, Behaviour, Customers, Visits, draw_prices
from redraft.experiment.customers.worlds import ModelServer, Tell, World, by_taste, live, true_lifts
from redraft.experiment.traffic.design import Arm, Experiment
from redraft.experiment.traffic.reading import check_runs, read_design
from redraft.experiment.verbs.looking import analysis_of
from redraft.experiment.verbs.report import write_page
from redraft.experiment.verbs.served import serving
from redraft.experiment.verbs.verb import RunConfig
from redraft.files import write_json
from redraft.recipes import grc, tiny_tiger, train
from redraft.recommender import load
from redraft.records import Dataset, InputError, IntArray
from redraft.service.verb import ServeConfig
from redraft.terminal import next_command, plain_console
from redraft.train import tokenize

__all__ = ["SECTION_6", "main"]

BEFORE_NOISE = 2.0
"""Of the server that customers see before the experiment, which knows their moods apart from that."""
SECTION_6 = """# The paper's section 6: TIGER against GRC, 15 % of the users each, ten days.
[[experiments]]
name = "section-6"
start = 2026-01-02
days = 10
control = "tiger"

[[experiments.arms]]
name = "tiger"
run = "tiger"
share = 0.15

[[experiments.arms]]
name = "grc"
run = "grc"
share = 0.15
"""
COLUMNS = [
    Column("metric", "metric"),
    Column("true lift", "true", "+.2%"),
    Column("estimated", "lift", "+.2%"),
    Column("95 % interval", "low", "{low:+.2%} to {high:+.2%}"),
    Column("p after Holm", "p_holm", ".3f"),
]


def main(config: RunConfig) -> None:
    """Prepare, serve, let customers come, compute the truth, analyse, draw."""
    check_result(config.result)
    console, started = plain_console(), time.perf_counter()
    state = config.out / "state"
    if state.exists():
        raise InputError(f"{state}: holds an earlier replay; remove it or give another folder")
    file, data = (config.file, config.data) if config.file and config.data else _prepared(config)
    design = read_design(file)
    check_runs(design)
    experiment = next((each for each in design.experiments if each.kind == "ab"), None)
    if experiment is None:
        raise InputError(f"{file}: has no experiment of kind ab to replay")
    dataset = load_dataset(data)
    begun = time.perf_counter()
    requests = _served(config, file, data, dataset, experiment)
    served = time.perf_counter() - begun
    truth = _truth(config, data, dataset, experiment)
    write_json(config.out / "truth.json", truth)
    analysis = analysis_of(experiment, state, experiment.end)
    write_page(analysis, config.out / "report.html", truth)
    console.print(f"{requests:,} lists over HTTP in {served:,.0f} s; all in {time.perf_counter() - started:,.0f} s")
    for row in _rows(analysis, truth):
        console.print(f"{row['arm']}, {row['metric']}: {row['lift']:+.2%} estimated, {row['true']:+.2%} in truth")
    console.print(sentence_of(analysis))
    console.print(f"wrote {config.out / 'report.html'}")
    console.print(next_command("experiment", "watch", file, "--state", state))
    if config.result:
        users = ", ".join(f"{count:,} users of {name}" for name, count in analysis.users.items())
        protocol = (
            f"generated shop of {dataset.interactions.n_users:,} customers and {dataset.catalogue.n_items:,} items; "
            f"{users}; {experiment.days} days, {requests:,} lists over HTTP in {served:.0f} s, all in "
            f"{time.perf_counter() - started:.0f} s; true lifts by all customers before each arm"
        )
        prints = {"data": dataset.fingerprint}
        write_result(config.result, _rows(analysis, truth), columns=COLUMNS, protocol=protocol, fingerprints=prints)


def _prepared(config: RunConfig) -> tuple[Path, Path]:
    """Section 6: its file, and the shop and the runs that it names, made if they are not there."""
    data, tiger, corrects = config.out / "shop", config.out / "tiger", config.out / "grc"
    if not data.exists():
        shop.main(shop.ShopConfig(data, users=config.users, items=config.items, seed=config.seed))
        tokenize.main(tokenize.TokenizeConfig(data, levels=3, codebook_size=32, seed=config.seed))
    if not tiger.exists():
        quick: dict[str, Any] = {"batch_size": 512, "learning_rate": 0.01, "seed": config.seed}
        train(replace(tiny_tiger(data, tiger), epochs=config.epochs, **quick))
    if not corrects.exists():
        train(replace(grc(data, corrects), backbone=tiger, epochs=2, draft_beams=10, seed=config.seed))
    file = config.out / "section6.toml"
    file.write_text(SECTION_6, encoding="utf-8")
    return file, data


def _served(config: RunConfig, file: Path, data: Path, dataset: Dataset, experiment: Experiment) -> int:
    """Customers before the real service; how many lists they saw."""
    customers = _customers(config, data, dataset)
    users, items = dataset.user_ids.to_list(), dataset.catalogue.ids.to_list()
    run = next((arm.run for arm in experiment.arms if arm.run is not None), None)
    if run is None:
        raise InputError(f"{file}: no arm names a run; name at least one")
    settings = ServeConfig(
        Path(run),
        data=data,
        state=config.out / "state",
        experiment=file,
        keep_days=1e5,
        queue=256,
        batch=32,
        deadline_ms=600_000,
    )
    with serving(settings, experiment.start, users, items, config.k) as served:

        def tell(day: int, visits: Visits, lists: IntArray, answers: Answers) -> None:
            served.tell(day, visits, lists, answers, customers.prices)

        _before(config, customers, experiment, tell)
        live(customers, range(experiment.days), served.ask, tell)
        return served.requests


def _truth(config: RunConfig, data: Path, dataset: Dataset, experiment: Experiment) -> dict[str, dict[str, float]]:
    """True lifts by arm and metric: all customers before each arm."""
    worlds: dict[str, World] = {}
    for arm in experiment.arms:
        customers = _customers(config, data, dataset)
        server = ModelServer(_model(arm, experiment), dataset.interactions, config.k)
        _before(config, customers, experiment, server.tell)
        worlds[arm.name] = live(customers, range(experiment.days), server, server.tell)
    control = worlds.pop(experiment.control)
    return {
        name: {str(metric): lift for metric, lift in true_lifts(control, world).items()}
        for name, world in worlds.items()
    }


def _customers(config: RunConfig, data: Path, dataset: Dataset) -> Customers:
    prices = draw_prices(dataset.catalogue.n_items, config.seed)
    return Customers(load_oracle(data).process, dataset.interactions, prices, config.seed, Behaviour())


def _before(config: RunConfig, customers: Customers, experiment: Experiment, tell: Tell) -> None:
    server = by_taste(customers, config.k, BEFORE_NOISE, config.seed)
    live(customers, range(-experiment.before_days, 0), server, tell)


def _model(arm: Arm, experiment: Experiment) -> Any:
    run = arm.run or next(each.run for each in experiment.arms if each.run is not None)
    return load(run, beams=arm.beams, correction=arm.correction or Correction())


def _rows(analysis: Analysis, truth: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    return [
        asdict(lift) | {"metric": NAMES[lift.metric], "true": truth[lift.arm][lift.metric]} for lift in analysis.lifts
    ]
