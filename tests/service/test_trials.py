"""Experiments in the service: each user gets the list of their arm, and every list is logged with what led to it."""

import asyncio
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import client_of, make_service, recommender
from starlette.testclient import TestClient

from redraft.records import InputError, Interactions
from redraft.service.live import LiveModel
from redraft.service.process import make_service as start_service
from redraft.service.service import Service
from redraft.service.store import StoredItem
from redraft.service.trials import Trials
from redraft.service.verb import ServeConfig

NOW = datetime(2026, 1, 3, 12, tzinfo=UTC).timestamp()
SEEDS = {"one": 1, "two": 2}
ARMS = """
[[experiments.arms]]
name = "one"
run = "one"
{share}
[[experiments.arms]]
name = "two"
run = "two"
{share}
"""
HEAD = '[[experiments]]\nname = "e"\nlayer = "model"\nstart = 2026-01-02\ndays = 10\ncontrol = "one"\n'
AB = HEAD + ARMS.format(share="share = 0.5")
MIXED = HEAD + 'kind = "{kind}"\nshare = 1.0\n' + ARMS.format(share="")

Start = Callable[[str], tuple[Service, TestClient]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    for name in SEEDS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "catalogue.parquet").touch()

    def read(changes: Any) -> LiveModel:
        name = Path(changes["run"]).name
        return LiveModel(name, recommender(SEEDS[name]))

    def starting(text: str) -> tuple[Service, TestClient]:
        (tmp_path / "e.toml").write_text(text)
        service = make_service(tmp_path, lambda: NOW, deadline=10.0)
        service.trials = Trials(tmp_path / "e.toml", tmp_path / "experiments.json", service.models, read, lambda: NOW)
        return service, client_of(service)

    return starting


def asked(client: TestClient, user: str, k: int = 5) -> dict[str, Any]:
    answer = client.post("/v1/recommend", json={"user_id": user, "k": k})
    assert answer.status_code == 200, answer.text
    return answer.json()


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "exposures" / ".2026-01-03T12.jsonl").read_text().splitlines()]


def lists_of(service: Service, user: str, k: int) -> list[list[str]]:
    """What each arm's model alone gives a user."""
    history = [int(item.rpartition("-")[2]) for item in service.memory._people.find(user).before]
    found = (recommender(seed).recommend(Interactions.from_lists([history]), k) for seed in SEEDS.values())
    return [[f"item-{item}" for item in each.items[0]] for each in found]


def test_every_user_gets_the_list_of_their_arm(start: Start, tmp_path: Path) -> None:
    service, client = start(AB)
    users = [f"user-{n}" for n in range(20)]
    together = {"requests": [{"user_id": user, "k": 5} for user in users]}
    answers = client.post("/v1/recommend/batch", json=together).json()["answers"]
    experiment = service.trials.design.experiments[0]
    arms = {user: experiment.where(user)[0] for user in users}
    assert set(arms.values()) == set(SEEDS)
    for user, answer, row in zip(users, answers, logged(tmp_path)):
        place = list(SEEDS).index(arms[user])
        assert [item["id"] for item in answer["items"]] == lists_of(service, user, 5)[place]
        assert answer["model"] == service.models.others[place].fingerprint
        assert row == row | {
            "request_id": answer["request_id"],
            "user_id": user,
            "experiment": "e",
            "arm": arms[user],
            "layout": experiment.layout,
            "forced": False,
            "model": answer["model"],
            "items": [item["id"] for item in answer["items"]],
            "scores": [item["score"] for item in answer["items"]],
            "asked": 5,
            "fallback": False,
            "unavailable": 0,
        }
        assert row["history"] == len(service.memory._people.find(user).before)


def test_who_asks_by_history_is_in_no_experiment(start: Start, tmp_path: Path) -> None:
    service, client = start(AB)
    answer = client.post("/v1/recommend", json={"history": ["item-3"], "k": 3}).json()
    assert answer["model"] == service.served.fingerprint
    assert "experiment" not in logged(tmp_path)[0]


def test_interleaved_lists_are_of_both_arms(start: Start, tmp_path: Path) -> None:
    service, client = start(MIXED.format(kind="interleaving"))
    answer = asked(client, "user-3", 6)
    [row] = logged(tmp_path)
    lists = dict(zip(SEEDS, lists_of(service, "user-3", 6)))
    assert (row["arm"], sorted(row["teams"])) == ("interleaving", ["one"] * 3 + ["two"] * 3)
    assert [item["id"] for item in answer["items"]] == row["items"]
    assert all(item in lists[team] for item, team in zip(row["items"], row["teams"]))


