"""The file of experiments: TOML into a `Design`, every mistake named with its place and the fix."""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, get_args

from redraft.decode.correction import Correction
from redraft.experiment.traffic.assignment import BUCKETS, buckets_of
from redraft.experiment.traffic.checks import check_design, check_experiment
from redraft.experiment.traffic.design import (
    HOLDOUT,
    MIXED,
    Arm,
    Design,
    Experiment,
    Guardrails,
    Kind,
    Layer,
    Metric,
)
from redraft.options import fits
from redraft.records import InputError

__all__ = ["check_runs", "read_design"]

NAME = re.compile(r"[\w][\w.-]*")
REQUIRED: Any = object()


class _Table:
    """A table of the file whose keys are taken one by one; a key that nobody takes is a mistake."""

    def __init__(self, values: Any, where: str):
        if not isinstance(values, dict):
            raise InputError(f"{where}: write a table, as in `[{where.rpartition(': ')[2]}]`")
        self._values, self.where = dict(values), where

    def take(self, name: str, hint: Any, default: Any = REQUIRED) -> Any:
        value = self._values.pop(name, default)
        if value is REQUIRED:
            raise InputError(f"{self.where}: has no {name!r}; add it")
        if value is not default and not fits(value, hint):
            words = getattr(hint, "__name__", str(hint).replace("typing.", ""))
            raise InputError(f"{self.where}: {name} is {value!r}; it must be {words}")
        return value

    def name(self) -> str:
        given: str = self.take("name", str)
        if not NAME.fullmatch(given):
            raise InputError(f"{self.where}: name is {given!r}; use letters, digits and any of _ - . after the first")
        self.where = f"{self.where.rpartition(' ')[0]} {given!r}"
        return given

    def share(self, name: str, default: float = REQUIRED) -> float:
        value = float(self.take(name, float | int, default))
        if not 0 <= value <= 1:
            raise InputError(f"{self.where}: {name} is {value:g}; a share must be within 0 and 1")
        if buckets_of(value) is None:
            raise InputError(f"{self.where}: {name} is {value:g}; give whole multiples of 1/{BUCKETS:,}")
        return value

    def finish(self) -> None:
        if self._values:
            raise InputError(f"{self.where}: {next(iter(self._values))!r} is unknown; correct or remove it")


def read_design(path: Path) -> Design:
    """The experiments of a TOML file; paths of runs in it are relative to its folder.

    Raises InputError, naming place and fix, for all that could not be run as it is written.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); give a file") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML ({error}); correct it there") from None
    table = _Table(content, str(path))
    holdout, holdout_salt = table.share("holdout", 0.0), table.take("holdout_salt", str, HOLDOUT)
    layers = {
        name: Layer(name, _salt(values, f"{path}: layers.{name}"))
        for name, values in table.take("layers", dict, {}).items()
    }
    tables = table.take("experiments", list, [])
    table.finish()
    if not tables:
        raise InputError(f"{path}: has no experiment; add a table [[experiments]]")
    experiments = [_experiment(_Table(each, f"{path}: experiment {n}"), layers) for n, each in enumerate(tables, 1)]
    design = Design(experiments, holdout, holdout_salt)
    check_design(design, str(path))
    return design


def check_runs(design: Design) -> None:
    """Raise InputError for the first arm whose run is not there."""
    for experiment in design.experiments:
        for arm in experiment.arms:
            if arm.run is not None and not (Path(arm.run) / "catalogue.parquet").exists():
                raise InputError(
                    f"experiment {experiment.name!r}, arm {arm.name!r}: {arm.run}: not a trained run; "
                    "make it with `redraft train`, or correct the path, which is relative to the file's folder"
                )


def _salt(values: Any, where: str) -> str:
    table = _Table(values, where)
    salt: str = table.take("salt", str)
    table.finish()
    return salt


def _experiment(table: _Table, layers: Mapping[str, Layer]) -> Experiment:
    folder = Path(table.where.partition(": ")[0]).parent
    name = table.name()
    kind: Kind = table.take("kind", Kind, "ab")
    unit = table.take("unit", str, "user")
    if unit != "user":
        raise InputError(f"{table.where}: unit is {unit!r}; what is assigned is a user: write 'user' or leave it out")
    layer: str = table.take("layer", str, name)
    guarded = _Table(table.take("guardrails", dict, {}), f"{table.where}: guardrails")
    experiment = Experiment(
        name=name,
        layer=layers.get(layer, Layer(layer, layer)),
        kind=kind,
        start=_moment(table),
        days=table.take("days", int),
        control=table.take("control", str),
        arms=_arms(table, kind, folder),
        metrics=_metrics(table),
        guardrails=_guardrails(guarded),
        window_hours=float(table.take("window_hours", float | int, 24.0)),
        before_days=table.take("before_days", int, 14),
        share=table.share("share") if kind in MIXED else 0.0,
        origin=table.share("from", 0.0) if kind in MIXED else 0.0,
        overrides=table.take("overrides", dict, {}),
    )
    table.finish()
    check_experiment(experiment, table.where)
    return experiment


def _moment(table: _Table) -> datetime:
    value: Any = table.take("start", date | datetime)
    if not isinstance(value, datetime):
        return datetime.combine(value, time(), UTC)
    if value.tzinfo is None:
        raise InputError(f"{table.where}: start is {value.isoformat()} somewhere; add a zone, such as Z")
    return value.astimezone(UTC)


def _metrics(table: _Table) -> Sequence[Metric]:
    names: list[Any] = table.take("metrics", list, list(get_args(Metric)))
    for name in names:
        if name not in get_args(Metric):
            raise InputError(f"{table.where}: no metric {name!r}; there are {', '.join(get_args(Metric))}")
    if not names or len(set(names)) < len(names):
        raise InputError(f"{table.where}: metrics is {names!r}; name each metric that decides, once")
    return tuple(names)


def _guardrails(table: _Table) -> Guardrails:
    default = Guardrails()
    limits = {name: table.take(name, float | int, getattr(default, name)) for name in vars(default)}
    table.finish()
    for name, most in limits.items():
        if most is not None and not 0 <= most < float("inf"):
            raise InputError(f"{table.where}: {name} is {most}; it must be >= 0 and finite")
    return Guardrails(**limits)


def _arms(table: _Table, kind: Kind, folder: Path) -> Sequence[Arm]:
    tables: list[Any] = table.take("arms", list)
    made = []
    for number, values in enumerate(tables):
        arm = _Table(values, f"{table.where}, arm {number + 1}")
        name, run, beams = arm.name(), arm.take("run", str, None), arm.take("beams", int, None)
        split = kind not in MIXED
        evenly = number * BUCKETS // len(tables) / BUCKETS
        made.append(
            Arm(
                name,
                None if run is None else os.path.abspath(folder / run),
                beams,
                _correction(arm),
                arm.share("share") if split else 0.0,
                arm.share("from", evenly) if split else 0.0,
            )
        )
        arm.finish()
    return made


def _correction(table: _Table) -> Correction | None:
    values: dict[str, Any] | None = table.take("correction", dict, None)
    if values is None:
        return None
    inner, default = _Table(values, f"{table.where}: correction"), Correction()
    hints = Correction.__annotations__
    correction = Correction(**{name: inner.take(name, hints[name], getattr(default, name)) for name in hints})
    inner.finish()
    return correction
