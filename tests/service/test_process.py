"""`redraft serve` as a process of its own: it starts on a folder, answers, and loses nothing when told to stop."""

import asyncio
import signal
import socket
import subprocess
from pathlib import Path

import httpx2
import pytest
from serving import dataset, recommender, running
from verbs import run

from redraft.data.store import save_dataset


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    recommender().save(folder / "run")
    save_dataset(dataset(), folder / "data", source="test")
    return folder


def test_sigterm_loses_no_request_in_flight(shop: Path) -> None:
    async def ask(address: str, server: subprocess.Popen[str]) -> list[int]:
        async with httpx2.AsyncClient(base_url=address, timeout=90.0) as client:
            assert (await client.get("/readyz")).status_code == 200
            body = {"user_id": "user-3", "k": 5}
            slow = {"history": [f"item-{n % 30}" for n in range(20)], "k": 30, "explain": True}
            tasks = [
                asyncio.create_task(client.post("/v1/recommend", json=slow if n % 4 == 0 else body)) for n in range(40)
            ]
            metrics = "redraft_queue_length 0.0"
            while "redraft_queue_length 0.0" in metrics:
                metrics = (await client.get("/metrics")).text
                if all(task.done() for task in tasks):
                    break
            server.send_signal(signal.SIGTERM)
            return [answer.status_code for answer in await asyncio.gather(*tasks)]

    with running(shop / "run", "--data", shop / "data", "--wait-ms", 50, "--deadline-ms", 60000) as (server, address):
        statuses = asyncio.run(ask(address, server))
        assert statuses == [200] * 40
        assert server.wait(90) == 0
    assert (shop / "run.state" / "store.sqlite").exists()


def test_what_cannot_be_served_is_said_in_a_line(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run(capsys, "serve", shop / "run", "--port", port)
        assert code == 2
        assert f"127.0.0.1:{port}: Address already in use" in err
    for words, said in [
        ([shop / "run", "--host", "0.0.0.0"], "no API keys"),
        ([tmp_path / "nothing"], "not a trained run"),
        ([shop / "run", "--store", "oracle:x"], "'oracle'"),
        ([shop / "run", "--queue", 0], "queue is 0"),
    ]:
        code, _, err = run(capsys, "serve", *words, "--port", 0)
        assert code == 2
        assert said in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "not a JSON object"),
        ('{"web": {"key": "secret-and-long-enough"}}', "'web' needs key and scopes"),
        ('{"web": {"key": "short-secret", "scopes": ["read"]}}', "fewer than 16"),
        ('{"web": {"key": "secret-and-long-enough", "scopes": ["root"]}}', "some of read, write, admin"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_named_without_its_secrets(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    (tmp_path / "keys.json").write_text(content)
    code, _, err = run(capsys, "serve", shop / "run", "--port", 0, "--keys", tmp_path / "keys.json")
    assert code == 2
    assert said in err
    assert "secret" not in err
