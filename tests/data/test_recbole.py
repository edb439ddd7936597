from pathlib import Path

import numpy as np
import pytest
from imports import imported

from redraft.data.split import temporal
from redraft.records import InputError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def write(folder: Path) -> Path:
    folder.mkdir()
    events = "user_id:token\titem_id:token\ttimestamp:float\n" + "".join(f"u\t{i}\t{30 - i}.0\n" for i in (9, 10, 11))
    (folder / "films.inter").write_text(events)
    header = "item_id:token\tmovie_title:token_seq\tgenre:token_seq\tyear:token\tlength:float\n"
    (folder / "films.item").write_text(header + '9\tThe "Lamp\tCrime War\t\t90\n')
    return folder


def test_defaults(tmp_path: Path):
    dataset, _ = imported("recbole", write(tmp_path / "films"), tmp_path / "out")
    catalogue = dataset.catalogue
    assert catalogue.ids.to_list() == ["9", "10", "11"]
    assert dataset.interactions.items.tolist() == [2, 1, 0]
    assert dataset.interactions.times.tolist() == [19, 20, 21]
    assert catalogue.titles.to_list() == ['The "Lamp', "", ""]
    assert catalogue.attribute_names == ("genre: Crime", "genre: War")  # no year is known, and length is a number
    assert [catalogue.attribute(0, k) for k in range(2)] == ["yes", "yes"]
    assert [catalogue.attribute(1, k) for k in range(2)] == [None, None]


def test_named_columns(tmp_path: Path):
    dataset, _ = imported(
        "recbole", write(tmp_path / "films"), tmp_path / "out", title="genre", attributes=["length"], time=None
    )
    assert dataset.interactions.times is None
    assert dataset.catalogue.titles[0] == "Crime War"
    assert dataset.catalogue.attribute(0, 0) == "90"


def test_of_many_values_each_is_an_attribute(tmp_path: Path):
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"u,{i},{i}\n" for i in range(5)))
    rows = ["0,Drama| War,red", "1,War,red", "2,,red", "3,Comedy;Drama,", "4,War,"]
    (tmp_path / "items.csv").write_text("item_id,genre,colour\n" + "\n".join(rows) + "\n")
    how = {"items": tmp_path / "items.csv", "attributes": ("genre", "colour"), "several": ("genre",)}
    dataset, _ = imported("table", tmp_path / "events.csv", tmp_path / "out", **how)
    catalogue = dataset.catalogue
    assert catalogue.attribute_names == ("genre: War", "genre: Drama", "genre: Comedy", "colour")
    said = [[catalogue.attribute(item, k) for k in range(3)] for item in range(4)]
    assert said == [["yes", "yes", "no"], ["yes", "no", "no"], [None] * 3, ["no", "yes", "yes"]]
    assert [catalogue.describe(item) for item in (0, 2)] == ["#0 | War | Drama | red", "#2 | red"]
    with pytest.raises(InputError, match="'size' is not among the attributes"):
        imported("table", tmp_path / "events.csv", tmp_path / "other", **{**how, "several": ("size",)})


def test_movielens(tmp_path: Path):
    if not (SHARED / "ml-100k").exists():
        pytest.skip("needs MovieLens-100K")
    dataset, _ = imported("recbole", SHARED / "ml-100k", tmp_path / "ml")
    events = dataset.interactions
    assert (events.n_users, dataset.catalogue.n_items, len(events.items)) == (943, 1_682, 100_000)
    assert dataset.catalogue.attribute_names[:3] == ("release_year", "class: Drama", "class: Comedy")
    assert len(dataset.catalogue.attribute_names) == 1 + 19
    assert dataset.catalogue.describe(0) == "Toy Story | 1995 | Comedy | Children's | Animation"
    inside = np.ones(len(events.items) - 1, dtype=bool)
    inside[events.offsets[1:-1] - 1] = False
    assert (np.diff(events.times)[inside] >= 0).all()
    assert events.times.min() == 874_724_710
    split = temporal(events, 889_000_000, 891_000_000)
    assert split.train.times.max() < 889_000_000
    assert split.test.histories.times.max() < 891_000_000
