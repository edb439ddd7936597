"""The real service before simulated customers: HTTP on loopback, and a clock that stands where the customers are."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPConnection
from typing import Any

import numpy as np
import uvicorn

from redraft.experiment.customers.people import Answers, Visits
from redraft.records import IntArray
from redraft.service.app import create_app
from redraft.service.keys import Keys
from redraft.service.process import make_service
from redraft.service.schemas import MAX_TOGETHER
from redraft.service.verb import ServeConfig

__all__ = ["Served", "serving"]

DAY, HOUR = 24 * 3600, 3600
CLICK_SECONDS, BUY_SECONDS = 30, 90
EVENTS = 1000


@dataclass
class Clock:
    """Simulated seconds since 1970."""

    now: float

    def __call__(self) -> float:
        return self.now


@dataclass
class Served:
    """A service as customers see it: `ask` and `tell` are those of redraft.experiment.customers.worlds.live."""

    connection: HTTPConnection
    clock: Clock
    start: float
    users: list[str]
    items: list[str]
    k: int
    requests: int = 0
    times: dict[int, list[float]] = field(default_factory=dict)

    def ask(self, day: int, visits: Visits) -> IntArray:
        """Lists for the visits of a day, in the order of their times."""
        numbers = {item: number for number, item in enumerate(self.items)}
        lists = np.full((len(visits.users), self.k), -1, dtype=np.int64)
        self.times[day] = []
        everyone = range(len(visits.users))
        for rows in (everyone[first : first + MAX_TOGETHER] for first in everyone[::MAX_TOGETHER]):
            self.clock.now = self.start + day * DAY + float(visits.seconds[rows[-1]])
            self.times[day] += [self.clock.now] * len(rows)
            asked = [{"user_id": self.users[visits.users[row]], "k": self.k} for row in rows]
            for row, answer in zip(rows, self.post("/v1/recommend/batch", {"requests": asked})["answers"]):
                items = [numbers[item["id"]] for item in answer["items"]]
                lists[row, : len(items)] = items
        self.requests += len(visits.users)
        return lists

    def tell(self, day: int, visits: Visits, lists: IntArray, answers: Answers, prices: Any) -> None:
        """Post what visitors clicked and bought, a moment after they saw it."""
        times = self.times.get(day) or [self.start + day * DAY + float(second) for second in visits.seconds]
        events = []
        for row, position in np.argwhere(answers.clicked):
            event = {
                "event_id": f"{day}-{position}-click",
                "user_id": self.users[visits.users[row]],
                "item_id": self.items[lists[row, position]],
                "kind": "click",
                "time": times[row] + CLICK_SECONDS,
            }
            events.append(event)
            if answers.bought[row, position]:
                price = float(prices[lists[row, position]])
                paid = {"kind": "purchase", "time": times[row] + BUY_SECONDS, "value": price}
                events.append(event | paid | {"event_id": f"{day}-{position}-buy"})
        events.sort(key=lambda event: event["time"])
        for first in range(0, len(events), EVENTS):
            self.post("/v1/events", {"events": events[first : first + EVENTS]})

    def post(self, path: str, body: object) -> Any:
        """What the service answers; an assertion if that is an error, since simulated customers make none."""
        self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return json.loads(content)


@contextmanager
def serving(config: ServeConfig, start: datetime, users: list[str], items: list[str], k: int) -> Iterator[Served]:
    """A service on a port of its own, at a simulated time; its journals are whole when the block has ended."""
    clock = Clock(start.timestamp())
    service = make_service(config, clock)
    server = uvicorn.Server(uvicorn.Config(create_app(service, Keys({})), port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    connection = HTTPConnection("127.0.0.1", port)
    try:
        yield Served(connection, clock, clock.now, users, items, k)
        clock.now += HOUR
        service.memory.seal()
    finally:
        connection.close()
        server.should_exit = True
        thread.join()
