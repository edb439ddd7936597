import json
from pathlib import Path

import numpy as np
import pytest
from imports import imported

from redraft.data.lcrec import read_lcrec

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def write(folder: Path, histories: object, items: object = None) -> Path:
    folder.mkdir()
    (folder / "Shop.inter.json").write_text(json.dumps(histories))
    if items is not None:
        (folder / "Shop.item.json").write_text(json.dumps(items))
    return folder


def item(**fields: str) -> dict[str, str]:
    return {"title": "", "description": "", "brand": "", "categories": ""} | fields


def test_texts_and_attributes(tmp_path: Path):
    items = {
        "0": item(title="Tea &amp; Cup", brand="L&#39;Oreal", categories="Home,Kitchen"),
        "1": item(brand="Unknown", categories="Sport,Kitchen"),
        "2": item(brand="L'Oreal", categories="Clothing, Shoes &amp; Jewelry,Hats"),
        "3": item(description="never bought"),
    }
    src = write(tmp_path / "src", {"0": [2, 0, 1], "1": [0, 1, 0, 2]}, items)
    dataset, account = imported("lcrec", src, tmp_path / "dst")
    catalogue = dataset.catalogue
    assert dataset.interactions.items.tolist() == [2, 0, 1, 0, 1, 0, 2]  # order and repeats as published
    assert catalogue.ids.to_list() == ["0", "1", "2", "3"]
    assert catalogue.attribute_names == ("category", "brand")
    named = [[catalogue.attribute(n, k) for k in range(2)] for n in range(4)]
    assert named == [
        ["Home > Kitchen", "L'Oreal"],
        ["Sport > Kitchen", None],  # the same leaf on another path is another category
        ["Clothing, Shoes & Jewelry > Hats", "L'Oreal"],
        [None, None],
    ]
    assert (catalogue.titles[0], catalogue.descriptions[3]) == ("Tea & Cup", "never bought")
    assert not any(account.dropped.values())


def test_numbers_above_nine_keep_their_place(tmp_path: Path):
    src = write(tmp_path / "src", {str(u): list(range(12)) for u in range(12)})
    dataset, _ = imported("lcrec", src, tmp_path / "dst")
    assert dataset.catalogue.ids.to_list() == dataset.user_ids.to_list() == [str(n) for n in range(12)]
    assert dataset.interactions.items[:12].tolist() == list(range(12))
    assert dataset.catalogue.attributes.shape == (12, 0)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("Beauty", (22_363, 12_101, 198_502)),
        ("Instruments", (24_772, 9_922, 206_153)),
        ("Scientific", (3_285, 3_527, 22_174)),
    ],
)
def test_published_data(tmp_path: Path, name: str, counts: tuple[int, int, int]):
    if not (SHARED / name).exists():
        pytest.skip(f"needs the published data set {name}")
    dataset, _ = imported("lcrec", SHARED / name, tmp_path / name)
    events = dataset.interactions
    assert (events.n_users, dataset.catalogue.n_items, len(events.items)) == counts
    published = json.loads((SHARED / name / f"{name}.inter.json").read_text())
    assert events.items.tolist() == [item for user in dataset.user_ids for item in published[user]]
    assert dataset.catalogue.ids.to_list() == [str(n) for n in range(counts[1])]
    assert np.bincount(events.items).min() > 0


def test_reader_reads_no_semantic_ids(tmp_path: Path):
    src = write(tmp_path / "src", {"0": [0, 1, 2]})
    (src / "Shop.index.json").write_text("not JSON at all")
    assert read_lcrec(src).events["item"].to_list() == ["0", "1", "2"]
