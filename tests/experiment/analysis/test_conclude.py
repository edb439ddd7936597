"""From journals to a sentence: what is concluded, when, and when nothing is."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from journals import at, experiment, of_customers, write

from redraft.experiment.analysis.conclude import Analysis, analyse, sentence_of, verdict_of
from redraft.experiment.analysis.log import read_log
from redraft.experiment.traffic.design import Experiment, Guardrails
from redraft.records import InputError


def analysed(state: Path, made: Experiment, day: float | None = None) -> Analysis:
    return analyse(read_log(state, made), made.end if day is None else at(day))


@pytest.fixture(scope="module")
def better(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Experiment]:
    """Ten days in which b is far better."""
    made = experiment(days=10, before_days=5)
    return of_customers(tmp_path_factory.mktemp("better"), made, {"a": 3.0, "b": 0.3}), made


def test_the_last_day_decides(better: tuple[Path, Experiment]) -> None:
    state, made = better
    done = analysed(state, made)
    assert verdict_of(done) == "better"
    said = sentence_of(done)
    assert said.startswith("In 10 days, b raised CTR by ")
    assert "after Holm" in said
    assert [verdict_of(analysed(state, made, day)) for day in (1, 9.9)] == ["running", "running"]
    assert "Day 9 of 10: no harm is seen" in sentence_of(analysed(state, made, 9.9))
    with pytest.raises(InputError, match="its first day is not over"):
        analysed(state, made, 0.9)


def test_harm_stops_before_the_last_day(better: tuple[Path, Experiment]) -> None:
    state, _ = better
    turned = analysed(state, experiment(days=10, before_days=5, control="b"), 6)
    assert verdict_of(turned) == "harm"
    assert sentence_of(turned).startswith("Stop: a lowered CTR by at least ")


def test_segments_share_out_the_users(better: tuple[Path, Experiment]) -> None:
    done = analysed(*better)
    users = {segment.name: segment.users for segment in done.segments}
    assert users["new users"] + users["old users"] == sum(done.users.values())
    short, long = (count for name, count in users.items() if name.startswith("histories"))
    assert short + long == users["old users"]
    assert min(short, long) > 0
    assert all(len(segment.lifts) == 3 for segment in done.segments)


def without(state: Path, to: Path, keep: pl.Expr) -> Path:
    """The same journals, of whose lists some are lost."""
    lists = pl.read_parquet(state / "exposures" / "*.parquet")
    for name, frame in (("exposures", lists.filter(keep)), ("events", pl.read_parquet(state / "events" / "*.parquet"))):
        (to / name).mkdir(parents=True)
        frame.write_parquet(to / name / "all.parquet")
    return to


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Experiment]:
    """Forty thousand users, one to three lists each, no difference."""
    rng = np.random.default_rng(1)
    state = tmp_path_factory.mktemp("many")
    user = np.repeat(np.arange(40_000), rng.integers(1, 4, 40_000))
    when = pl.Series(rng.uniform(0, 2, len(user)) * 86_400e6).cast(pl.Duration("us")) + at(0)
    write(state, [], [])
    lists = pl.read_parquet(state / "exposures" / "*.parquet").schema
    made = pl.DataFrame({"user_id": user, "timestamp": when}).with_columns(
        pl.format("u{}", "user_id").alias("user_id"),
        request_id=pl.format("r{}", pl.int_range(pl.len())),
        items=pl.lit(["x", "y"]),
        arm=pl.Series(np.where(user % 2, "b", "a")),
        layout=pl.lit("l"),
        experiment=pl.lit("e"),
        asked=2,
        milliseconds=5.0,
    )
    made.select(
        pl.col(name).cast(kind) if name in made.columns else pl.lit(None, kind).alias(name)
        for name, kind in lists.items()
    ).write_parquet(state / "exposures" / "2026-01-02T00.parquet")
    some = made.sample(fraction=0.2, seed=2)
    events = some.select(
        "user_id",
        pl.lit("x").alias("item_id"),
        pl.col("timestamp") + timedelta(seconds=1),
        pl.lit("click").alias("kind"),
        event_id="request_id",
        value=pl.lit(None, pl.Float64),
    )
    events.write_parquet(state / "events" / "2026-01-02T00.parquet")
    return state, experiment(metrics=("ctr",))


def test_a_logger_that_loses_a_twentieth_of_one_arm_is_caught(many: tuple[Path, Experiment], tmp_path: Path) -> None:
    state, made = many
    whole = analysed(state, made)
    assert (verdict_of(whole), list(whole.problems)) == ("undecided", [])
    assert "no difference was proven" in sentence_of(whole)
    lost = (pl.col("arm") == "b") & (pl.col("request_id").hash(3) % 20 == 0)
    broken = analysed(without(state, tmp_path / "lists", ~lost), made)
    assert verdict_of(broken) == "refused"
    assert sentence_of(broken).startswith("Nothing may be concluded: ")
    assert "are lost" in sentence_of(broken)
    gone = (pl.col("arm") == "b") & (pl.col("user_id").hash(3) % 20 == 0)
    broken = analysed(without(state, tmp_path / "users", ~gone), made)
    assert "users where its share asks for" in sentence_of(broken)


def test_users_in_two_arms_and_another_layout_are_refused(tmp_path: Path) -> None:
    made = experiment(metrics=("ctr",))
    lists = [{"user_id": f"u{n}", "timestamp": at(0.1), "arm": "ab"[n % 2]} for n in range(20)]
    click = [{"user_id": "u1", "timestamp": at(0.2)}]
    twice = [*lists, {"user_id": "u0", "timestamp": at(0.3), "arm": "b"}]
    assert "1 users were in two arms" in sentence_of(analysed(write(tmp_path / "two", twice, click), made))
    other = [*lists, {"user_id": "u0", "timestamp": at(0.3), "layout": "m"}]
    said = sentence_of(analysed(write(tmp_path / "layout", other, click), made))
    assert "salt or arms changed on the way" in said


def test_clocks_that_differ_are_remarked(tmp_path: Path) -> None:
    made = experiment(metrics=("ctr",))
    lists = [{"user_id": f"u{n}", "timestamp": at(0.1), "arm": "ab"[n % 2]} for n in range(20)]
    clicks = [{"user_id": "u1", "timestamp": at(0.2)}, {"user_id": "u2", "timestamp": at(0.0999)}]
    done = analysed(write(tmp_path, lists, clicks), made)
    assert list(done.remarks) == ["1 events are older than the list that had their item: clocks differ"]


def test_guardrails_by_hand(tmp_path: Path) -> None:
    made = experiment(metrics=("ctr",), guardrails=Guardrails(p99_ms=8.0, errors=0.2, short=0.5, unavailable=0.0))
    lists = [{"user_id": f"u{n}", "timestamp": at(0.1), "arm": "ab"[n % 2]} for n in range(20)]
    lists[0] |= {"error": "queue_full", "items": [], "milliseconds": 900.0}
    lists[2] |= {"fallback": True}
    lists[4] |= {"items": ["x"]}
    lists[1] |= {"unavailable": 1, "milliseconds": 9.0}
    done = analysed(write(tmp_path, lists, [{"user_id": "u1", "timestamp": at(0.2)}]), made)
    values = {(each.arm, each.name): each.value for each in done.guardrails}
    assert values["a", "errors"] == pytest.approx(0.2)
    assert values["a", "short"] == pytest.approx(1 / 9)
    assert (values["a", "p99_ms"], values["b", "p99_ms"]) == (5.0, 9.0)
    assert values["b", "unavailable"] == pytest.approx(0.1)
    assert {(each.arm, each.name) for each in done.guardrails if each.broken} == {("b", "p99_ms"), ("b", "unavailable")}
    assert "But b breaks a guardrail: p99_ms is 9." in sentence_of(done)
