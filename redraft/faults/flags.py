"""Every number that a verb takes, at its edges: refused in one line, or taken; what cannot be meant is refused."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints
from unittest.mock import patch

from redraft import cli
from redraft.faults.world import World, quiet
from redraft.recipes import RECIPES
from redraft.records import MAX_SEED, InputError

__all__ = ["CALLS", "Edge", "try_numbers"]

WHOLE = (-(2**63), -1, 0, 1, 2**31, 2**64, 10**30)
BROKEN = (-math.inf, -1.0, 0.0, 1.0, 1e300, math.inf, math.nan)

STARTS = {
    "grc": ("--backbone", "run"),
    "gc": ("--backbone", "run"),
    "grpo": ("--sft", "grc"),
    "verifier": ("--run", "run"),
    "reflect": ("--run", "run", "--tower", "run"),
}
SPEED = "redraft.bench.speed"
EXPERIMENT = "redraft.experiment.verbs.verb._module"


@dataclass(frozen=True)
class Edge:
    """One flag with one value. fault: what went wrong, None if it was refused in one line or can be meant."""

    call: str
    flag: str
    value: float
    fault: str | None


@dataclass(frozen=True)
class Call:
    """A verb as it is called. begins: what is called where its work begins; None where the tiny world ends it soon."""

    verb: str
    words: Callable[[World, Path], list[object]]
    begins: str | None = None


def _train(recipe: str) -> Call:
    def words(w: World, to: Path) -> list[object]:
        named = STARTS.get(recipe, ())
        start = [word for flag, run in zip(named[::2], named[1::2]) for word in (flag, w.folder / run)]
        return [recipe, w.data, to / "run", *start]

    return Call("train", words)


CALLS: dict[str, Call] = {
    "demo": Call("demo", lambda w, to: ["--out", to / "demo"], "redraft.demo.shop.main"),
    "data import": Call("data import", lambda w, to: ["table", w.events, to / "data", "--duplicates", "drop"]),
    "data download": Call(
        "data download", lambda w, to: ["amazon", to / "raw", "--category", "Beauty"], "redraft.data.download.download"
    ),
    "data shop": Call("data shop", lambda w, to: [to / "data"], "redraft.data.shop.draw_process"),
    "data show": Call("data show", lambda w, to: [w.data]),
    "tokenize": Call(
        "tokenize", lambda w, to: [w.data, "--out", to / "ids.safetensors"], "redraft.train.tokenize.item_vectors"
    ),
    **{f"train {recipe}": _train(recipe) for recipe in RECIPES},
    "evaluate": Call(
        "evaluate",
        lambda w, to: [w.data, "--runs", w.grc, "--methods", "--ranks", to / "ranks"],
        "redraft.bench.tables.evaluate.evaluate_methods",
    ),
    "recommend": Call("recommend", lambda w, to: [w.grc, "--history", "i3"]),
    "explain": Call("explain", lambda w, to: [w.grc, "--history", "i3"]),
    "export": Call("export", lambda w, to: [w.grc, to / "export", "--no-compile"], "redraft.serve.export._Program"),
    "nightly": Call(
        "nightly",
        lambda w, to: [to / "nights", "--events", w.events, "--items", w.folder / "items.csv"],
        "redraft.nightly.verb.gather",
    ),
    "serve": Call("serve", lambda w, to: [w.grc, "--state", to / "state"], "redraft.service.process.Service"),
    "experiment plan": Call("experiment plan", lambda w, to: [to / "experiments.toml"], EXPERIMENT),
    "experiment run": Call("experiment run", lambda w, to: [to / "section6"], EXPERIMENT),
    "experiment watch": Call(
        "experiment watch", lambda w, to: [to / "experiments.toml", "--state", to / "state"], EXPERIMENT
    ),
    "experiment report": Call(
        "experiment report",
        lambda w, to: [to / "experiments.toml", "--state", to / "state", "--out", to / "report.html"],
        EXPERIMENT,
    ),
    "bench import": Call("bench import", lambda w, to: ["--results", to], f"{SPEED}.imports.in_new_process"),
    "bench trie": Call("bench trie", lambda w, to: ["--results", to], f"{SPEED}.trie.in_new_process"),
    "bench pretrain": Call("bench pretrain", lambda w, to: ["--results", to], f"{SPEED}.pretrain._load"),
    "bench correct": Call(
        "bench correct", lambda w, to: [w.data, "--runs", w.grc], "redraft.bench.tables.correct.observe"
    ),
    "bench evidence": Call(
        "bench evidence", lambda w, to: [w.data, "--runs", w.grc], "redraft.bench.tables.evidence._loaded"
    ),
    "bench experiment": Call(
        "bench experiment", lambda w, to: ["--results", to], "redraft.experiment.verbs.bench.in_new_process"
    ),
    "bench rollout": Call("bench rollout", lambda w, to: [w.data, "--results", to], f"{SPEED}.rollout.load_dataset"),
    "bench decode": Call("bench decode", lambda w, to: ["--results", to], f"{SPEED}.decode.in_new_process"),
    "bench precision": Call(
        "bench precision",
        lambda w, to: [w.data, w.grc, "--results", to],
        f"{SPEED}.precision.check_same_items",
    ),
    "bench shortlist": Call(
        "bench shortlist", lambda w, to: [w.data, w.run, "--results", to], f"{SPEED}.shortlist.load_dataset"
    ),
    "bench serve": Call("bench serve", lambda w, to: [w.run, w.data, "--results", to], f"{SPEED}.serve.load_dataset"),
    "bench tables": Call(
        "bench tables",
        lambda w, to: ["--data", w.data, "--out", to / "tables", "--results", to],
        "redraft.bench.tables.make.train_missing",
    ),
    "bench report": Call(
        "bench report",
        lambda w, to: [to, "--data", w.data, "--out", to / "report.html"],
        "redraft.bench.report.make.load_dataset",
    ),
    "bench faults": Call("bench faults", lambda w, to: ["--results", to], "redraft.faults.make.measure"),
    "bench documents": Call("bench documents", lambda w, to: [], "redraft.bench.results.fill_tables"),
}
TRAINING = (
    *("redraft.train.pretrain.keep_settings", "redraft.train.sft._draft", "redraft.train.grpo.keep_settings"),
    *("redraft.train.verifier.keep_settings", "redraft.train.baseline._begin_run"),
    "redraft.train.reflect.load_dataset",
)


def try_numbers(name: str, world: World, scratch: Path) -> list[Edge]:
    """Every number of a call of CALLS at its edges; scratch: where it may write."""
    call = CALLS[name]
    config = cli.parse(call.verb, [str(word) for word in call.words(world, scratch)])
    main = cli.VERBS[call.verb].load(cli.VERBS[call.verb].main)
    edges = []
    with quiet(), _no_work(TRAINING if call.verb == "train" else (call.begins,) if call.begins else ()):
        with suppress(_WorkBegins):
            main(config)  # else whatever is refused would prove nothing
        for flag, kind, shape in _numbers(config):
            for value in WHOLE if kind is int else BROKEN:
                fault = _fault(partial(main, _changed(config, flag, shape(value))), value)
                edges.append(Edge(name, ".".join(flag), value, fault))
    return edges


def _fault(work: Callable[[], object], value: float) -> str | None:
    begun = True
    try:
        work()
        begun = False
    except InputError as error:
        return None if "\n" not in str(error) else f"said {str(error)!r}"
    except _WorkBegins:
        pass
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    if not (math.isfinite(value) and value >= 0):
        return "was taken"
    return "the work began" if begun and isinstance(value, int) and value > MAX_SEED else None


class _WorkBegins(Exception):  # noqa: N818  (no error)
    """All was checked, and the work would begin."""


@contextmanager
def _no_work(places: tuple[str, ...]) -> Iterator[None]:
    with ExitStack() as stack:
        for place in places:
            module, _, name = place.rpartition(".")
            stack.enter_context(patch.object(_found(module), name, side_effect=_WorkBegins))
        yield


def _found(path: str) -> Any:
    """A module, or something in one, by its path."""
    try:
        return import_module(path)
    except ModuleNotFoundError:
        outer, _, name = path.rpartition(".")
        return getattr(_found(outer), name)


def _numbers(config: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type, Callable[[Any], Any]]]:
    """Every number of a config and of the configs in it: its name, whether it is whole, and its shape."""
    hints = get_type_hints(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from _numbers(value, (*before, field.name))
        for kind in (int, float):
            shape = _shape(hints[field.name], kind)
            if shape is not None:
                yield (*before, field.name), kind, shape


def _shape(hint: Any, kind: type) -> Callable[[Any], Any] | None:
    """How a number of this kind is put where a hint stands: as it is, or in a tuple; None where it does not fit."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _shape(parts[0], kind)
    if origin in (Union, UnionType):
        return next((shape for part in parts if (shape := _shape(part, kind))), None)
    if origin is tuple:
        inside = _shape(parts[0], kind)
        n = 1 if parts[-1] is Ellipsis else len(parts)
        return None if inside is None else lambda x: (x,) * n
    return (lambda x: x) if hint is kind else None


def _changed(config: Any, name: tuple[str, ...], value: Any) -> Any:
    first, *rest = name
    return replace(config, **{first: _changed(getattr(config, first), tuple(rest), value) if rest else value})
