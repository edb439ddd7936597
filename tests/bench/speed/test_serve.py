"""What the measurement makes of the answers of a service of known speed, and of a real one under load."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from serving import dataset, recommender

from redraft.baselines.fitted import BaselineRecommender
from redraft.baselines.popularity import Popularity
from redraft.bench.speed import serve
from redraft.bench.speed.serve import ServeBenchConfig, main
from redraft.bench.speed.server import Answered, Plan, Server, answers, percentile, serving, with_status
from redraft.data.store import save_dataset
from redraft.files import read_json
from redraft.records import InputError

CAPACITY = 64.0
PROCESSOR = 0.004


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    recommender().save(folder / "run")
    save_dataset(dataset(), folder / "data", source="test")
    return folder


class Pretended:
    """A service that answers CAPACITY requests per second within 40 ms, those above that rate with 429 within 5 ms.

    One request in a hundred is answered with 504 while a model is put in place.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.n_requests, self.n_events = 0, 0

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        self.asked.append((method, path))
        if path == "/v1/recommend":
            return {"items": [{"id": body["allow"][0]}]}
        return {"staged": {"fingerprint": "f"}}

    def processor_seconds(self) -> float:
        return PROCESSOR * self.n_requests

    def megabytes(self) -> float:
        return 100.0

    def counted(self, name: str) -> float:
        counts = {"decode_processor_seconds_total": 0.75 * PROCESSOR * self.n_requests, "events_total": self.n_events}
        return counts.get(name, self.n_requests)

    def answered(self, plan: Plan, failing: int = 0) -> list[Answered]:
        rate = plan.rate or CAPACITY
        n = int(rate * plan.seconds)
        self.n_requests += n
        self.n_events += n * len(plan.bodies[0].get("events", ()))
        kept = [
            int(place * CAPACITY / rate) < int((place + 1) * CAPACITY / rate) or rate <= CAPACITY for place in range(n)
        ]
        statuses = [200 if each else 429 for each in kept[failing:]] + [504] * failing
        return [Answered(place / rate, 5.0 if status == 429 else 40.0, status) for place, status in enumerate(statuses)]


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    service = Pretended()

    @contextmanager
    def start(*words: object, **options: object) -> Iterator[Pretended]:
        yield service

    @contextmanager
    def load(server: Pretended, plan: Plan) -> Iterator[Sequence[Answered]]:
        found: list[Answered] = []
        yield found
        found += server.answered(plan, failing=3)

    monkeypatch.setattr(serve, "serving", start)
    monkeypatch.setattr(serve, "load", load)
    monkeypatch.setattr(serve, "answers", lambda server, plan: server.answered(plan))
    monkeypatch.setattr(serve.time, "sleep", lambda seconds: None)
    return service


def test_a_service_of_known_speed_is_measured_as_such(pretended: Pretended, shop: Path, tmp_path: Path) -> None:
    config = ServeBenchConfig(shop / "run", shop / "data", beams=10, stores=("redis://127.0.0.1/0",), results=tmp_path)
    main(config)
    written = read_json(tmp_path / "serve.json")
    found = {row["measured"]: row["value"] for row in written["metrics"]}
    assert 0.95 * CAPACITY <= found["highest rate with 99 % within 100 ms"] <= CAPACITY
    assert found["at that rate: 99 % within"] == 40
    twice = 2 * found["highest rate with 99 % within 100 ms"]
    assert found["at twice that rate: offered"] == pytest.approx(twice, rel=0.05)
    assert found["at twice that rate: answered"] == pytest.approx(CAPACITY, rel=0.05)
    assert found["at twice that rate: turned away"] == pytest.approx(100 * (1 - CAPACITY / twice), abs=1)
    assert found["at twice that rate: turned away, 99 % within"] == 5
    assert found["at twice that rate: neither"] == 0
    assert found["reload: requests that failed"] == found["reload: answered with 504"] == 3
    assert ("POST", "/v1/admin/models/promote") in pretended.asked
    assert found["processor time of a request beside the decode"] == pytest.approx(1000 * PROCESSOR / 4)
    for store in ("sqlite", "redis"):
        assert found[f"events on {store}, 100 per request: acknowledged"] == pytest.approx(100 * CAPACITY, rel=0.05)
    assert found["memory over 30 minutes: at the end"] == 100
    assert "GenerativeRecommender" not in written["protocol"]
    assert "10 beams" in written["protocol"]


def test_a_rate_at_which_some_are_turned_away_is_not_kept(pretended: Pretended) -> None:
    config = ServeBenchConfig(Path("run"), Path("data"), milliseconds=30)
    most, rate, _ = serve.rates(pretended, [{"user_id": "a"}], config)
    assert most == pytest.approx(CAPACITY, rel=0.05)
    assert rate == 0, "40 ms are more than 30"
    assert serve.overload(pretended, [{}], 0, "at twice that rate", config) == []


def test_what_cannot_be_served_is_not_measured(shop: Path, tmp_path: Path) -> None:
    known = dataset()
    BaselineRecommender(Popularity.fit(known.interactions, known.catalogue), known.catalogue).save(shop / "counted")
    with pytest.raises(InputError, match="counted: a run of a baseline, which cannot be served"):
        main(ServeBenchConfig(shop / "counted", shop / "data", results=tmp_path))


def test_a_real_service_under_load_of_locust(shop: Path, tmp_path: Path) -> None:
    with serving(shop / "run", shop / "data", tmp_path / "state", "--deadline-ms", 60_000, threads=1) as server:
        assert isinstance(server, Server)
        bodies = [{"user_id": f"user-{n}", "k": 3} for n in range(40)]
        found = answers(server, Plan(bodies, 1.0, rate=20.0))
        assert len(found) > 3
        assert with_status(found, 200) == found
        assert 0 < percentile(found, 50) <= percentile(found, 100)
        assert server.counted("batch_size_sum") == len(found)
        assert server.processor_seconds() > server.counted("decode_processor_seconds_total") > 0
        assert server.megabytes() > 50
        rows = serve.new_item(server, dataset())
        assert [row["unit"] for row in rows] == ["s", "s"]
