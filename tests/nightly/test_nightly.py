"""A night: what it promises of ids, lists, gate and pointer, and that it ends alike wherever it is killed."""

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import polars as pl
import pytest
import torch
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file
from serving import ALL_KEYS
from stopping import Killed
from verbs import run

from redraft import cli
from redraft.checkpoint import save_backbone, weights_fingerprint
from redraft.data.loader import shared_prefixes
from redraft.data.store import load_dataset
from redraft.folders import alone_in, safetensors_metadata
from redraft.nightly import verb
from redraft.nightly.learning import lesson
from redraft.recommender import load
from redraft.records import Interactions
from redraft.service.app import create_app
from redraft.service.keys import Keys
from redraft.service.live import LiveModel
from redraft.service.models import Models
from redraft.service.served import load_servable
from redraft.service.service import Service, Settings
from redraft.service.sql import SqliteStore
from redraft.service.store import Limits

USERS, ITEMS, DAY = 150, 40, 86_400
BEGINNING = 1_700_000_000
FLAGS = [
    *("--attributes", "kind", "--first.levels", 2, "--first.codebook-size", 8, "--first.epochs", 6),
    *("--first.model.width", 16, "--first.model.embedding", 8, "--first.model.heads", 2, "--first.model.feed-forward"),
    *(16, "--first.model.history", 8, "--first.model.encoder-layers", 1, "--batch-size", 64, "--warm.epochs", 2),
    *("--gate.tolerance", 0.2, "--k", 5),
]


def write_day(shop: Path, day: int) -> None:
    """Everybody walks on through the items, one to three steps a day; item n is followed by n + 1.

    Item 10 comes on day 2, item 9 is not sold any more from then on, and an event of the first day comes late.
    """
    rng = np.random.default_rng(day)
    rows = [{"user_id": "u0", "item_id": "i20", "timestamp": BEGINNING + DAY - 60}] * (day == 2)
    for user in range(USERS):
        position = 7 * user + 4 * day
        for step in range(4 if day == 1 else rng.integers(1, 4)):
            item = (position + step) % ITEMS
            if day > 1 or item != 10:
                when = BEGINNING + day * DAY + 60 * user + 3600 * step
                rows.append({"user_id": f"u{user}", "item_id": f"i{item}", "timestamp": when})
    journal = pl.DataFrame(rows).with_columns(pl.from_epoch("timestamp").dt.cast_time_unit("us"))
    (shop / "events").mkdir(parents=True, exist_ok=True)
    journal.write_parquet(shop / "events" / f"{day}.parquet")
    sold = [item for item in range(ITEMS) if item != (10 if day == 1 else 9)]
    about = {"item_id": [f"i{n}" for n in sold], "title": [f"thing {n} of {n // 8}" for n in sold]}
    about |= {"kind": [f"kind {n // 8}" for n in sold], "maker": ["us"] * len(sold)}
    pl.DataFrame(about).write_csv(shop / "items.csv")


def words(shop: Path) -> list[object]:
    return ["nightly", shop / "nights", "--events", shop / "events", "--items", shop / "items.csv", *FLAGS]


