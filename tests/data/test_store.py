import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from full_disk import room_for

from redraft.data.store import catalogue_from_frame, catalogue_to_frame, load_dataset, make_dataset, save_dataset
from redraft.records import Dataset, InputError, Interactions

ITEMS = pl.DataFrame(
    {
        "id": ["a", "b", "ç"],
        "title": ["Lamp", "", "Chair"],
        "description": ["", "", "soft"],
        "brand": ["Zeta", None, "Alpha"],
    }
)


def tiny(name: str = "tiny") -> Dataset:
    events = Interactions.from_lists([[0, 1, 2], [2, 2, 0, 1]])
    return make_dataset(name, events, catalogue_from_frame(ITEMS, ["brand"]), pl.Series("id", ["u", "v"]))


def test_values_are_numbered_in_sorted_order():
    catalogue = catalogue_from_frame(ITEMS, ["brand"])
    assert catalogue.attributes.tolist() == [[1], [-1], [0]]
    assert catalogue.attribute_values[0].to_list() == ["Alpha", "Zeta"]
    assert catalogue.describe(2) == "Chair | Alpha"
    assert catalogue_to_frame(catalogue).equals(ITEMS)


def test_no_attributes():
    assert catalogue_from_frame(ITEMS, []).attributes.shape == (3, 0)


def test_round_trip(tmp_path: Path):
    dataset = tiny()
    save_dataset(dataset, tmp_path / "d", source="table", options={"core": 0}, dropped={"users": 2})
    loaded = load_dataset(tmp_path / "d")
    assert (loaded.name, loaded.fingerprint) == ("tiny", dataset.fingerprint)
    assert loaded.user_ids.to_list() == ["u", "v"]
    np.testing.assert_array_equal(loaded.interactions.items, dataset.interactions.items)
    assert catalogue_to_frame(loaded.catalogue).equals(ITEMS)
    again = make_dataset("other name", loaded.interactions, loaded.catalogue, loaded.user_ids)
    assert again.fingerprint == dataset.fingerprint
    meta = json.loads((tmp_path / "d" / "meta.json").read_text())
    assert (meta["users"], meta["items"], meta["interactions"]) == (2, 3, 7)
    assert meta["dropped"] == {"users": 2}


def test_fingerprint_is_pinned():
    """The same data must give the same fingerprint on every machine and with every version of the libraries."""
    assert tiny().fingerprint == "86415aacf0963b9c4d5308fd970edeef03129bef512236d5606fe8cc01f0b8e7"


@pytest.mark.parametrize("column", ["id", "title", "description", "brand"])
def test_fingerprint_sees_every_column(column: str):
    changed = ITEMS.with_columns(pl.Series(column, ["a", "bc", "Zeta"]))
    dataset = tiny()
    other = make_dataset("tiny", dataset.interactions, catalogue_from_frame(changed, ["brand"]), dataset.user_ids)
    assert other.fingerprint != dataset.fingerprint


def test_fingerprint_sees_where_one_text_ends():
    def fingerprint(titles: list[str]) -> str:
        items = catalogue_from_frame(ITEMS.with_columns(pl.Series("title", titles)), [])
        return make_dataset("n", tiny().interactions, items, tiny().user_ids).fingerprint

    assert fingerprint(["ab", "c", ""]) != fingerprint(["a", "bc", ""])


def test_fingerprint_sees_order_and_times():
    dataset = tiny()
    events = dataset.interactions
    swapped = Interactions(events.items[::-1].copy(), events.offsets)
    timed = Interactions(events.items, events.offsets, np.zeros(len(events.items), dtype=np.int64))
    prints = {make_dataset("n", e, dataset.catalogue, dataset.user_ids).fingerprint for e in (events, swapped, timed)}
    assert len(prints) == 3


def test_replaces_a_data_set_but_nothing_else(tmp_path: Path):
    save_dataset(tiny("old"), tmp_path / "d", source="table")
    with pytest.raises(InputError, match=r"d: holds a data set; pass --replace .* to lose its meta.json"):
        save_dataset(tiny("new"), tmp_path / "d", source="table")
    save_dataset(tiny("new"), tmp_path / "d", source="table", replace=True)
    assert load_dataset(tmp_path / "d").name == "new"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"holds chapter\.txt, not a data set; give a new or empty folder"):
        save_dataset(tiny(), tmp_path / "thesis", source="table", replace=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_full_disk_leaves_the_old_data_set(tmp_path: Path):
    save_dataset(tiny("old"), tmp_path / "d", source="table")
    with room_for(500), pytest.raises(InputError, match="d: cannot be written"):
        save_dataset(tiny("new"), tmp_path / "d", source="table", replace=True)
    assert load_dataset(tmp_path / "d").name == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize("content", [b"", b"nonsense"])
@pytest.mark.parametrize("name", ["catalogue.parquet", "users.parquet", "items.npy"])
def test_damaged_data_set(tmp_path: Path, name: str, content: bytes):
    save_dataset(tiny(), tmp_path / "d", source="table")
    (tmp_path / "d" / name).write_bytes(content)
    with pytest.raises(InputError, match=r"damaged.*redraft data import"):
        load_dataset(tmp_path / "d")


def test_other_version(tmp_path: Path):
    save_dataset(tiny(), tmp_path / "d", source="table")
    meta = json.loads((tmp_path / "d" / "meta.json").read_text()) | {"version": 99}
    (tmp_path / "d" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="format 99"):
        load_dataset(tmp_path / "d")


def test_not_a_data_set(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere: not a data set.*redraft data import"):
        load_dataset(tmp_path / "nowhere")


def test_a_data_set_without_a_fingerprint_is_damaged(tmp_path: Path):
    save_dataset(tiny(), tmp_path / "d", source="table")
    meta = json.loads((tmp_path / "d" / "meta.json").read_text())
    del meta["fingerprint"]
    (tmp_path / "d" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match=r"meta.json has no 'fingerprint'; run `redraft data import` again"):
        load_dataset(tmp_path / "d")
