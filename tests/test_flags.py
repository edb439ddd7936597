"""Every number that a verb takes, at its edges: refused in a line, or taken; what is negative or NaN is refused."""

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest

from redraft import recipes
from redraft.bench.tables import evaluate
from redraft.bench.tables.evaluate import EvaluateConfig
from redraft.records import InputError
from redraft.serve import explain, export, recommend
from redraft.serve.explain import ExplainConfig
from redraft.serve.export import ExportConfig
from redraft.serve.recommend import RecommendConfig
from redraft.train import grpo, pretrain, sft, verifier

WHOLE = (-(2**63), -1, 0, 1, 2**31, 2**64, 10**30)
BROKEN = (-math.inf, -1.0, 0.0, 1.0, 1e300, math.inf, math.nan)

VERBS: dict[str, tuple[Callable[[Path, Path], Any], Callable[[Any], object]]] = {
    "recommend": (lambda s, t: RecommendConfig(s / "grc", history=("item-3",)), recommend.main),
    "explain": (lambda s, t: ExplainConfig(s / "grc", history=("item-3",)), explain.main),
    "evaluate": (lambda s, t: EvaluateConfig(s / "data", runs=(s / "grc",), methods=(), ranks=t), evaluate.main),
    "export": (lambda s, t: ExportConfig(s / "grc", t / "out", compile=False), export.main),
    "train small": (lambda s, t: recipes.small(s / "data", t / "run"), recipes.train),
    "train tiger": (lambda s, t: recipes.tiger(s / "data", t / "run"), recipes.train),
    "train grc": (lambda s, t: replace(recipes.grc(s / "data", t / "run"), backbone=s / "run"), recipes.train),
    "train grpo": (lambda s, t: replace(recipes.grpo(s / "data", t / "run"), sft=s / "grc"), recipes.train),
    "train verifier": (lambda s, t: replace(recipes.verifier(s / "data", t / "run"), run=s / "run"), recipes.train),
}


def numbers(config: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type, Any]]:
    """Every number of a config and of the configs in it: its name, whether it is whole, and its shape."""
    hints = get_type_hints(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from numbers(value, (*before, field.name))
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


def changed(config: Any, name: tuple[str, ...], value: Any) -> Any:
    first, *rest = name
    return replace(config, **{first: changed(getattr(config, first), tuple(rest), value) if rest else value})


class WorkBegins(Exception):  # noqa: N818  (no error)
    """All was checked, and the work would begin."""


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*args: object, **options: object) -> None:
        raise WorkBegins

    for place, name in (
        *((pretrain, "pretrain"), (sft, "_draft"), (grpo, "grpo"), (verifier, "train_verifier")),
        *((evaluate, "evaluate_methods"), (export, "_Program")),
    ):
        monkeypatch.setattr(place, name, reached)
    for module in (pretrain, sft, grpo, verifier):
        monkeypatch.setattr(module, "keep_settings", lambda *args: None)


@pytest.mark.parametrize("verb", VERBS)
def test_every_number_at_its_edges(verb: str, shop: Path, tmp_path: Path, no_work: None) -> None:
    make, main = VERBS[verb]
    config = make(shop, tmp_path)
    tried: dict[str, list[Any]] = {}
    for name, kind, shape in numbers(config):
        for value in WHOLE if kind is int else BROKEN:
            try:
                main(changed(config, name, shape(value)))
            except InputError:
                continue
            except WorkBegins:
                pass
            except Exception as error:
                raise AssertionError(f"{'.'.join(name)} = {value}: {error!r}") from error
            tried.setdefault(".".join(name), []).append(value)
    taken = {name: [v for v in values if not (math.isfinite(v) and v >= 0)] for name, values in tried.items()}
    assert {name: values for name, values in taken.items() if values} == {}
    assert len(list(numbers(config))) >= 5
