"""Lists of many users: whole or not at all, and what was done before a stop is not done again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny import tiny_catalogue, tiny_interactions
from verbs import run

from redraft.data.store import make_dataset
from redraft.frames import lists_frame
from redraft.records import InputError, IntArray, Interactions, Recommendations
from redraft.serve import shards
from redraft.serve.shards import chosen_users, lists_in_parts

USERS = pl.Series("id", [f"user-{u}" for u in range(40)])
DATA = make_dataset("tiny", tiny_interactions(40), tiny_catalogue(30), USERS)


def recommend(histories: Interactions) -> Recommendations:
    last = np.array([histories.history(user)[-1] for user in range(histories.n_users)])
    items = np.stack([last, np.full_like(last, -1)], axis=1).astype(np.int64)
    return Recommendations(items, np.where(items >= 0, 1.0, -np.inf).astype(np.float32))


def write_lists(out: Path, recommend: Callable[[Interactions], Recommendations], about: dict[str, object]) -> int:
    def lists(users: IntArray) -> pl.DataFrame:
        return lists_frame(USERS.gather(users), DATA.catalogue, recommend(DATA.interactions.take(users)))

    return lists_in_parts(out, chosen_users(None, DATA), lists, about)


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 7)
    out, asked = tmp_path / "lists.parquet", []

    def stopping(histories: Interactions) -> Recommendations:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(histories.n_users)
        return recommend(histories)

    with pytest.raises(KeyboardInterrupt):
        write_lists(out, stopping, {"run": 1})
    assert not out.exists()
    asked.clear()
    assert write_lists(out, recommend, {"run": 1}) == 3
    found = pl.read_parquet(out)
    assert found["user"].to_list() == USERS.to_list()
    assert found["item"].to_list() == [f"item-{DATA.interactions.history(u)[-1]}" for u in range(40)]
    assert found.columns == ["user", "rank", "item", "title", "score"]
    assert [path.name for path in tmp_path.iterdir()] == ["lists.parquet"]


def test_shards_of_another_run_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 7)

    def stop(histories: Interactions) -> Recommendations:
        if histories.history(0).tolist() != DATA.interactions.history(0).tolist():
            raise KeyboardInterrupt
        return recommend(histories)

    with pytest.raises(KeyboardInterrupt):
        write_lists(tmp_path / "lists.csv", stop, {"run": 1})
    assert write_lists(tmp_path / "lists.csv", recommend, {"run": 2}) == 0
    assert pl.read_csv(tmp_path / "lists.csv").height == 40


def test_users_are_chosen_by_a_file(tmp_path: Path, shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = tmp_path / "users.txt"
    chosen.write_text("user-7\n\nuser-3\n")
    assert chosen_users(chosen, DATA).tolist() == [7, 3]
    words = ["recommend", shop / "run", "--data", shop / "data", "--users", chosen, "--out", tmp_path / "lists.parquet"]
    code, out, err = run(capsys, *words, "--k", 4)
    assert code == 0, err
    assert "2 users x 4 items" in out
    assert pl.read_parquet(tmp_path / "lists.parquet")["user"].to_list() == ["user-7"] * 4 + ["user-3"] * 4
    chosen.write_text("user-7\nnobody\n")
    with pytest.raises(InputError, match="'nobody'"):
        chosen_users(chosen, DATA)
    for path in (tmp_path / "missing.txt", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            chosen_users(path, DATA)


def test_processes_make_the_lists_of_one(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD", 11)
    for processes in (1, 2):
        out = tmp_path / f"{processes}.csv"
        words = ["recommend", shop / "grc", "--data", shop / "data", "--out", out, "--processes", processes]
        code, _, err = run(capsys, *words)
        assert code == 0, err
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    code, _, err = run(capsys, "recommend", shop / "grc", "--history", "item-3", "--processes", 2)
    assert (code, "--processes: a command without --data DATA --out FILE does not read it" in err) == (2, True)


def test_a_shard_that_is_damaged_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 7)
    calls: list[int] = []

    def stopping(histories: Interactions) -> Recommendations:
        calls.append(histories.n_users)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return recommend(histories)

    with pytest.raises(KeyboardInterrupt):
        write_lists(tmp_path / "lists.csv", stopping, {"run": 1})
    shard = tmp_path / ".lists.csv.shards" / "00000001" / "lists.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert write_lists(tmp_path / "lists.csv", recommend, {"run": 1}) == 2
    assert pl.read_csv(tmp_path / "lists.csv").height == 40
