"""Experiments in the service: their file, the models of their arms, and who gets a list of which."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from redraft.experiment.traffic.design import MIXED, Assigned, Design
from redraft.experiment.traffic.mixing import draw, team_draft
from redraft.experiment.traffic.reading import check_runs, read_design
from redraft.experiment.traffic.record import check_record
from redraft.records import InputError
from redraft.service.live import LiveModel
from redraft.service.models import Models
from redraft.service.store import StoredItem

__all__ = ["Plan", "Standing", "Trials"]

log = logging.getLogger(__name__)

Changes = Mapping[str, Any]
Key = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Plan:
    """How a request is answered: by one model, or by the models of all arms whose lists are mixed; and which arms
    its user is in.
    """

    lives: Sequence[LiveModel]
    assigned: Sequence[Assigned] = ()

    def mixed(self, lists: Sequence[Sequence[int]], k: int, request_id: str) -> tuple[list[int], dict[str, Any]]:
        """The list out of those of the arms, by chance that the request's id seeds, and what is logged of it."""
        one = next(one for one in self.assigned if one.experiment.kind in MIXED)
        random = Random(request_id)
        if one.experiment.kind == "interleaving":
            items, teams = team_draft(lists[0], lists[1], k, random)
            return items, {"teams": [one.experiment.arms[team].name for team in teams]}
        items, propensities = draw(lists, k, random)
        return items, {"propensities": propensities}

    def rows(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What is logged of a request: a row for each experiment that it is part of, one in any case."""
        return [
            {
                **row,
                "experiment": one.experiment.name,
                "arm": one.arm,
                "layout": one.experiment.layout,
                "forced": one.forced,
            }
            for one in self.assigned
        ] or [dict(row)]


class Standing(NamedTuple):
    """What is answered by: the experiments, and the model of every combination of what their arms set."""

    design: Design
    lives: Mapping[Key, LiveModel]


class Trials:
    """The experiments of a file, which is read again when it changes.

    read: from what an arm sets (run, beams, correction) to its model, without the items that changed since. record:
    what was registered as each experiment started.
    """

    def __init__(
        self,
        path: Path,
        record: Path,
        models: Models,
        read: Callable[[Changes], LiveModel],
        clock: Callable[[], float],
    ):
        self._path, self._record, self._models, self._read, self._clock = path, record, models, read, clock
        self._stamp = self._stamp_now()
        self.put(self._load({}))

    @property
    def design(self) -> Design:
        """The experiments."""
        return self._standing.design

    def plan(self, user: str | None) -> Plan:
        """How to answer a user; None, asked by history, is in no experiment."""
        design, lives = self._standing
        assigned = [] if user is None else design.assign(user, self._now())
        changes: dict[str, Any] = {}
        for one in assigned:
            if one.experiment.kind not in MIXED:
                changes |= one.experiment.arm(one.arm).changes
        for one in assigned:
            if one.experiment.kind in MIXED:
                each = ({**changes, **arm.changes} for arm in one.experiment.arms)
                return Plan([self._live(lives, changed) for changed in each], assigned)
        return Plan([self._live(lives, changes)], assigned)

    @property
    def changed(self) -> bool:
        """Whether the file is another one than that which was read last."""
        return self._stamp_now() != self._stamp

    def renewed(self, items: Sequence[StoredItem]) -> Standing | None:
        """What the file says now, with the models that it needs, for `put`.

        None if it cannot be used, which is logged: the experiments stay as they were.
        """
        self._stamp = self._stamp_now()
        try:
            standing = self._load(self._standing.lives)
            for live in standing.lives.values():
                live.renew(items)
        except InputError as error:
            log.error("experiments stay as they were: %s", error)
            return None
        return standing

    def put(self, standing: Standing) -> None:
        """From here on answer by this; models that no arm has any more are forgotten."""
        self._standing = standing
        self._models.others = list(standing.lives.values())
        log.info("experiments: %s", ", ".join(each.name for each in standing.design.experiments))

    def _load(self, known: Mapping[Key, LiveModel]) -> Standing:
        design = read_design(self._path)
        check_runs(design)
        layers: dict[str, list[Changes]] = {}
        for experiment in design.experiments:
            layers.setdefault(experiment.layer.name, [{}]).extend(arm.changes for arm in experiment.arms)
        lives: dict[Key, LiveModel] = {}
        for combined in product(*layers.values()):
            changes = {name: value for each in combined for name, value in each.items()}
            key = _key(changes)
            if key and key not in lives:
                lives[key] = known.get(key) or self._read(changes)
                self._check_items(lives[key])
        check_record(self._record, design, self._now())
        return Standing(design, lives)

    def _check_items(self, live: LiveModel) -> None:
        own = self._models.current
        if not live.base.catalogue.ids.equals(own.base.catalogue.ids):
            raise InputError(f"{live.run}: knows other items than {own.run}; train all arms on one data set")

    def _live(self, lives: Mapping[Key, LiveModel], changes: Changes) -> LiveModel:
        return lives[_key(changes)] if changes else self._models.current

    def _stamp_now(self) -> int:
        return self._path.stat().st_mtime_ns if self._path.exists() else 0

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _key(changes: Changes) -> Key:
    return tuple(sorted(changes.items()))
