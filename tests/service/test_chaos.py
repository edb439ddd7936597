"""A service is killed, its disk fills, its database goes away, its clock jumps: nothing acknowledged is lost."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import polars as pl
import pytest
from full_disk import room_for
from serving import client_of, dataset, make_service, recommender, running
from starlette.testclient import TestClient

from redraft.records import InputError
from redraft.service.live import LiveModel
from redraft.service.models import Models
from redraft.service.service import Service, Settings
from redraft.service.store import Limits, open_store

NOW = 1_750_000_000.0
HOUR = 3600.0
SENDERS = 8
SERVERS = {"redis": "REDRAFT_TEST_REDIS", "postgres": "REDRAFT_TEST_POSTGRES"}


def event(number: int, user: str = "ann") -> dict:
    return {"event_id": f"e{number}", "user_id": user, "item_id": f"item-{number % 30}", "kind": "view"}


def send(client: TestClient, *events: dict) -> httpx2.Response:
    return client.post("/v1/events", json={"events": list(events)})


def remembered(client: TestClient, user: str = "ann") -> list[str]:
    return [one["event_id"] for one in client.get(f"/v1/users/{user}").json()["events"]]


def journalled(folder: Path) -> set[str]:
    """Ids of all events in a journal, sealed or not."""
    found = {name for path in folder.glob("*.parquet") for name in pl.read_parquet(path)["event_id"].to_list()}
    lines = [line for path in folder.glob(".*") for line in path.read_text().splitlines() if line.endswith("}")]
    return found | {json.loads(line)["event_id"] for line in lines}


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres"])
def test_a_killed_process_has_every_event_that_it_acknowledged(kind: str, tmp_path: Path) -> None:
    """SIGKILL while eight senders send events one after the other."""
    state, user = tmp_path / "state", f"killed-{time.time_ns()}"
    store = f"sqlite:{state / 'store.sqlite'}"
    if kind in SERVERS:
        if SERVERS[kind] not in os.environ:
            pytest.skip(f"no {SERVERS[kind]}: run `source .ci/services` first")
        store = os.environ[SERVERS[kind]]
    recommender().save(tmp_path / "run")
    acknowledged: list[str] = []

    async def write(client: httpx2.AsyncClient, sender: int) -> None:
        for number in range(10_000):
            one = event(number, user) | {"event_id": f"{sender}-{number}"}
            try:
                answer = await client.post("/v1/events", json={"events": [one]})
            except httpx2.TransportError:
                return
            assert answer.json() == {"accepted": 1, "duplicates": 0}
            acknowledged.append(one["event_id"])

    async def write_until_killed(server: subprocess.Popen[str], address: str) -> None:
        async with httpx2.AsyncClient(base_url=address, timeout=60.0) as client:
            senders = [asyncio.create_task(write(client, sender)) for sender in range(SENDERS)]
            while len(acknowledged) < 200:
                assert server.poll() is None
                await asyncio.sleep(0.01)
            server.kill()
            await asyncio.gather(*senders)

    flags = ["--state", state, "--store", store, "--keep-events", 100_000]
    with running(tmp_path / "run", *flags) as (server, address):
        asyncio.run(write_until_killed(server, address))
    assert len(acknowledged) >= 200
    opened = open_store(store, Limits(events=100_000))
    there = {one.id for one in opened.history(user)}
    opened.erase_user(user)
    opened.close()
    assert set(acknowledged) <= there, "acknowledged, and not in the store"
    assert set(acknowledged) <= journalled(state / "events"), "acknowledged, and not in the journal"
    assert len(there) <= len(acknowledged) + SENDERS, "no more than what was under way besides"


def test_a_full_disk_loses_nothing_that_was_acknowledged_and_is_survived(tmp_path: Path) -> None:
    now = NOW
    service = make_service(tmp_path, lambda: now, deadline=30.0)
    statuses: dict[int, int] = {}
    acknowledged: list[str] = []
    with client_of(service) as client:

        def write(numbers: range) -> None:
            for number in numbers:
                answer = send(client, event(number))
                statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
                if answer.status_code == 200:
                    acknowledged.append(f"e{number}")
                else:
                    assert (answer.json()["code"], answer.json()["retryable"]) == ("disk_full", True)
                assert client.post("/v1/recommend", json={"history": ["item-1"], "k": 3}).status_code == 200

        write(range(20))
        lines = next((tmp_path / "events").glob(".*.jsonl"))
        with room_for(lines.stat().st_size + 600):  # the journal's lines fill first, then the store's
            write(range(20, 40))
        assert statuses.keys() == {200, 507}
        refused = statuses[507]
        assert refused >= 10
        write(range(40, 60))
        assert statuses == {200: 60 - refused, 507: refused}
        assert sorted(remembered(client)) == sorted(acknowledged)
        assert set(acknowledged) <= journalled(tmp_path / "events")
        with room_for(1000):
            now += HOUR
            with pytest.raises(InputError, match="cannot be written"):
                service.memory.seal()
            assert client.delete("/v1/users/user-2").json()["code"] == "disk_full"
        assert send(client, *(event(number) for number in range(60))).json() == {
            "accepted": refused,
            "duplicates": 60 - refused,
        }
        now += HOUR
        service.memory.seal()
    found = pl.concat([pl.read_parquet(path) for path in (tmp_path / "events").glob("*.parquet")])
    assert set(found["event_id"]) == {f"e{number}" for number in range(60)}
    assert not list((tmp_path / "events").glob(".*"))


class Redis:
    """A server that can be stopped and started again, with what it had."""

    def __init__(self, folder: Path):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder, self.process = folder, None

    def start(self) -> None:
        flags = ["--bind", "127.0.0.1", "--port", self.port, "--dir", self.folder, "--save", ""]
        flags += ["--appendonly", "yes", "--appendfsync", "always"]
        self.process = subprocess.Popen(["redis-server", *map(str, flags)], stdout=subprocess.DEVNULL)
        while True:
            with socket.socket() as asking:
                asking.settimeout(5)
                if asking.connect_ex(("127.0.0.1", self.port)) == 0:
                    asking.sendall(b"PING\r\n")
                    if asking.recv(5) == b"+PONG":
                        return
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server: run `source .ci/services` first")
    (tmp_path / "redis").mkdir()
    server = Redis(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


def test_redis_may_go_and_come_back(redis: Redis, tmp_path: Path) -> None:
    store = open_store(f"redis://127.0.0.1:{redis.port}/0", Limits())
    models = Models(LiveModel("run", recommender()), tmp_path, lambda run: recommender())
    service = Service(models, store, dataset(), tmp_path, Settings(deadline=30.0))
    with client_of(service) as client:
        assert [send(client, event(number)).status_code for number in range(20)] == [200] * 20
        for _ in range(2):
            redis.stop()
            gone = [
                send(client, event(99)),
                client.post("/v1/recommend", json={"user_id": "ann"}),
                client.get("/v1/users/ann"),
                client.get("/v1/users?prefix=a"),
                client.put("/v1/items/item-1", json={"available": False}),
                client.delete("/v1/users/ann"),
            ]
            for answer in gone:
                assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), answer.text
                assert answer.json()["retryable"]
                assert answer.headers["retry-after"] == "1"
            by_hand = client.post("/v1/recommend", json={"history": ["item-2"], "k": 30, "filter_seen": False})
            assert "item-1" in [item["id"] for item in by_hand.json()["items"]], "nothing of what failed was done"
            assert client.get("/livez").status_code == 200
            redis.start()
            assert sorted(remembered(client)) == sorted(f"e{number}" for number in range(20))
        assert client.post("/v1/recommend", json={"user_id": "ann"}).status_code == 200
        assert send(client, event(99)).json()["accepted"] == 1


def test_a_clock_that_jumps_back_loses_and_refuses_nothing(tmp_path: Path) -> None:
    now = NOW
    service = make_service(tmp_path, lambda: now, deadline=30.0)
    with client_of(service) as client:
        for number, jump in enumerate([0, 60, -7200, 30, -HOUR, 3 * HOUR, -86_400, 10, 86_400]):
            now += jump
            assert send(client, event(number)).json() == {"accepted": 1, "duplicates": 0}
            assert client.post("/v1/recommend", json={"user_id": "ann", "k": 3}).status_code == 200
            now += 2 * HOUR
            service.memory.seal()
            now -= 2 * HOUR
        assert sorted(remembered(client)) == [f"e{number}" for number in range(9)]
        now += 30 * HOUR
        service.memory.seal()
    rows = {kind: pl.read_parquet(tmp_path / kind / "*.parquet") for kind in ("events", "exposures")}
    assert sorted(rows["events"]["event_id"]) == [f"e{number}" for number in range(9)]
    assert rows["exposures"]["request_id"].n_unique() == rows["exposures"].height == 9
    assert not list(tmp_path.glob("*/.*"))
