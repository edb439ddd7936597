"""Lists and their reasons from a run whose tower reads times: with them everywhere they are known, refused without."""

import re
import shlex
from pathlib import Path

import polars as pl
import pytest
from serving import dataset, reflecting
from verbs import run

from redraft.data.store import save_dataset

ROW = re.compile(r"^│ (?:\d+ +│ )?(item-\d+) ", re.MULTILINE)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    reflecting().save(folder / "run")
    save_dataset(dataset(timed=True), folder / "data", source="test")
    return folder


def test_what_is_explained_is_what_was_recommended(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "recommend", judged / "run", "--data", judged / "data", "--user", "user-7", "--k", 6)
    assert code == 0
    assert len(listed := ROW.findall(out)) == 6
    words = shlex.split(out.splitlines()[-1].removeprefix("next: "))
    code, out, _ = run(capsys, *words[words.index("explain") :])
    assert code == 0
    assert ROW.findall(out) == listed
    assert "none of the drafts is right" in out


def test_a_table_of_events_gives_a_history_its_times(
    judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = dataset(timed=True).interactions.take(slice(7, 8))
    frame = pl.DataFrame({"item_id": [f"item-{n}" for n in events.items], "timestamp": events.times})
    _, out, _ = run(capsys, "recommend", judged / "run", "--data", judged / "data", "--user", "user-7", "--json")
    expected = out.partition("items")[2]
    for file, write in (("h.csv", frame.write_csv), ("h.parquet", frame.write_parquet)):
        write(tmp_path / file)
        code, out, _ = run(capsys, "recommend", judged / "run", "--history-file", tmp_path / file, "--json")
        assert code == 0
        assert out.partition("items")[2] == expected


@pytest.mark.parametrize("verb", ["recommend", "explain"])
def test_ids_alone_are_not_enough(verb: str, judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, verb, judged / "run", "--history", "item-1", "item-2")
    assert code == 2
    assert "the histories have no times" in err
    assert "give users of a data set, or a table of events with their times" in err
    assert err.count("\n") == 1
