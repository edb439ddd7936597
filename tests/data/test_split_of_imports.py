"""A data set says itself how it is split, and every verb keeps to it."""

from pathlib import Path

import numpy as np
import pytest
from imports import imported

from redraft.data.show import describe_counts
from redraft.data.split import split_of
from redraft.data.store import load_dataset
from redraft.files import read_json, write_json
from redraft.records import InputError


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """Twelve users with one to four events, a day apart from 2024-01-01 on."""
    rows = [
        (f"u{u:02}", f"i{(u + n) % 6}", 1_704_067_200 + 86_400 * (u + n)) for u in range(12) for n in range(1 + u % 4)
    ]
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    return path


def test_short_users_are_refused_or_kept_for_training(events: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"user 'u00' has 1 events .*--core 3.* or pass --keep-short to train on them"):
        imported("table", events, tmp_path / "out")
    dataset, _ = imported("table", events, tmp_path / "out", keep_short=True)
    split = split_of(dataset)
    assert (dataset.split, dataset.protocol) == (None, "leave-one-out")
    assert split.train.lengths.tolist() == [1, 2, 1, 2] * 3
    assert len(split.test.targets) == 6
    assert describe_counts(dataset, 20)[-1].startswith("split: leave-one-out; what others did later leaks")


def test_a_split_in_time_belongs_to_the_data_set(events: Path, tmp_path: Path) -> None:
    how = {"split": "time", "validation_from": "2024-01-06", "test_from": "2024-01-09T00:00"}
    dataset, _ = imported("table", events, tmp_path / "out", **how)
    assert dataset.split == (1_704_499_200, 1_704_758_400)
    split = split_of(load_dataset(tmp_path / "out"))
    assert split.train.times.max() < dataset.split[0]
    assert split.test.histories.times.max() < dataset.split[1] + 86_400 * 3
    assert "test from 2024-01-09; nothing later leaks" in describe_counts(dataset, 20)[-1]
    other, _ = imported("table", events, tmp_path / "other", keep_short=True)
    assert other.fingerprint != dataset.fingerprint
    np.testing.assert_array_equal(other.interactions.items, dataset.interactions.items)


def test_by_default_four_fifths_of_the_events_are_for_training(events: Path, tmp_path: Path) -> None:
    dataset, _ = imported("table", events, tmp_path / "out", split="time")
    times = dataset.interactions.times
    assert [(times < moment).mean() for moment in dataset.split] == pytest.approx([0.8, 0.9], abs=0.07)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"validation_from": "2024-01-06"}, "--split leave-one-out does not read it"),
        ({"split": "time", "test_from": "soon"}, "--test-from is 'soon', no date; write 2024-03-01"),
        ({"split": "time", "time": None}, "a split in time needs times and there are none"),
        ({"split": "time", "validation_from": "2024-02-01", "test_from": "2024-01-06"}, "swap the two"),
    ],
)
def test_splits_that_cannot_be_are_refused(events: Path, tmp_path: Path, how: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        imported("table", events, tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()


def test_a_damaged_split_is_named(events: Path, tmp_path: Path) -> None:
    imported("table", events, tmp_path / "out", split="time")
    meta = read_json(tmp_path / "out" / "meta.json")
    for split in ("never", [1, 2]):
        write_json(tmp_path / "out" / "meta.json", meta | {"options": meta["options"] | {"split": split}})
        with pytest.raises(InputError, match=r"import` again"):
            load_dataset(tmp_path / "out")
