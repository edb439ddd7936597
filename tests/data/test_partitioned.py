"""Imports in parts come to what an import in memory comes to, whatever the parts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from full_disk import room_for
from hypothesis import given, settings
from hypothesis import strategies as st
from imports import imported
from in_memory import Built, build

from redraft.data import partitioned
from redraft.data.chunks import opened, write_arrow
from redraft.data.importer import build_dataset
from redraft.data.ranges import cuts
from redraft.data.raw import Columns, RawData
from redraft.data.split import time_quantiles
from redraft.data.table import read_table
from redraft.engines.tasks import UnfinishedError
from redraft.records import InputError, Interactions

plain = st.integers(0, 12).map(str)
pointed = st.integers(0, 12).map(lambda n: f"{n}.0")
words = st.sampled_from(["a", "b", "Ä", "A\u0308", " a", "10", "9", "x.0"])
columns = st.sampled_from([["time"], ["order"], ["time", "order"], []])
kinds = st.sampled_from([plain, pointed, words, plain | pointed | words])


@st.composite
def logs(draw: st.DrawFn) -> RawData:
    users, items, moments = draw(kinds), draw(kinds), draw(columns)
    rows = draw(st.lists(st.tuples(users, items, st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=25))
    events = pl.DataFrame(
        rows, schema={"user": pl.String, "item": pl.String, "time": pl.Int64, "order": pl.Int64}, orient="row"
    )
    events = events.with_columns(pl.col("time") * 1_000_000).select("user", "item", *moments)
    described = None
    if draw(st.booleans()):
        known = sorted(draw(st.sets(st.sampled_from(["3", "7", "99", "b", "zz"]), min_size=1)))
        described = pl.DataFrame({"id": known, "title": "", "description": ""})
    return RawData(Path("log"), events, described, (), lambda n: f"log, line {n + 1}")


@settings(max_examples=40)
@given(
    raw=logs(),
    core=st.integers(0, 3),
    duplicates=st.sampled_from(["error", "drop", "first", "keep"]),
    ties=st.sampled_from(["random", "file"]),
    rows=st.integers(3, 30),
)
def test_parts_change_nothing(raw: RawData, core: int, duplicates: Any, ties: Any, rows: int):
    wanted = build(raw, core=core, duplicates=duplicates, ties=ties, seed=7)
    how = {"core": core, "duplicates": duplicates, "ties": ties, "seed": 7, "keep_short": True, "rows": rows}
    if not isinstance(wanted, Built):
        with pytest.raises(InputError, match="together twice" if wanted == "duplicate" else "no events are left"):
            build_dataset(raw, name="n", **how)
        return
    dataset, account = build_dataset(raw, name="n", **how)
    times = dataset.interactions.times
    assert (
        Built(
            dataset.interactions.items.tolist(),
            dataset.interactions.offsets.tolist(),
            None if times is None else times.tolist(),
            dataset.user_ids.to_list(),
            dataset.catalogue.ids.to_list(),
            account.tied,
            dict(account.dropped),
        )
        == wanted
    )


@settings(max_examples=30)
@given(times=st.lists(st.integers(0, 2_000_000_000), min_size=1, max_size=50))
def test_quantiles_are_those_of_numpy(times: list[int]):
    events = Interactions(np.zeros(len(times), dtype=np.int32), np.array([0, len(times)]), np.array(times))
    shares = [0.0, 0.31, 0.8, 0.9, 1.0]
    assert time_quantiles(events, shares) == [int(np.quantile(times, share)) for share in shares]


def log(n_users: int = 60, heavy: int = 0, seed: int = 0) -> pl.DataFrame:
    """Events with text ids, some at one moment, and perhaps one user with very many."""
    rng = np.random.default_rng(seed)
    users = np.concatenate([np.repeat(np.arange(n_users), 5), np.full(heavy, n_users // 2)])
    items = rng.integers(0, 30, len(users))
    frame = {"user_id": users, "item_id": items, "timestamp": 1_600_000_000 + rng.integers(0, 40, len(users))}
    return pl.DataFrame(frame).select(
        pl.format("u{}", "user_id").alias("user_id"), pl.format("i{}", "item_id").alias("item_id"), "timestamp"
    )


def in_files(frame: pl.DataFrame, folder: Path, suffix: str, rows: int) -> Path:
    folder.mkdir()
    for n, part in enumerate(frame.iter_slices(rows)):
        path = folder / f"{n:03d}{suffix}"
        part.write_parquet(path, row_group_size=11) if suffix == ".parquet" else part.write_csv(path)
    return folder


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_files_and_parts_change_nothing(tmp_path: Path, suffix: str):
    """Also one user with most of the events, and files of other sizes than the parts."""
    frame = log(heavy=500).sample(fraction=1, shuffle=True, seed=1)
    how = {"duplicates": "drop", "core": 3, "split": "time"}
    whole, _ = imported("table", in_files(frame, tmp_path / "one", suffix, 10_000), tmp_path / "a", **how)
    parts, _ = imported(
        "table", in_files(frame, tmp_path / "many", suffix, 70), tmp_path / "b", part=50, processes=1, **how
    )
    assert parts.fingerprint == whole.fingerprint
    assert parts.user_ids.equals(whole.user_ids)


def test_the_first_cut_is_by_events_and_not_by_users(tmp_path: Path):
    """A user with very many events has a part alone; no other part is far above its share."""
    frame = log(heavy=500)
    raw = read_table(in_files(frame, tmp_path / "many", ".parquet", 70), None, Columns(), 50)
    sizes = []
    merge = partitioned.merge

    def measured(out: Path, *arguments: Any) -> dict[str, Any]:
        said = merge(out, *arguments)
        sizes.append(said["events"])
        return said

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitioned, "merge", measured)
        build_dataset(raw, name="n", core=0, duplicates="keep", rows=50)
    assert max(sizes) < 650
    assert sorted(sizes)[-2] < 150


def test_cuts_are_by_events_where_some_files_have_few_users(tmp_path: Path):
    """Files of 4 users with 50 events each, and files of 100 users with 2."""
    files = []
    for n in range(10):
        ids = [f"{n}{user:02d}" for user in range(4 if n < 5 else 100)]
        files.append(tmp_path / f"{n}.users")
        write_arrow(files[-1], {"id": ids, "start": np.arange(len(ids)) * (200 // len(ids))})
    ranges = cuts(files, 10, whole=False, events=[200] * 10)
    heavy = [f"{n}{user:02d}" for n in range(5) for user in range(4)]
    many = [sum(50 for id_ in heavy if (low or "") <= id_ < (high or "~")) for low, high in ranges]
    assert max(many) <= 250
    assert sum(many) == 1000


def test_a_failure_to_write_is_not_blamed_on_the_part_that_is_read(tmp_path: Path):
    write_arrow(tmp_path / "part", {"id": ["a"]})
    with pytest.raises(OSError, match="No space left"), opened(tmp_path / "part"):
        raise OSError(28, "No space left on device")
    (tmp_path / "part").write_bytes(b"no table")
    with pytest.raises(InputError, match="this part is missing or damaged"), opened(tmp_path / "part"):
        pass


def test_a_duplicate_is_found_where_it_stands(tmp_path: Path):
    frame = log().unique(["user_id", "item_id", "timestamp"], maintain_order=True)
    src = in_files(pl.concat([frame, frame[17:18]]), tmp_path / "many", ".csv", 40)
    last = sorted(src.iterdir())[-1]
    with pytest.raises(InputError, match=rf"{last.name}, line {len(last.read_text().splitlines())}: user 'u\d+'"):
        imported("table", src, tmp_path / "out", part=50, processes=1)
    assert not (tmp_path / "out").exists()


def test_mixed_clocks_are_named(tmp_path: Path):
    frame = log()
    src = in_files(frame, tmp_path / "s", ".parquet", 100)
    (frame.with_columns(pl.col("timestamp") * 1000)).write_parquet(src / "ms.parquet")
    with pytest.raises(InputError, match=r"ms.parquet, row 1: bad timestamp 16\d+; .*--time-unit"):
        imported("table", src, tmp_path / "out")
    with pytest.raises(InputError, match=r"000.parquet, row 1: 16\d+ in ms lies in 1970.*--time-unit s"):
        imported("table", src, tmp_path / "out", time_unit="ms")
    days = frame.with_columns(timestamp=pl.lit(20240131, pl.Int64))
    days.write_parquet(src / "ms.parquet")
    with pytest.raises(InputError, match=r"ms.parquet, row 1: the times are dates in digits here and numbers in .*000"):
        imported("table", src, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]


def test_long_ids_are_named(tmp_path: Path):
    frame = log()
    frame[5, "user_id"] = "long " * 300
    frame.write_csv(tmp_path / "e.csv")
    with pytest.raises(InputError, match=r"e.csv, line 7: a user id of 1,499 bytes, and they have at most 1,024"):
        imported("table", tmp_path / "e.csv", tmp_path / "out")


def stopped_after(patch: pytest.MonkeyPatch, name: str, n_calls: int) -> None:
    """Let a task fail as on a full disk once it was called so often."""
    work, calls = getattr(partitioned, name), []

    def limited(out: Path, *arguments: Any) -> dict[str, Any]:
        calls.append(out)
        with room_for(100) if len(calls) > n_calls else room_for(1 << 40):
            return work(out, *arguments)

    patch.setattr(partitioned, name, limited)


@pytest.mark.parametrize("name", ["stage", "merge", "count_items", "write_shard"])
def test_a_full_disk_stops_a_part_and_the_same_command_goes_on(tmp_path: Path, name: str):
    src = in_files(log(), tmp_path / "many", ".parquet", 70)
    how = {"part": 50, "processes": 1, "duplicates": "drop", "core": 2}
    whole, _ = imported("table", src, tmp_path / "whole", **how)
    with pytest.MonkeyPatch.context() as patch:
        stopped_after(patch, name, 2)
        with pytest.raises(UnfinishedError, match=r"cannot be written .*the same command goes on"):
            imported("table", src, tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / ".out.parts").glob("*/done.json")}
    assert len(made) >= 2
    again, _ = imported("table", src, tmp_path / "out", **how)
    assert again.fingerprint == whole.fingerprint
    assert not (tmp_path / ".out.parts").exists()


def stopped(tmp_path: Path, src: Path, **how: Any) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        stopped_after(patch, "write_shard", 1)
        with pytest.raises(UnfinishedError):
            imported("table", src, tmp_path / "out", part=50, processes=1, duplicates="drop", **how)
    return tmp_path / ".out.parts"


@pytest.mark.parametrize("damage", ["missing", "cut off", "changed", "no account"])
def test_a_damaged_part_is_made_again(tmp_path: Path, damage: str):
    src = in_files(log(), tmp_path / "many", ".parquet", 70)
    whole, _ = imported("table", src, tmp_path / "whole", duplicates="drop")
    part = stopped(tmp_path, src) / "part-00001"
    events = part / "events"
    content = events.read_bytes()
    if damage == "missing":
        events.unlink()
    elif damage == "no account":
        (part / "done.json").unlink()
    else:
        events.write_bytes(content[:-9] if damage == "cut off" else content[:-300] + b"?" + content[-299:])
    again, _ = imported("table", src, tmp_path / "out", part=50, processes=1, duplicates="drop")
    assert again.fingerprint == whole.fingerprint


def test_parts_of_another_run_are_not_used(tmp_path: Path):
    src = in_files(log(), tmp_path / "many", ".parquet", 70)
    about = json.loads((stopped(tmp_path, src) / "manifest.json").read_text())
    assert about["how"]["duplicates"] == "drop"
    whole, _ = imported("table", src, tmp_path / "whole", duplicates="first")
    other, _ = imported("table", src, tmp_path / "out", duplicates="first", part=50, processes=1)
    assert other.fingerprint == whole.fingerprint
