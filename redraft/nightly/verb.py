"""`redraft nightly`: read `main` downward. Each step is whole or not there, and a night that was stopped goes on."""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import tyro

from redraft.data.importer import Duplicates
from redraft.data.raw import Columns
from redraft.data.store import load_dataset
from redraft.device import find_device
from redraft.engines.options import EngineOptions, check_engine
from redraft.files import write_json
from redraft.folders import alone_in, check_place
from redraft.nightly.gate import GateConfig, compare, verdict
from redraft.nightly.gathering import forget_events, gather
from redraft.nightly.learning import FirstConfig, WarmConfig, learn, learnt_until, schedule
from redraft.nightly.night import CURRENT, NIGHTS, begin
from redraft.nightly.promotion import check_service, promote
from redraft.nightly.steps import LISTS, import_events, make_ids, write_lists
from redraft.options import check_unread
from redraft.records import MAX_COUNT, MAX_SEED, InputError, check_above, check_between, check_least
from redraft.terminal import next_command, plain_console
from redraft.tokenizer.semantic_ids import load_semantic_ids

__all__ = ["NightlyConfig", "main"]

ELSEWHERE = ("folder", "service", "key", "engine", "address", "processes")
"""What a night may be resumed with otherwise."""


@dataclass(frozen=True)
class NightlyConfig(EngineOptions):
    """From new events to a new model in service and lists for everybody."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The folder of all nights: data sets in data/, runs in runs/, and runs/current, which leads to the newest."""
    events: tuple[Path, ...]
    """Files and folders of all events, old and new: the journals of a service (STATE/events), earlier logs."""
    items: Path
    """Table of the items that are sold now; lists hold no others."""
    columns: tyro.conf.OmitArgPrefixes[Columns] = field(default_factory=Columns)
    """Which columns of events and items hold what."""
    duplicates: Duplicates = "first"
    """For events that repeat user, item and time; first keeps only the earliest event of a user with an item."""
    held_out: float = 0.2
    """Share of the new events, the newest, that is learnt a night later: half of it for validation, half for the
    gate."""
    first: FirstConfig = field(default_factory=FirstConfig)
    """The first night of the folder."""
    warm: WarmConfig = field(default_factory=WarmConfig)
    """Every other night."""
    gate: GateConfig = field(default_factory=GateConfig)
    """When the new model may take over."""
    batch_size: int = 1024
    """Predicted events per step."""
    k: int = 10
    """Items per list."""
    seed: int = 0
    """Seed of everything random."""
    device: str = "cpu"
    """Where to compute gate and lists: cpu, cuda."""
    service: str | None = None
    """Address of a service that was started with FOLDER/runs/current, to be told of the new model."""
    key: Path | None = None
    """File that holds an admin key of that service."""


def main(config: NightlyConfig) -> None:
    """Events, data set, semantic IDs, model, gate, lists, promotion.

    Raises InputError for what cannot be used, while another night is at work in the folder, and, when everything is
    noted, for a model that does not pass the gate.
    """
    _check(config)
    check_place(config.folder, NIGHTS)
    with alone_in(config.folder):
        night = begin(config.folder, {k: v for k, v in asdict(config).items() if k not in ELSEWHERE})
        say = plain_console().print
        say(f"night {night.name}, after {night.parent.name}" if night.parent else f"night {night.name}, the first")
        training = schedule(night, config.first, config.warm, config.batch_size, config.seed)
        since = 0 if night.parent is None else learnt_until(night.parent)

        found = night.step(
            "events", lambda: gather(night, config.events, config.items, config.columns, config.held_out, since)
        )
        when = (
            f", {found['new']:,} of them since {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M} UTC" if since else ""
        )
        say(f"events: {found['events']:,}{when}")

        data = night.step("data", lambda: import_events(night, found, config.duplicates, config))
        for line in data["said"]:
            say(line)
        with night.reading("data"):
            dataset = load_dataset(night.data)
            night.check("data", night.data, dataset.fingerprint)

        made = night.step("ids", lambda: make_ids(night, dataset, config.first, config.seed))
        say(f"semantic IDs: {made['items']:,} items, {made['new']:,} of them new")
        with night.reading("ids"):
            ids = load_semantic_ids(night.data / "semantic_ids.safetensors")
            night.check("ids", night.data / "semantic_ids.safetensors", ids.fingerprint)

        night.step("model", lambda: learn(night, dataset, ids, training, config.warm.replay))
        (night.run / "state.safetensors").unlink(missing_ok=True)

        judged = night.step("gate", lambda: compare(night, dataset, ids, config.gate, config.seed, config.device))
        write_json(night.run / "gate.json", judged)
        if not judged["passed"]:
            forget_events(night)
            night.step("end", lambda: {"promoted": False})
            raise InputError(f"night {night.name} is not promoted: {verdict(judged)}; see {night.run / 'gate.json'}")
        say(f"gate: {verdict(judged)}")

        night.step("lists", lambda: write_lists(night, config.k, config.device, config))
        say(f"lists: {night.run / LISTS}, {dataset.interactions.n_users:,} users x {config.k} items")

        forget_events(night)
        night.step("end", lambda: promote(night, config.service, config.key))
        say(f"promoted: {night.run.with_name(CURRENT)} -> {night.name}")
        if config.service is None:
            current = night.run.with_name(CURRENT)
            say(next_command("serve", current, "--data", current / "data"))


def _check(config: NightlyConfig) -> None:
    """Raise InputError for settings that cannot work on any night."""
    if not config.events:
        raise InputError("no events to read; give --events PATH ...")
    check_unread(config.columns, ("order", "several"), "redraft nightly")
    if config.columns.time is None:
        raise InputError("a night learns what is new, which needs times; name their column with --time")
    for path in (*config.events, config.items):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
    if not 0 < config.held_out < 1:
        raise InputError(f"held_out is {config.held_out}; it must be > 0 and < 1")
    if not 0 <= config.warm.replay < 1:
        raise InputError(f"replay is {config.warm.replay}; it must be >= 0 and < 1")
    check_between(1, MAX_COUNT, k=config.k, users=config.gate.users)
    check_between(1, MAX_COUNT, levels=config.first.levels, codebook_size=config.first.codebook_size)
    check_between(0, MAX_SEED, seed=config.seed)
    check_between(1, MAX_COUNT, epochs=config.warm.epochs)
    check_above(0, learning_rate=config.warm.learning_rate)
    check_least(0, tolerance=config.gate.tolerance)
    check_engine(config)
    find_device(config.device)
    check_service(config.service, config.key)