def test_random_lists_come_with_their_propensities(start: Start, tmp_path: Path) -> None:
    service, client = start(MIXED.format(kind="randomised"))
    asked(client, "user-3", 6)
    [row] = logged(tmp_path)
    lists = lists_of(service, "user-3", 6)
    pool = {item for each in lists for item in each}
    assert row["lists"] == lists
    assert set(row["items"]) <= pool
    np.testing.assert_allclose(row["propensities"], [1 / len(pool)] * 6)


def test_a_model_that_fails_is_replaced_by_the_services_own(start: Start, tmp_path: Path) -> None:
    service, client = start(AB)
    for live in service.models.others:
        live.base.recommend = None
    answer = asked(client, "user-3")
    [row] = logged(tmp_path)
    assert answer["model"] == row["model"] == service.served.fingerprint
    assert (row["fallback"], row["experiment"]) == (True, "e")


def test_a_request_without_a_list_is_logged(start: Start, tmp_path: Path) -> None:
    service, client = start(AB)
    service.engine.stop()
    assert client.post("/v1/recommend", json={"user_id": "user-3"}).status_code == 503
    assert client.post("/v1/recommend", json={"user_id": "user-3", "k": 900}).status_code == 422
    [row] = logged(tmp_path)
    assert (row["error"], row["items"], row["experiment"]) == ("engine_dead", [], "e")


def test_items_off_sale_leave_the_lists_of_all_arms(start: Start, tmp_path: Path) -> None:
    service, client = start(AB)
    for user in ("user-1", "user-2", "user-3", "user-4"):
        gone = asked(client, user, 1)["items"][0]["id"]
        assert client.put(f"/v1/items/{gone}", json={"available": False}).status_code == 200
        assert gone not in [item["id"] for item in asked(client, user, 10)["items"]]
    assert service.models.others


def test_the_file_is_read_again_and_a_mistake_changes_nothing(start: Start, tmp_path: Path) -> None:
    service, _ = start(AB)
    file, trials = tmp_path / "e.toml", service.trials
    for text, share in (
        (AB.replace("0.5", "0.2"), 0.2),
        (AB.replace("0.5", "1.5"), 0.2),
        (AB.replace("days = 10", "days = 11"), 0.2),
        (AB.replace('run = "two"', 'run = "three"'), 0.2),
        (AB.replace("0.5", "0.3"), 0.3),
    ):
        file.write_text(text)
        os.utime(file, ns=(0, file.stat().st_mtime_ns + len(text)))
        assert trials.changed
        asyncio.run(service.renew_trials())
        assert not trials.changed
        assert trials.design.experiments[0].arms[0].share == share


def test_a_new_arm_answers_only_when_its_items_are_those_on_sale(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = AB.replace("2026-01-02", "2026-02-02")
    service, _ = start(later.replace('run = "two"', 'run = "one"'))
    trials, file, renew = service.trials, tmp_path / "e.toml", LiveModel.renew
    before, seen = trials.design, []

    def renewing(live: LiveModel, changes: Any) -> Any:
        seen.append((live.run, len(changes), trials.design is before))
        return renew(live, changes)

    monkeypatch.setattr(LiveModel, "renew", renewing)
    file.write_text(later)
    trials.put(trials.renewed([StoredItem("item-0", available=False)]))
    assert ("two", 1, True) in seen
    assert trials.design is not before
    assert not any(live.served.on_sale[0] for live in service.models.others)


def test_models_of_new_arms_are_warm_and_those_of_none_are_forgotten(start: Start, tmp_path: Path) -> None:
    later = AB.replace("2026-01-02", "2026-02-02")
    service, client = start(later.replace('run = "two"', 'run = "one"'))
    [one] = service.models.others
    with client:
        (tmp_path / "e.toml").write_text(later)
        client.portal.call(service.renew_trials)
        two = next(live for live in service.models.others if live is not one)
        assert one in service.models.others
        assert two.served.recommender._engines
        (tmp_path / "e.toml").write_text(later.replace('run = "one"', 'run = "two"'))
        client.portal.call(service.renew_trials)
        assert service.models.others == [two]


def test_what_was_registered_holds_after_a_restart(start: Start, tmp_path: Path) -> None:
    start(AB)
    with pytest.raises(InputError, match="'e': salt was 'model' when it started and is 'other' now"):
        start(AB + '[layers.model]\nsalt = "other"\n')


def test_an_arm_whose_correction_would_change_nothing_is_refused(tmp_path: Path) -> None:
    for name, seed in SEEDS.items():
        recommender(seed).save(tmp_path / name)
    toml = tmp_path / "e.toml"
    toml.write_text(AB + "correction = { budget = 5 }\n")
    with pytest.raises(InputError, match=r"two: does not correct itself"):
        start_service(ServeConfig(tmp_path / "one", experiment=toml, beams=20), lambda: NOW)
