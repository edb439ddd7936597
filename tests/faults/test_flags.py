"""Every number that a verb takes, at its edges; the flags are those of the command line."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from redraft import cli
from redraft.faults.flags import CALLS, _fault, _numbers, _WorkBegins, try_numbers
from redraft.faults.world import World
from redraft.records import InputError

ALIKE = {"gc", "paper", "tiny", "tiny-tiger", "markov", "itemknn", "sasrec-sampled", "sasrec-bce", "rearec-prl"}
"""Recipes with the flags of another."""


@pytest.mark.parametrize("call", [name for name in CALLS if name.removeprefix("train ") not in ALIKE])
def test_every_number_at_its_edges(call: str, world: World, tmp_path: Path) -> None:
    assert [each for each in try_numbers(call, world, tmp_path) if each.fault] == []


def test_every_verb_is_called() -> None:
    assert {call.verb for call in CALLS.values()} == cli.VERBS.keys()


@dataclass
class Inner:
    rate: float | None = None


@dataclass
class Outer:
    name: str = ""
    sizes: tuple[int, ...] = ()
    on: bool = True
    inner: Inner = field(default_factory=Inner)


def test_numbers_are_found_wherever_they_stand() -> None:
    found = {flag: (kind, shape(kind(3))) for flag, kind, shape in _numbers(Outer())}
    assert found == {("sizes",): (int, (3,)), ("inner", "rate"): (float, 3.0)}


def ends(error: Exception | None) -> object:
    def work() -> None:
        if error is not None:
            raise error

    return work


@pytest.mark.parametrize(
    ("error", "value", "fault"),
    [
        (InputError("no"), -1, None),
        (InputError("no\nmore"), -1, "said"),
        (_WorkBegins(), 1, None),
        (_WorkBegins(), -1, "was taken"),
        (_WorkBegins(), float("nan"), "was taken"),
        (_WorkBegins(), 2**64, "the work began"),
        (None, 2**64, None),
        (None, -1, "was taken"),
        (ZeroDivisionError(), 0, "ZeroDivisionError"),
    ],
)
def test_what_went_wrong_is_said(error, value, fault) -> None:
    found = _fault(ends(error), value)
    assert (found is None) == (fault is None)
    assert fault is None or found.startswith(fault)
