"""A service as a process of its own, what it uses, and load on it by locust."""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from redraft.files import write_json
from redraft.records import InputError

__all__ = ["Answered", "Plan", "Server", "answers", "load", "percentile", "serving", "with_status"]

KEY = "key-of-the-measurement"
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
LOCUSTFILE = Path(__file__).with_name("load.py")


class Answered(NamedTuple):
    """A request: when it was sent (seconds since 1970), the milliseconds to its answer, and the status, 0 for none."""

    sent: float
    milliseconds: float
    status: int


@dataclass(frozen=True)
class Plan:
    """What to send: bodies by chance to a path, at a rate (requests per second), or each sender one after the other.

    deadline_ms: time to answer [the service's own].
    """

    bodies: Sequence[dict[str, Any]]
    seconds: float
    rate: float | None = None
    senders: int = 1
    path: str = "/v1/recommend"
    deadline_ms: int | None = None


@dataclass(frozen=True)
class Server:
    """A running service."""

    address: str
    process: int

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """What it answers to one request: JSON, or text. Raises OSError for a status that is not 200."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, HEADERS, method=method)
        with urllib.request.urlopen(request, timeout=300) as answer:
            content = answer.read()
        return json.loads(content) if answer.headers["content-type"] == "application/json" else content.decode()

    def processor_seconds(self) -> float:
        """Processor time so far, of all its threads."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """Memory that it holds now."""
        status = Path(f"/proc/{self.process}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def counted(self, name: str) -> float:
        """The sum of a Prometheus counter over its labels."""
        lines = self.ask("GET", "/metrics").splitlines()
        return sum(float(line.split()[-1]) for line in lines if re.match(rf"redraft_{name}[ {{]", line))


@contextmanager
def serving(run: Path, data: Path, state: Path, *words: object, threads: int | None = None) -> Iterator[Server]:
    """`redraft serve` on a port of its own, with a key for everything. threads: of the decode [as many as it takes].

    Raises InputError, with its last line, if it does not start.
    """
    state.mkdir(parents=True, exist_ok=True)
    write_json(state / "keys.json", {"bench": {"key": KEY, "scopes": ["read", "write", "admin"]}})
    flags = ["--data", data, "--port", 0, "--state", state, "--keys", state / "keys.json", *words]
    command = [sys.executable, "-m", "redraft", "serve", *map(str, [run, *flags])]
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    with open(state / "stderr.txt", "w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment)
        assert process.stdout is not None
        try:
            address = re.search(r"http://\S+", process.stdout.readline())
            if address is None:
                process.wait()
                said.seek(0)
                raise InputError(f"the service did not start: {said.read().strip().rpartition('error: ')[2]}")
            yield Server(address[0], process.pid)
        finally:
            process.terminate()
            process.wait(60)
            process.stdout.close()


@contextmanager
def load(server: Server, plan: Plan) -> Iterator[list[Answered]]:
    """Load while the block runs and the plan lasts; the list is filled when the block has ended."""
    outcomes: list[Answered] = []
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "answers.txt"
        headers = HEADERS | ({} if plan.deadline_ms is None else {"X-Deadline-Ms": str(plan.deadline_ms)})
        told = asdict(plan) | {"out": str(out), "headers": headers}
        environment = os.environ | {"REDRAFT_LOAD": json.dumps(told)}
        senders = ["--users", plan.senders, "--spawn-rate", plan.senders]
        flags = ["--headless", "--host", server.address, "--run-time", f"{plan.seconds:.0f}s", *senders]
        command = [
            sys.executable,
            "-m",
            "locust",
            "-f",
            LOCUSTFILE,
            "--stop-timeout",
            15,
            "--loglevel",
            "ERROR",
            *flags,
        ]
        command += ["--only-summary"]
        process = subprocess.Popen(
            [str(word) for word in command],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield outcomes
            _, said = process.communicate()
        finally:
            process.kill()
        if not out.exists():
            raise InputError(f"locust did not start: {said.strip()}; run: pip install 'redraft[bench]'")
        words = (line.split() for line in out.read_text().splitlines())
        outcomes += [Answered(float(sent), float(took), int(status)) for sent, took, status in words]


def answers(server: Server, plan: Plan) -> list[Answered]:
    """What became of each request of a plan."""
    with load(server, plan) as outcomes:
        pass
    return outcomes


def percentile(outcomes: Sequence[Answered], q: float) -> float:
    """Milliseconds within which q % of the requests were answered; nan for none."""
    return float(np.percentile([one.milliseconds for one in outcomes], q)) if outcomes else float("nan")


def with_status(outcomes: Sequence[Answered], *statuses: int) -> list[Answered]:
    """Those requests that were answered with one of some statuses."""
    return [one for one in outcomes if one.status in statuses]
