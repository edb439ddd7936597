import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from imports import imported

from redraft.data.amazon import read_amazon


def write_lines(path: Path, records: Sequence[object]) -> Path:
    text = "".join(f"{json.dumps(record) if isinstance(record, Mapping) else record}\n" for record in records)
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as file:
        file.write(text)
    return path


def old(user: str, item: str, time: int) -> dict[str, object]:
    return {"reviewerID": user, "asin": item, "overall": 5.0, "unixReviewTime": time, "reviewText": "<b>good</b>"}


def new(user: str, item: str, time: int) -> dict[str, object]:
    return {"user_id": user, "asin": "variant", "parent_asin": item, "rating": 5.0, "timestamp": time}


def test_2014(tmp_path: Path):
    """Python-style metadata, several category paths, gzip."""
    write_lines(tmp_path / "in" / "reviews_Shop_5.json.gz", [old("U", "A", 10), old("U", "B", 20), old("U", "C", 20)])
    write_lines(
        tmp_path / "in" / "meta_Shop.json.gz",
        [
            "{'asin': 'A', 'title': 'L\\'Oreal &amp; co', 'brand': 'L&#39;Oreal', "
            "'categories': [['Beauty', 'Make &amp; up'], ['Other']], 'price': 1.5}",
            {"asin": "Z", "title": "never reviewed"},
            {"asin": "B", "description": "Soft <br> lamp", "categories": [["Beauty", "Lamps"]]},
        ],
    )
    dataset, _ = imported("amazon", tmp_path / "in", tmp_path / "out", core=1)
    catalogue = dataset.catalogue
    assert catalogue.ids.to_list() == ["A", "B", "C"]  # C has no metadata
    assert catalogue.titles.to_list() == ["L'Oreal & co", "", ""]
    assert catalogue.descriptions.to_list() == ["", "Soft lamp", ""]
    assert [catalogue.attribute(n, 0) for n in range(3)] == ["Beauty > Make & up", "Beauty > Lamps", None]
    assert [catalogue.attribute(n, 1) for n in range(3)] == ["L'Oreal", None, None]
    assert dataset.interactions.times.tolist() == [10, 20, 20]


def test_2018(tmp_path: Path):
    """A flat category path or none, descriptions as lists, an item listed twice."""
    reviews = write_lines(tmp_path / "Shop_5.json", [old("U", item, n) for n, item in enumerate("ABC")])
    items = write_lines(
        tmp_path / "meta.json",
        [
            {"asin": "A", "title": "Lamp", "description": ["Warm", "<i>light</i>"], "category": ["Home", "Lamps"]},
            {"asin": "A", "title": "Lamp again"},
            {"asin": "B", "title": "Cream", "category": [], "main_cat": '<img alt="x"/>All Beauty', "brand": "Acme"},
            {"asin": "C", "title": "Soap", "category": [], "main_cat": '<img src="x"/>', "brand": ""},
        ],
    )
    raw = read_amazon(reviews, items)
    assert raw.items is not None
    assert raw.items.rows() == [
        ("A", "Lamp", "Warm light", "Home > Lamps", None),
        ("B", "Cream", "", "All Beauty", "Acme"),
        ("C", "Soap", "", None, None),
    ]


def test_2023(tmp_path: Path):
    """Parent items, milliseconds that decide the order within a second, store and main category."""
    reviews = write_lines(tmp_path / "Shop.jsonl", [new("U", "C", 1_002), new("U", "A", 1_001), new("U", "B", 5_000)])
    items = write_lines(
        tmp_path / "meta_Shop.jsonl",
        [
            {"parent_asin": "A", "title": "Lamp", "store": "Zeta", "main_category": "All Beauty", "categories": [],
             "description": ["Warm"], "features": ["dimmable", "small"]},
            {"parent_asin": "B", "title": None, "store": None, "main_category": None, "categories": ["X", "Y"]},
        ],
    )  # fmt: skip
    dataset, _ = imported("amazon", reviews, tmp_path / "out", items=items, core=1)
    assert dataset.catalogue.ids.gather(dataset.interactions.items).to_list() == ["A", "C", "B"]
    assert dataset.interactions.times.tolist() == [1, 1, 5]
    assert dataset.catalogue.descriptions[0] == "Warm dimmable small"
    assert [dataset.catalogue.attribute(n, 0) for n in range(3)] == ["All Beauty", "X > Y", None]
    assert [dataset.catalogue.attribute(n, 1) for n in range(3)] == ["Zeta", None, None]


def test_ties_in_time_keep_the_order_of_the_file_if_so_asked(tmp_path: Path):
    reviews = write_lines(tmp_path / "Shop.json", [old("U", item, 7) for item in "CABD"])
    dataset, account = imported("amazon", reviews, tmp_path / "out", core=1, ties="file")
    assert account.tied == 4
    assert dataset.catalogue.ids.gather(dataset.interactions.items).to_list() == list("CABD")


def test_five_core_and_first_review_are_the_defaults(tmp_path: Path):
    block = [old(f"U{u}", f"I{i}", 100 + i) for u in range(5) for i in range(5)]
    rare = [old("U9", "I0", 1), old("U0", "I9", 1)]
    again = [old("U0", "I0", 999), old("U0", "I1", 50)]
    reviews = write_lines(tmp_path / "Shop.json", [*block, *rare, *again])
    dataset, account = imported("amazon", reviews, tmp_path / "out")
    assert account.dropped == {"duplicates": 2, "interactions": 2, "users": 1, "items": 1}
    first = dataset.interactions.items[: dataset.interactions.offsets[1]]
    assert dataset.catalogue.ids.gather(first).to_list() == ["I1", "I0", "I2", "I3", "I4"]  # the earlier I1 counts


@pytest.mark.parametrize("newline", ["\n", "\n\n"])
def test_blank_lines_are_passed_over(tmp_path: Path, newline: str):
    path = tmp_path / "Shop.json"
    path.write_text(newline.join(json.dumps(old("U", item, 1)) for item in "ABC") + newline)
    assert read_amazon(path).events.height == 3
