"""Interleaving finds the better arm; off-policy estimates are unbiased on customers whose true answers are known."""

from pathlib import Path
from random import Random

import numpy as np
import polars as pl
import pytest
from journals import at, experiment, write
from worlds import crowd

from redraft.experiment.analysis.log import read_log
from redraft.experiment.analysis.mixed import Slates, answered, off_policy, preference, slates_of
from redraft.experiment.customers.worlds import by_taste
from redraft.experiment.traffic.design import Arm
from redraft.experiment.traffic.mixing import team_draft
from redraft.records import InputError

K, REPEATS = 6, 300
MIXED = {"metrics": ("ctr",), "arms": [Arm("a"), Arm("b")], "share": 1.0}


@pytest.fixture(scope="module")
def visits():
    """Visits of a day, the lists of a good and of a bad arm, and how probably each item would be clicked where."""
    customers = crowd(2000)
    visits = customers.come(0)
    lists = [by_taste(customers, K, noise, 7)(0, visits) for noise in (0.5, 3.0)]
    return customers, visits.users, lists


def test_off_policy_estimates_are_unbiased_and_their_intervals_hold(visits) -> None:
    customers, users, lists = visits
    rng = np.random.default_rng(0)
    pools = [np.array(list(dict.fromkeys([*one, *other]))) for one, other in zip(*lists)]
    found = []
    for _ in range(REPEATS):
        shown = np.stack([rng.choice(pool, K, replace=False) for pool in pools])
        clicks = rng.random(shown.shape) < customers.chances(users, shown)[0]
        p = np.repeat([[1 / len(pool)] for pool in pools], K, axis=1)
        slates = Slates(users, shown, p, clicks)
        found.append([off_policy(slates, wanted, "x") for wanted in lists])
    for arm, wanted in enumerate(lists):
        truth = customers.chances(users, wanted)[0].sum(axis=1).mean()
        for method in range(3):
            mine = [each[arm][method] for each in found]
            values = np.array([one.value for one in mine])
            bias = abs(values.mean() - truth)
            assert bias < 3 * values.std() / np.sqrt(REPEATS) + 0.002 * truth, mine[0].method
            assert 0.92 < np.mean([one.low <= truth <= one.high for one in mine]) < 0.995, mine[0].method
        spreads = [np.std([each[arm][method].value for each in found]) for method in range(3)]
        assert max(spreads[1:]) < spreads[0]


def test_interleaving_finds_the_better_arm_with_a_few_hundred_users(visits) -> None:
    customers, users, (good, bad) = visits
    rng, rows = np.random.default_rng(0), []
    for user, one, other in zip(users[:300], bad, good):
        items, teams = team_draft(one.tolist(), other.tolist(), K, Random(int(user)))
        clicks = rng.random(K) < customers.chances(np.array([user]), np.array([items]))[0][0]
        rows.append({"user_id": str(user), "teams": ["ab"[team] for team in teams], "clicks": clicks.tolist()})
    found = preference(pl.DataFrame(rows), ("a", "b"))
    assert found.low > 0.5
    assert found.p < 0.001
    alike = pl.DataFrame(rows).with_columns(teams=pl.lit(["a", "b"] * 3))
    assert preference(alike, ("a", "b")).p > 0.01


def journals(state: Path, kind: str, **more) -> tuple:
    made = experiment(kind=kind, **MIXED)
    lists = [
        {"user_id": f"u{n}", "timestamp": at(0.1), "arm": kind, "items": ["x", "y"]} | more | {"request_id": f"r{n}"}
        for n in range(4)
    ]
    clicks = [{"user_id": "u0", "timestamp": at(0.2)}, {"user_id": "u1", "timestamp": at(0.2), "item_id": "y"}]
    return answered(read_log(write(state, lists, clicks), made), 2), made


def test_journals_become_lists_with_clicks(tmp_path: Path) -> None:
    random = {"propensities": [0.5, 0.25], "lists": [["x", "z"], ["y", "x"]]}
    lists, _ = journals(tmp_path, "randomised", **random)
    slates, wanted = slates_of(lists)
    assert slates.clicks.tolist() == [[True, False], [False, True], [False, False], [False, False]]
    assert slates.propensities[0].tolist() == [0.5, 0.25]
    assert [(slates.items == arm)[0].tolist() for arm in wanted] == [[True, False], [False, False]]
    [ips, *_] = off_policy(slates, wanted[0], "a")
    assert ips.value == pytest.approx(2 / 4)


def test_teams_and_clicks_by_hand(tmp_path: Path) -> None:
    lists, _ = journals(tmp_path, "interleaving", teams=["b", "a"])
    found = preference(lists, ("a", "b"))
    assert (found.clicks, found.lists, found.share) == ((1, 1), 4, 0.5)


def test_few_users_who_click_alike_prove_nothing() -> None:
    def clicked(n_users: int, team: str) -> pl.DataFrame:
        users = [f"u{n}" for n in range(n_users)]
        return pl.DataFrame({"user_id": users, "teams": [[team]] * n_users, "clicks": [[True]] * n_users})

    alone, hundred = (preference(clicked(n, "b"), ("a", "b")) for n in (1, 100))
    assert alone.share == hundred.share == 1.0
    assert alone.p > 0.3
    assert alone.low < 0.5
    assert hundred.p < 1e-6
    assert 0.85 < hundred.low < 1.0
    both = pl.DataFrame({"user_id": ["u"], "teams": [["a", "b"]], "clicks": [[True, True]]})
    assert preference(both, ("a", "b")).p == 1.0


@pytest.mark.parametrize(
    "more", [{}, {"propensities": [0.5], "lists": [["x"]]}, {"propensities": [0.5, 0.0], "lists": [["x"]]}]
)
def test_estimates_without_propensities_are_refused(more: dict, tmp_path: Path) -> None:
    lists, _ = journals(tmp_path, "randomised", **more)
    with pytest.raises(InputError, match="4 lists have no propensities, the first is request 'r0'"):
        slates_of(lists)


def test_interleaving_without_teams_is_refused(tmp_path: Path) -> None:
    lists, _ = journals(tmp_path, "interleaving")
    with pytest.raises(InputError, match="do not say whose item is whose"):
        preference(lists, ("a", "b"))
