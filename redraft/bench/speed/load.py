"""What locust sends to a service: `locust -f load.py`, with a plan in the variable REDRAFT_LOAD, see Plan of server.py.

With a rate, requests come at random and do not wait for the answers to others; without, each sender waits for its own.
"""

import json
import os
import random
import time
from typing import Any

import gevent
from gevent.pool import Group
from locust import FastHttpUser, events, task

PLAN: dict[str, Any] = json.loads(os.environ.get("REDRAFT_LOAD", "{}"))
RATE = PLAN.get("rate")
OUT = open(PLAN.get("out", os.devnull), "w")  # noqa: SIM115 - open as long as the process


class Sender(FastHttpUser):
    """One that sends the plan's bodies in turn; events get ids of their own."""

    concurrency = 4096
    default_headers = PLAN.get("headers")

    def on_start(self) -> None:
        """Begin at a place of its own."""
        self.draw, self.sent, self.due = random.Random(id(self)), Group(), time.perf_counter()

    def on_stop(self) -> None:
        """Wait for what is under way."""
        self.sent.join(timeout=10)

    def wait_time(self) -> float:
        """Seconds until the next request; the gaps between them are exponential."""
        if RATE is None:
            return 0.0
        self.due += self.draw.expovariate(RATE)
        return max(0.0, self.due - time.perf_counter())

    @task
    def send(self) -> None:
        """Send one request, and wait for the answer only where there is no rate."""
        body = self.draw.choice(PLAN["bodies"])
        if "events" in body:
            body = {"events": [one | {"event_id": f"{self.draw.getrandbits(96):x}"} for one in body["events"]]}
        if RATE is None:
            self._post(body)
        else:
            self.sent.add(gevent.spawn(self._post, body))

    def _post(self, body: dict[str, Any]) -> None:
        self.client.post(PLAN["path"], json=body)


def note(response_time: float, response: Any, start_time: float, **_: Any) -> None:
    """Write down when a request was sent, the milliseconds it took and its status."""
    OUT.write(f"{start_time} {response_time} {response.status_code}\n")


def close(**_: Any) -> None:
    """Let the file be whole."""
    OUT.close()


events.request.add_listener(note)
events.quitting.add_listener(close)
