"""Who is where: as documented, uniform, independent between layers, and stable as shares ramp."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from redraft.experiment.traffic.assignment import BUCKETS, Lane, bucket, buckets_of
from redraft.experiment.traffic.design import Arm, Design, Experiment, Layer

DOCUMENT = Path(__file__).parents[3] / "docs" / "experiment.md"
START = datetime(2026, 1, 2, tzinfo=UTC)
NOW = START + timedelta(days=1)
VECTORS = {("model", "user-7"): 7615, ("model", "A1"): 5326, ("colour", "user-7"): 9832, ("model", "café"): 5179}


def experiment(*shares: float, salt: str = "model", origins: tuple[float, ...] = (), **changes) -> Experiment:
    """Arms a0, a1, ... in lanes of equal width."""
    origins = origins or tuple(n * BUCKETS // len(shares) / BUCKETS for n in range(len(shares)))
    arms = [Arm(f"a{n}", share=share, origin=origin) for n, (share, origin) in enumerate(zip(shares, origins))]
    made = Experiment("e", Layer(salt, salt), "ab", START, 10, "a0", arms)
    return replace(made, **changes)


@pytest.mark.parametrize(("salt", "unit"), VECTORS)
def test_buckets_are_those_that_the_document_gives(salt: str, unit: str) -> None:
    assert bucket(salt, unit) == VECTORS[salt, unit]
    rows = re.findall(r"^\| `(.*?):(.*?)` \| `[0-9a-f]{16}` \| (\d+) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert {(s, u): int(number) for s, u, number in rows} == VECTORS


def test_buckets_are_uniform() -> None:
    found = np.bincount([bucket("model", f"user-{n}") for n in range(200_000)], minlength=BUCKETS)
    assert len(found) == BUCKETS
    assert chisquare(found).pvalue > 0.01
    assert chisquare(found.reshape(100, 100).sum(axis=1)).pvalue > 0.01


def test_layers_are_independent() -> None:
    units = [f"user-{n}" for n in range(100_000)]
    one, other = (np.array([bucket(salt, unit) for unit in units]) * 10 // BUCKETS for salt in ("model", "colour"))
    table = np.bincount(one * 10 + other, minlength=100).reshape(10, 10)
    assert chi2_contingency(table).pvalue > 0.01
    assert chi2_contingency(np.diag(np.full(10, 1000)) + 1).pvalue < 1e-6


@given(
    st.lists(st.integers(0, 5000), min_size=2, max_size=2),
    st.lists(st.integers(0, 5000), min_size=2, max_size=2),
    st.text(max_size=8),
)
def test_nobody_moves_as_shares_ramp(before: list[int], after: list[int], unit: str) -> None:
    low = [min(pair) / BUCKETS for pair in zip(before, after)]
    high = [max(pair) / BUCKETS for pair in zip(before, after)]
    was, is_now = experiment(*low).where(unit), experiment(*high).where(unit)
    assert was is None or is_now == was
    assert experiment(*low).layout == experiment(*high).layout


def test_a_ramp_brings_in_as_many_as_it_says() -> None:
    units = [f"user-{n}" for n in range(20_000)]
    found = [experiment(0.15, 0.3).where(unit) for unit in units]
    for arm, share in (("a0", 0.15), ("a1", 0.3)):
        assert sum(place == (arm, False) for place in found) == pytest.approx(share * 20_000, rel=0.05)


def test_overrides_and_holdout() -> None:
    units = [f"user-{n}" for n in range(5_000)]
    one = experiment(0.5, 0.5, overrides={"user-3": "a1", "boss": "a0"})
    design = Design([one], holdout=0.1)
    out = [unit for unit in units if design.held_out(unit)]
    assert len(out) == pytest.approx(500, rel=0.2)
    assert not any(design.assign(unit, NOW) for unit in out if unit != "user-3")
    assert all(design.assign(unit, NOW) for unit in units if unit not in out)
    assert design.assign("boss", NOW) == [(one, "a0", True)]
    assert design.assign("user-3", NOW) == [(one, "a1", True)]
    assert not design.assign("boss", START - timedelta(seconds=1))
    assert not design.assign("boss", START + timedelta(days=10))


def test_an_override_takes_a_unit_out_of_the_other_experiments_of_its_layer() -> None:
    one = experiment(0.5, 0.5)
    other = replace(experiment(0.0, 0.0, overrides={"user-3": "a1"}), name="f")
    assert Design([one, other]).assign("user-3", NOW) == [(other, "a1", True)]
    elsewhere = replace(other, layer=Layer("colour", "colour"))
    assert [place.experiment.name for place in Design([one, elsewhere]).assign("user-3", NOW)] == ["e", "f"]


def test_lanes_and_shares() -> None:
    assert [number in Lane(10, 2) for number in (9, 10, 11, 12)] == [False, True, True, False]
    assert buckets_of(0.15) == 1500
    assert buckets_of(0.00005) is None
    assert experiment(0.15, 0.15).layout != experiment(0.15, 0.15, salt="other").layout
    assert experiment(0.15, 0.15).layout != experiment(0.15, 0.15, origins=(0.0, 0.2)).layout
