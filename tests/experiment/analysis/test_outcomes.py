"""From journals to users: what belongs to which list, what counts once, what does not count, what is refused."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from journals import at, experiment, write

from redraft.experiment.analysis.log import read_log
from redraft.experiment.analysis.outcomes import TOTALS, Outcomes, moments, outcomes_of
from redraft.records import InputError


def bought(user: str, day: float, value: float | None, item: str = "x", **more) -> dict:
    return {"user_id": user, "timestamp": at(day), "kind": "purchase", "value": value, "item_id": item, **more}


def shown(user: str, day: float, **more) -> dict:
    return {"user_id": user, "timestamp": at(day), **more}


def clicked(user: str, day: float, item: str = "x", **more) -> dict:
    return {"user_id": user, "timestamp": at(day), "item_id": item, **more}


USUAL = [clicked("u1", 0.1), bought("u1", 0.1, 1.0)]


def found(state: Path, lists: list[dict], events: list[dict], **changes) -> Outcomes:
    """Outcomes, with one more user, who does what every metric needs."""
    lists = [*lists, shown("u1", 0.09)]
    return outcomes_of(read_log(write(state, lists, [*events, *USUAL]), experiment(**changes)), 2)


def totals(outcomes: Outcomes, day: int = 1) -> dict[str, list[float]]:
    return next(
        {name: row.tolist() for name, row in zip(TOTALS, sums)}
        for number, sums, _ in outcomes.cumulated(2)
        if number == day
    )


def of_first(outcomes: Outcomes) -> dict[str, float]:
    return {name: row[0] for name, row in totals(outcomes).items()}


def test_totals_by_hand(tmp_path: Path) -> None:
    lists = [shown("u0", 0.5, arm="b"), shown("u0", 0.6, items=["z"], arm="b"), shown("u0", 1.2, arm="b")]
    events = [
        clicked("u0", 0.51, "x"),
        clicked("u0", 0.61, "y"),
        clicked("u0", 1.21, "x"),
        clicked("u0", 0.7, "w"),
        bought("u0", 0.52, 10.0, "x"),
        bought("u0", 0.53, 5.0, "w"),
        bought("u0", 0.1, 7.0),
        bought("u0", -3.0, 20.0, "w"),
        bought("u0", -15.0, 40.0, "w"),
    ]
    outcomes = found(tmp_path, lists, events)
    assert outcomes.arm.tolist() == [1, 0]
    assert of_first(outcomes) == {
        "lists": 3,
        "items": 5,
        "clicks": 3,
        "gmv": 10.0,
        "revenue": 15.0,
        "before": 20.0,
    }
    assert totals(outcomes, 0)["clicks"] == [2, 1]


@pytest.mark.parametrize(
    ("lists", "events", "clicks"),
    [
        ([0.5], [0.5 + 23.9 / 24], 1),
        ([0.5], [0.5 + 24.1 / 24], 0),
        ([0.5], [0.499], 0),
        ([0.5, 0.6], [0.55, 0.65], 2),
        ([0.5, 0.6], [0.65, 0.66], 1),
    ],
)
def test_the_newest_list_within_the_window_gets_the_click(
    lists: list[float], events: list[float], clicks: int, tmp_path: Path
) -> None:
    outcomes = found(tmp_path, [shown("u0", day) for day in lists], [clicked("u0", day) for day in events])
    assert of_first(outcomes)["clicks"] == clicks
    assert outcomes.early == (events == [0.499])


def test_duplicates_count_once(tmp_path: Path) -> None:
    lists = [shown("u0", 0.5, request_id="same")] * 2
    events = [clicked("u0", 0.6, event_id="c")] * 2 + [bought("u0", 0.7, 4.0, event_id="p")] * 2
    events += [clicked("u0", 0.6, "y", event_id="d"), bought("u1", 0.6, 3.0, event_id="p")]
    outcomes = found(tmp_path, lists, events)
    first = of_first(outcomes)
    assert (first["lists"], first["clicks"], first["gmv"], first["revenue"]) == (1, 2, 4.0, 4.0)
    assert totals(outcomes)["revenue"] == [4.0, 4.0]


def test_who_does_not_count(tmp_path: Path) -> None:
    lists = [
        shown("forced", 0.5, forced=True),
        shown("both", 0.5),
        shown("both", 0.6, arm="b"),
        shown("late", 2.5),
        shown("other", 0.5, experiment="f"),
        shown("outside", 0.5, experiment=None, arm=None),
    ]
    outcomes = found(tmp_path, lists, [])
    assert len(outcomes.arm) == 1
    assert (outcomes.two_arms, outcomes.layouts) == (1, 1)
    assert found(tmp_path, [shown("u0", 1.0, layout="another")], []).layouts == 2


def test_a_request_without_a_list_counts_its_user_alone(tmp_path: Path) -> None:
    outcomes = found(tmp_path, [shown("u0", 0.5, error="queue_full", items=[])], [clicked("u0", 0.6)])
    assert of_first(outcomes) == dict.fromkeys(TOTALS, 0.0)


def test_users_come_day_by_day(tmp_path: Path) -> None:
    outcomes = found(tmp_path, [shown("u0", 1.5)], [])
    assert [here.tolist() for _, _, here in outcomes.cumulated(2)] == [[False, True], [True, True]]


def test_moments_are_means_and_covariances(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sums, arm = rng.normal(size=(len(TOTALS), 50)), rng.integers(2, size=50)
    for number, name in enumerate("ab"):
        made = moments(sums, arm, ("a", "b"), np.ones(50, dtype=bool))[name]
        assert made.count == (arm == number).sum()
        np.testing.assert_allclose(made.cov, np.cov(sums[:, arm == number]), atol=1e-12)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([bought("u1", 0.1, 1.0)], "no click since the start of 'e', so ctr cannot be measured"),
        ([clicked("u1", 0.1), bought("u1", 0.1, None)], "no purchase with a value since the start of 'e', so gmv"),
        ([clicked("u1", 0.1), bought("u1", -1.0, 1.0)], "no purchase with a value since the start"),
        ([*USUAL, bought("u2", 0.1, -3.0)], "of user 'u2' has the value -3; revenue cannot be negative"),
    ],
)
def test_events_that_cannot_be_measured(events: list[dict], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read_log(write(tmp_path, [shown("u1", 0.09)], events), experiment())


def test_a_metric_that_is_not_asked_for_needs_no_events(tmp_path: Path) -> None:
    state = write(tmp_path, [shown("u1", 0.09)], [clicked("u1", 0.1)])
    assert outcomes_of(read_log(state, experiment(metrics=("ctr",))), 2).daily.height


def test_no_journal_and_no_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no journal; give the --state folder"):
        read_log(tmp_path, experiment())
    write(tmp_path, [shown("u1", 2.1)], USUAL)
    with pytest.raises(InputError, match=r"no list of experiment 'e' between 2026-01-02 and 2026-01-04"):
        read_log(tmp_path, experiment())


def test_journals_from_before_there_were_experiments_can_lie_beside(tmp_path: Path) -> None:
    state = write(tmp_path, [shown("u1", 0.09)], USUAL)
    old = pl.read_parquet(state / "exposures" / "2026-01-02T00.parquet").select("timestamp", "request_id", "items")
    old.write_parquet(state / "exposures" / "2026-01-01T00.parquet")
    assert len(outcomes_of(read_log(state, experiment()), 2).arm) == 1