@pytest.fixture(scope="session")
def one_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a shop after its first night."""
    shop = tmp_path_factory.mktemp("nightly") / "shop"
    write_day(shop, 1)
    assert verb_of(words(shop)) == 0
    return shop


def verb_of(said: list[object]) -> int:
    return cli.main([str(word) for word in said])


@pytest.fixture
def second(one_night: Path, tmp_path: Path) -> Path:
    """The same, on the morning of the second day."""
    shop = tmp_path / "shop"
    shutil.copytree(one_night, shop, symlinks=True)
    write_day(shop, 2)
    return shop


@pytest.fixture(scope="session")
def two_nights(one_night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shop = tmp_path_factory.mktemp("nightly") / "shop"
    shutil.copytree(one_night, shop, symlinks=True)
    write_day(shop, 2)
    assert verb_of(words(shop)) == 0
    return shop


def codes(nights: Path, name: str) -> dict[str, list[int]]:
    model = load(nights / "runs" / name)
    return dict(zip(model.catalogue.ids.to_list(), model.ids.codes.tolist()))


def files(folder: Path) -> dict[str, Any]:
    """What a night leaves, but for dates, times and the order of metadata."""
    kept = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    other = ("config.json", "metrics.jsonl", "manifest.json")
    return {str(path.relative_to(folder)): content(path) for path in kept if path.name not in other}


def content(path: Path) -> Any:
    """Bytes, but of a safetensors file, whose metadata stand in any order, what it says."""
    try:
        return safetensors_metadata(path), {name: part.tolist() for name, part in load_file(path).items()}
    except SafetensorError:
        return path.read_bytes()


def test_a_second_night_keeps_ids_and_lists_what_is_new(one_night: Path, two_nights: Path) -> None:
    nights = two_nights / "nights"
    before, after = codes(nights, "0001"), codes(nights, "0002")
    assert {item: after[item] for item in before} == before
    assert after.keys() - before.keys() == {"i10"}
    about = json.loads(safetensors_metadata(nights / "data/0002/semantic_ids.safetensors")["redraft"])["source"]
    assert about["parent"] == load(nights / "runs/0001").ids.fingerprint
    lists = pl.read_parquet(nights / "runs/0002/lists.parquet")
    assert lists.group_by("user").len()["len"].to_list() == [5] * USERS
    assert "i10" in lists["item"]
    assert "i9" not in lists["item"], "not sold any more"
    assert "i9" in pl.read_parquet(nights / "runs/0001/lists.parquet")["item"]
    assert os.readlink(nights / "runs/current") == "0002"
    assert load_dataset(nights / "runs/current/data").fingerprint == load_dataset(nights / "data/0002").fingerprint
    untouched = files(one_night / "nights/data/0001")
    assert files(nights / "data/0001") == untouched
    learnt = load_dataset(nights / "data/0002")
    assert learnt.catalogue.ids[int(learnt.interactions.history(0)[0])] == "i20", "late, and in its place"
    assert learnt.split is not None
    assert learnt.split[0] > load_dataset(nights / "data/0001").split[1], "the new model learns what was held out"


def test_a_night_that_is_killed_anywhere_ends_as_one_that_was_not(
    second: Path, two_nights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after every file and folder that is put in place, once each."""
    seen: set[str] = set()
    put = os.replace

    def put_or_die(source: Any, target: Any) -> None:
        place = os.path.relpath(target, second).partition(".partial-")[0]
        fresh = place not in seen
        seen.add(place)
        if fresh and len(seen) % 2:
            raise Killed
        put(source, target)
        if fresh:
            raise Killed

    monkeypatch.setattr("redraft.serve.shards.SHARD", 60)
    monkeypatch.setattr("redraft.data.importer.ROWS", 200)
    monkeypatch.setattr(os, "replace", put_or_die)
    deaths = 0
    while not (second / "nights/nights/0002/end.json").exists():
        try:
            assert verb_of(words(second)) == 0
        except Killed:
            deaths += 1
    assert deaths == len(seen) > 25
    assert files(second / "nights") == files(two_nights / "nights")


