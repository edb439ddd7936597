"""The file of experiments: what it says, and every mistake in it by name."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from experiments import GOOD

from redraft.decode.correction import Correction
from redraft.experiment.traffic.design import Guardrails
from redraft.experiment.traffic.reading import check_runs, read_design
from redraft.records import InputError

SECOND = """
[[experiments]]
name = "second"
layer = "{layer}"
kind = "{kind}"
start = 2026-01-05T08:00:00+02:00
days = 3
control = "a"
share = 0.02
from = {origin}
arms = [{{ name = "a", {set} }}, {{ name = "b", {set} }}]
"""


def second(layer: str = "model", kind: str = "randomised", origin: float = 0.9, set: str = "beams = 20") -> str:
    return SECOND.format(layer=layer, kind=kind, origin=origin, set=set)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], object]:
    def reading(text: str):
        (tmp_path / "e.toml").write_text(text)
        return read_design(tmp_path / "e.toml")

    return reading


def test_a_file_is_a_design(read: Callable, tmp_path: Path) -> None:
    design = read(GOOD + second())
    first, mixed = design.experiments
    assert (design.holdout, design.holdout_salt, first.layer.salt) == (0.05, "holdout", "model-2026")
    assert (first.start, first.end) == (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 12, tzinfo=UTC))
    assert first.guardrails == Guardrails(p99_ms=100, errors=0.01, short=0.01, unavailable=0.0)
    tiger, grc = first.arms
    assert (tiger.run, tiger.correction, tiger.share, tiger.origin) == (str(tmp_path / "runs/tiger"), None, 0.15, 0.0)
    assert (grc.beams, grc.correction, grc.origin) == (40, Correction(budget=12), 0.5)
    assert {name: (lane.first, lane.end) for name, lane in first.lanes.items()} == {
        "tiger": (0, 1500),
        "grc": (5000, 6500),
    }
    assert mixed.start == datetime(2026, 1, 5, 6, tzinfo=UTC)
    assert mixed.lanes["randomised"].end == 9200


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


LAST = "share = 0.15\nbeams"
BAD = {
    "not TOML": ("[[", "not TOML"),
    "nothing": ("holdout = 0.1", "has no experiment; add a table [[experiments]]"),
    "above 1": (changed(LAST, "share = 1.5\nbeams"), "'grc': share is 1.5; a share must be within 0 and 1"),
    "sum above 1": (changed("share = 0.15", "share = 0.6"), "shares sum to 1.2"),
    "overlap in the lanes": (
        changed('run = "runs/tiger"\nshare = 0.15', 'run = "runs/tiger"\nshare = 0.6'),
        "'tiger' of 'first' (0 to 0.6) overlaps 'grc' of 'first' (0.5 to 0.65); lower a share or set `from`",
    ),
    "out of the layer": (changed(LAST, "share = 0.15\nfrom = 0.9\nbeams"), "would reach from 0.9 to 1.05"),
    "too fine": (changed(LAST, "share = 0.00015\nbeams"), "whole multiples of 1/10,000"),
    "overlapping experiments": (GOOD + second(origin=0.1), "'tiger' of 'first' (0 to 0.15) overlaps 'randomised'"),
    "overlapping layers": (GOOD + second("other"), "both set beams but are in different layers"),
    "same salt": (changed('salt = "model-2026"', 'salt = "holdout"'), "layer 'model' and the holdout both have"),
    "unknown metric": (
        changed("days = 10", 'days = 10\nmetrics = ["clicks"]'),
        "no metric 'clicks'; there are ctr, gmv",
    ),
    "no metric": (changed("days = 10", "days = 10\nmetrics = []"), "name each metric that decides"),
    "no control": (changed('"tiger"\nover', '"none"\nover'), "control is 'none', but the arms are tiger, grc"),
    "one arm": (GOOD[: GOOD.rindex("[[experiments.arms]]")].replace('"grc" }', '"tiger" }'), "has 1 arms"),
    "same arm": (changed('name = "grc"', 'name = "tiger"'), "two arms are called 'tiger'"),
    "same experiment": (
        GOOD + second(set="run = 'x'").replace("second", "first"),
        "two experiments are called 'first'",
    ),
    "unknown key": (changed("share = 0.15", "shares = 0.15"), "has no 'share'; add it"),
    "misspelt": (changed("days = 10", "days = 10\nhorizon = 3"), "'horizon' is unknown"),
    "another type": (changed("days = 10", "days = 'ten'"), "days is 'ten'; it must be int"),
    "no days": (changed("days = 10", "days = 0"), "days is 0; it must be >= 1"),
    "no zone": (changed("start = 2026-01-02", "start = 2026-01-02T08:00:00"), "add a zone, such as Z"),
    "another unit": (changed("days = 10", "days = 10\nunit = 'session'"), "unit is 'session'"),
    "override": (changed('"grc" }', '"crg" }'), "puts 'user-7' into 'crg', but the arms are tiger, grc"),
    "guardrail": (changed("p99_ms = 100", "p99 = 100"), "'p99' is unknown"),
    "negative guardrail": (changed("p99_ms = 100", "p99_ms = -1"), "p99_ms is -1; it must be >= 0"),
    "correction": (changed("budget = 12", "budgets = 12"), "correction: 'budgets' is unknown"),
    "window": (changed("days = 10", "days = 10\nwindow_hours = 300"), "no longer than the experiment"),
    "three interleaved": (
        GOOD + second(kind="interleaving").replace("arms = [", 'arms = [{ name = "c" }, '),
        "has 3 arms; a comparison of this kind needs two",
    ),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_named_in_one_line(mistake: str, read: Callable, tmp_path: Path) -> None:
    text, said = BAD[mistake]
    with pytest.raises(InputError) as caught:
        read(text)
    assert said in str(caught.value)
    assert str(tmp_path / "e.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_experiments_that_are_not_at_the_same_time_may_overlap(read: Callable) -> None:
    assert len(read(GOOD + second(origin=0.1).replace("01-05", "02-05")).experiments) == 2


def test_an_arm_whose_run_is_missing(read: Callable, tmp_path: Path) -> None:
    design = read(GOOD)
    (tmp_path / "runs" / "tiger").mkdir(parents=True)
    (tmp_path / "runs" / "tiger" / "catalogue.parquet").touch()
    with pytest.raises(InputError, match=r"'first', arm 'grc': .*runs/grc: not a trained run"):
        check_runs(design)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_design(tmp_path / "none.toml")


def test_the_file_of_the_document_can_be_read(read: Callable) -> None:
    page = (Path(__file__).parents[3] / "docs" / "experiment.md").read_text(encoding="utf-8")
    assert read(re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]).experiments
