"""What cannot be used, at the start and while it runs: the right status, a message that names it, and nothing lost."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from serving import ALL_KEYS, client_of, dataset, make_service, recommender, reflecting
from starlette.testclient import TestClient
from verbs import run

from redraft.baselines.fitted import BaselineRecommender
from redraft.baselines.popularity import Popularity
from redraft.data.store import save_dataset
from redraft.folders import safetensors_metadata
from redraft.records import Interactions
from redraft.service.keys import Keys
from redraft.stored import read_tensors

MODELS = "/v1/admin/models"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that can be served: one of a backbone, one that judges."""
    folder = tmp_path_factory.mktemp("runs")
    recommender(seed=1).save(folder / "plain")
    reflecting().save(folder / "judged")
    return folder


@pytest.fixture(scope="module")
def client(runs: Path) -> Iterator[TestClient]:
    with client_of(make_service(runs, deadline=30.0), Keys(ALL_KEYS)) as client:
        client.headers["Authorization"] = "Bearer admin-key-0123456789a"
        yield client


def ask(client: TestClient, **body):
    return client.post("/v1/recommend", json=body)


def test_a_history_may_be_longer_than_the_model_reads_and_not_endless(client: TestClient) -> None:
    long = [n * 7 % 20 for n in range(10_000)]
    answer = ask(client, history=[f"item-{n}" for n in long], k=5)
    found = recommender().recommend(Interactions.from_lists([long]), 5)
    assert [item["id"] for item in answer.json()["items"]] == [f"item-{n}" for n in found.items[0]]
    assert np.array([item["score"] for item in answer.json()["items"]], np.float32).tobytes() == found.scores.tobytes()
    refused = ask(client, history=["item-1"] * 10_001)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert "10000" in refused.json()["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"history": [], "allow": ["item-1"], "exclude": ["item-1"]}, "filters; widen"),
        ({"history": ["item-1", "item-2"], "allow": ["item-2", "item-1"]}, "is not in the history; widen"),
        ({"history": ["item-1"], "filters": {"attribute0": []}}, "filters; widen"),
    ],
)
def test_filters_that_leave_nothing_are_refused(client: TestClient, body: dict, words: str) -> None:
    answer = ask(client, k=3, **body)
    assert (answer.status_code, answer.json()["code"]) == (422, "nothing_allowed")
    assert words in answer.json()["message"]
    assert answer.json()["retryable"] is False


def test_a_list_is_as_long_as_what_is_left(client: TestClient) -> None:
    answer = ask(client, history=["item-1", "item-1"], allow=["item-1", "item-2"], k=3, explain=True)
    assert [item["id"] for item in answer.json()["items"]] == ["item-2"]
    everything = ask(client, history=[f"item-{n}" for n in range(30)], k=3, explain=True)
    assert (everything.status_code, everything.json()["items"]) == (200, [])


def without(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def cut(file: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: len(content) // 2])

    return change


def said(**changes: str | None) -> Callable[[Path], None]:
    """The weights as they are, with other words about them; None leaves a word out."""

    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        _, tensors = read_tensors(path, "checkpoint", "")
        about = safetensors_metadata(path) | changes
        save_file(tensors, path, {name: word for name, word in about.items() if word is not None})

    return change


BROKEN = [
    ("plain", without("model.safetensors"), "model.safetensors: no such checkpoint"),
    ("plain", without("catalogue.parquet"), "not a trained run"),
    ("plain", without("semantic_ids.safetensors"), "semantic_ids.safetensors"),
    ("plain", cut("model.safetensors"), "not a readable checkpoint"),
    ("plain", cut("catalogue.parquet"), "catalogue.parquet"),
    ("plain", said(version="0"), "not a checkpoint of this version of redraft; train again"),
    ("plain", said(format="redraft-tiger"), "not a checkpoint of this version of redraft; train again"),
    ("plain", said(kind="generator"), "model.safetensors"),
    ("judged", without("tower/model.safetensors"), "tower"),
    ("judged", without("generator/catalogue.parquet"), "not a trained run"),
    ("judged", cut("reflection.safetensors"), "not a readable reflection"),
]


@pytest.mark.parametrize(("name", "spoil", "words"), BROKEN)
def test_a_run_that_is_not_whole_or_of_another_version_is_named_and_changes_nothing(
    runs: Path,
    client: TestClient,
    name: str,
    spoil: Callable[[Path], None],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = ask(client, history=["item-3"], k=5).json()
    shutil.rmtree(runs / "broken", ignore_errors=True)
    shutil.copytree(runs / name, runs / "broken")
    spoil(runs / "broken")
    answer = client.post(MODELS, json={"run": "broken"})
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (422, "unusable_run", False)
    assert words in answer.json()["message"]
    assert str(runs) not in answer.text
    after = ask(client, history=["item-3"], k=5).json()
    assert (after["model"], after["items"]) == (before["model"], before["items"])
    code, _, err = run(capsys, "serve", runs / "broken", "--port", 0)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_a_run_from_before_some_words_were_written_is_read(runs: Path, client: TestClient) -> None:
    shutil.copytree(runs / "plain", runs / "older")
    said(template=None, verifier=None, kind=None, weights=None)(runs / "older")
    staged = client.post(MODELS, json={"run": "older"}).json()["staged"]
    client.post(f"{MODELS}/promote", json={"fingerprint": staged["fingerprint"]})
    expected = recommender(seed=1).recommend(Interactions.from_lists([[3]]), 5)
    answer = ask(client, history=["item-3"], k=5).json()
    assert [item["id"] for item in answer["items"]] == [f"item-{n}" for n in expected.items[0]]
    client.post(f"{MODELS}/rollback")


def test_runs_and_data_sets_of_another_kind_are_refused(
    runs: Path, tmp_path: Path, client: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    known = dataset()
    counted = BaselineRecommender(Popularity.fit(known.interactions, known.catalogue), known.catalogue)
    counted.save(runs / "counted")
    assert "run of a baseline" in client.post(MODELS, json={"run": "counted"}).json()["message"]
    save_dataset(dataset(n_items=31), tmp_path / "other", source="test")
    for words, expected in [
        ([runs / "counted"], "run of a baseline, which writes no semantic IDs"),
        ([runs / "plain", "--data", tmp_path / "other"], "trained on other items"),
        ([runs / "plain", "--data", tmp_path / "nothing"], "nothing"),
    ]:
        code, _, err = run(capsys, "serve", *words, "--port", 0)
        assert code == 2
        assert expected in err