def spoilt(learn: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The same training, whose model then forgets everything."""

    def forgetful(night: Any, *rest: Any) -> dict[str, Any]:
        learn(night, *rest)
        made = load(night.run)
        torch.manual_seed(1)
        for weight in made.model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
        save_backbone(made.model, night.run / "model.safetensors", made.ids, made.catalogue)
        return {"fingerprint": weights_fingerprint(made.model)}

    return forgetful


def test_a_worse_model_does_not_pass_and_the_next_night_goes_on_without_it(
    second: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(verb, "learn", spoilt(verb.learn))
        code, _, err = run(capsys, *words(second))
    nights = second / "nights"
    assert code == 2
    assert "night 0002 is not promoted: N@10 " in err
    assert err.count("\n") == 1
    said = json.loads((nights / "runs/0002/gate.json").read_text())
    assert said["low"] < -0.2
    assert not said["passed"]
    assert said["in_service"]["N@10"] - said["new"]["N@10"] == pytest.approx(-said["difference"])
    assert os.readlink(nights / "runs/current") == "0001"
    assert not (nights / "runs/0002/lists.parquet").exists()
    code, _, err = run(capsys, *words(second))
    assert code == 2
    assert "no event has come since the last night" in err
    write_day(second, 3)
    code, out, err = run(capsys, *words(second))
    assert code == 0, err
    assert "night 0003, after 0001" in out
    assert os.readlink(nights / "runs/current") == "0003"


@pytest.fixture
def service(second: Path) -> Iterator[str]:
    """A service that answers by the first night, as started with runs/current."""
    runs = second / "nights" / "runs"
    models = Models(LiveModel("current", load_servable(runs / "current")), runs, load_servable)
    store = SqliteStore(second / "store.sqlite", Limits(), time.time)
    data = load_dataset(second / "nights/data/0001")
    app = create_app(Service(models, store, data, second / "state", Settings(), time.time), Keys(ALL_KEYS))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    (second / "key").write_text("admin-key-0123456789a\n")
    (second / "other").write_text("reader-key-0123456789\n")
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_a_service_is_told_once(second: Path, service: str, capsys: pytest.CaptureFixture[str]) -> None:
    nights = second / "nights"
    told = [*words(second), "--key", second / "other", "--service"]
    code, _, err = run(capsys, *told, "http://127.0.0.1:9")
    assert code == 2
    assert "http://127.0.0.1:9/v1/admin/models: no answer" in err
    code, _, err = run(capsys, *told, service)
    assert code == 2
    assert "403, this needs a key with the scope admin" in err
    assert os.readlink(nights / "runs/current") == "0001"
    code, out, err = run(capsys, *words(second), "--key", second / "key", "--service", service)
    assert code == 0, err
    assert "night 0002, after 0001" in out
    assert os.readlink(nights / "runs/current") == "0002"
    found = asked(service, "GET", "/v1/admin/models")
    assert (found["current"]["run"], found["previous"]["run"]) == ("0002", "current")
    (nights / "nights/0002/end.json").unlink()
    assert run(capsys, *words(second), "--key", second / "key", "--service", service)[0] == 0
    assert asked(service, "POST", "/v1/admin/models/rollback")["current"]["run"] == "current"


def asked(service: str, method: str, route: str) -> Any:
    request = Request(service + route, method=method, headers={"Authorization": "Bearer admin-key-0123456789a"})
    with urlopen(request) as answer:
        return json.load(answer)


def unfinished(shop: Path) -> Path:
    """Leave the second night as if it had been stopped when its semantic IDs were made."""
    notes = shop / "nights/nights/0002"
    for step in ("model", "gate", "lists", "end"):
        (notes / f"{step}.json").unlink()
    return notes


def other_settings(shop: Path) -> list[object]:
    unfinished(shop)
    return ["--warm.replay", 0.25]


def damaged_manifest(shop: Path) -> None:
    (unfinished(shop) / "manifest.json").write_text("[]")


def damaged_note(shop: Path) -> None:
    (unfinished(shop) / "data.json").write_text("3")


def other_data(shop: Path) -> None:
    unfinished(shop)
    shutil.rmtree(shop / "nights/data/0002")
    shutil.copytree(shop / "nights/data/0001", shop / "nights/data/0002")


def damaged_ids(shop: Path) -> None:
    unfinished(shop)
    path = shop / "nights/data/0002/semantic_ids.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def damaged_model(shop: Path) -> None:
    path = shop / "nights/runs/0002/model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    write_day(shop, 3)


def damaged_journal(shop: Path) -> None:
    write_day(shop, 3)
    path = shop / "events/3.parquet"
    path.write_bytes(path.read_bytes()[:-40])


def event_without_item(shop: Path) -> None:
    event = {"user_id": ["u1"], "item_id": [""], "timestamp": [None]}
    types = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Datetime("us")}
    later = pl.lit(BEGINNING + 9 * DAY).cast(pl.Int64)
    frame = pl.DataFrame(event, schema=types).with_columns(
        pl.from_epoch(later).dt.cast_time_unit("us").alias("timestamp")
    )
    frame.write_parquet(shop / "events/9.parquet")


def empty_journals(shop: Path) -> None:
    for path in (shop / "events").iterdir():
        path.rename(path.with_name(f".{path.name}.over"))


def other_attribute(shop: Path) -> list[object]:
    write_day(shop, 3)
    return ["--attributes", "maker"]


BAD: list[tuple[Callable[[Path], list[object] | None], str]] = [
    (other_settings, r"nights/0002: begun with warm = \{.*0.5.*\}, now it is \{.*0.25"),
    (damaged_manifest, "0002/manifest.json: not a night's manifest; remove .*0002 to begin another night"),
    (damaged_note, "0002/data.json: not what a night notes; remove it"),
    (other_data, "data/0002: not what night 0002 wrote there; remove .*data.json"),
    (damaged_ids, "data/0002/semantic_ids.safetensors: not a readable file of semantic IDs .*; remove .*ids.json, and"),
    (damaged_model, "runs/0002/model.safetensors: not a readable checkpoint"),
    (damaged_journal, "events/3.parquet: "),
    (event_without_item, "events/9.parquet, row 1: no item id; fill it or remove the event"),
    (empty_journals, "events: no events; a journal's hour is there when it is over"),
    (other_attribute, "items.csv: attribute 'kind' is not read, and the model in service knows it"),
    (lambda shop: ["--held-out", 1.0], "held_out is 1.0; it must be > 0 and < 1"),
    (lambda shop: ["--time", "None"], "a night learns what is new, which needs times"),
    (lambda shop: ["--service", "localhost:8000"], "give both --service and --key"),
    (lambda shop: ["--events", shop / "nowhere"], "nowhere: no such file or folder"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD, ids=[getattr(spoil, "__name__", "") for spoil, _ in BAD])
def test_bad_input_is_one_clear_line(
    spoil: Callable[[Path], list[object] | None],
    message: str,
    two_nights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(two_nights, shop, symlinks=True)
    more = spoil(shop) or []
    before = files(shop / "nights/runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shop)
        here = ["nightly", "nights", "--events", "events", "--items", "items.csv", *FLAGS]
        manifest = shop / "nights/nights/0002/manifest.json"
        manifest.write_text(manifest.read_text().replace(f"{two_nights}/", ""))
        code, _, err = run(capsys, *here, *more)
    assert code == 2
    assert re.search(message, err), err
    assert err.count("\n") == 1
    assert files(shop / "nights/runs") == before
    assert os.readlink(shop / "nights/runs/current") == "0002"


def test_what_was_damaged_is_written_again(
    two_nights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(two_nights, shop, symlinks=True)
    shutil.rmtree(shop / "nights/nights/0002")
    for room in ("data", "runs"):
        shutil.rmtree(shop / f"nights/{room}/0002")
    os.replace(shop / "nights/runs/current", tmp_path / "elsewhere")
    (shop / "nights/runs/current").symlink_to("0001")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verb, "learn", stop)
        with pytest.raises(Killed):
            verb_of(words(shop))
    catalogue = shop / "nights/data/0002/catalogue.parquet"
    pl.read_parquet(catalogue).with_columns(title=pl.lit("another")).write_parquet(catalogue)
    code, _, err = run(capsys, *words(shop))
    assert code == 2
    assert "nights/data/0002: the data set is damaged" in err
    removed = re.search(r"remove (\S+data.json), and the same command writes it again$", err.strip())
    assert removed
    Path(removed[1]).unlink()
    assert verb_of(words(shop)) == 0
    assert files(shop / "nights") == files(two_nights / "nights")


def stop(*_: Any) -> dict[str, Any]:
    raise Killed


def test_what_the_import_refuses_can_be_given_again_with_other_settings(
    second: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = second / "events/2.parquet"
    events = pl.read_parquet(journal)
    pl.concat([events, events[:1]]).write_parquet(journal)
    code, _, err = run(capsys, *words(second), "--duplicates", "error")
    assert code == 2
    assert "appear together twice" in err
    code, out, err = run(capsys, *words(second), "--duplicates", "drop")
    assert code == 0, err
    assert "night 0002, after 0001" in out


def test_too_few_new_events_and_a_second_night_at_the_same_time(
    two_nights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(two_nights, shop, symlinks=True)
    with alone_in(shop / "nights"):
        code, _, err = run(capsys, *words(shop))
    assert code == 2
    assert "nights: another process is writing there; wait for it" in err
    event = {"user_id": ["u1"], "item_id": ["i1"], "timestamp": [BEGINNING + 1.5 * DAY]}
    pl.DataFrame(event).with_columns(pl.from_epoch("timestamp").dt.cast_time_unit("us")).write_parquet(
        shop / "one.parquet"
    )
    code, _, err = run(capsys, *words(shop)[:2], "--events", shop / "one.parquet", *words(shop)[4:])
    assert code == 2
    assert "no event is newer than what was learnt last" in err


histories = st.lists(st.lists(st.integers(0, 60), max_size=14).map(sorted), min_size=1, max_size=8)


@given(histories, st.integers(0, 60), st.integers(1, 6), st.sampled_from([0.0, 0.3, 0.7]), st.integers(0, 3))
def test_a_lesson_has_every_new_event_once_and_no_more_old_ones_than_its_share(
    times: list[list[int]], since: int, history: int, replay: float, seed: int
) -> None:
    train = Interactions.from_lists([[0] * len(row) for row in times], times)
    assert train.times is not None
    rows = lesson(train, since, history, replay, seed)
    predicted = [event for row in range(len(rows)) for event in predicted_by(rows, row)]
    all_rows = shared_prefixes(train, history)
    everything = {event for row in range(len(all_rows)) for event in predicted_by(all_rows, row)}
    new = {event for event in everything if train.times[event] >= since}
    assert sorted(predicted) == sorted(set(predicted))
    assert new <= set(predicted) <= everything
    assert len(predicted) - len(new) <= len(new) * replay / (1 - replay) + 1e-9
    starts = np.repeat(train.offsets[:-1], train.lengths)
    assert all(rows.start[row] >= starts[rows.target[row]] for row in range(len(rows))), "nobody reads another's events"


def predicted_by(rows: Any, row: int) -> list[int]:
    target, n = int(rows.target[row]), int(rows.n_targets[row])
    return list(range(target - n + 1, target + 1))
