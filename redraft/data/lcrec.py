"""The layout that LC-Rec, LETTER and MiniOneRec publish: NAME.inter.json and, where there is one, NAME.item.json.

Items keep their published numbers, so that published semantic IDs go on matching.
"""

import re
from pathlib import Path
from typing import Any

import polars as pl

from redraft.data.raw import RawData, clean_text, only_file
from redraft.files import read_json
from redraft.records import InputError

__all__ = ["read_lcrec"]

MOST_ITEMS = 2**31


def read_lcrec(src: Path) -> RawData:
    """Read NAME.inter.json (user -> item numbers in time order) and NAME.item.json (item -> texts) from a folder.

    Attributes: category, the path from root to leaf joined by " > ", and brand; "" and "Unknown" are unknown.
    Raises InputError if a file is missing or not of that shape, or if an event names an item that is not described.
    """
    inter_path = only_file(src, ".inter.json")
    item_path = inter_path.with_name(inter_path.name.replace(".inter.json", ".item.json"))
    histories = _checked_histories(read_json(inter_path), inter_path)
    events = pl.DataFrame(
        {"user": histories.keys(), "item": histories.values()}, schema={"user": pl.String, "item": pl.List(pl.Int64)}
    ).explode("item")
    n_items = int(events["item"].max() or 0) + 1  # type: ignore[arg-type]
    if item_path.exists():
        items = _read_items(item_path)
        if n_items > items.height:
            user, item = events.row(int(events["item"].arg_max() or 0))
            raise InputError(f"{inter_path}, user {user!r}: item {item} is not in {item_path.name}; add or remove it")
        attributes: tuple[str, ...] = ("category", "brand")
    else:
        if events["item"].n_unique() < n_items:
            raise InputError(
                f"{inter_path}: {events['item'].n_unique()} items but numbers up to {n_items - 1}; "
                f"number the items from 0 without gaps, or add {item_path.name}"
            )
        items, attributes = _without_text(n_items), ()
    return RawData(inter_path, events.cast(pl.String), items, attributes, lambda row: str(inter_path))


def _checked_histories(content: Any, path: Path) -> dict[str, list[int]]:
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: not a JSON object from users to lists of item numbers; export it in that shape")
    for user, items in content.items():
        if not isinstance(items, list) or not all(type(item) is int and 0 <= item < MOST_ITEMS for item in items):
            raise InputError(f"{path}, user {user!r}: not a list of item numbers from 0; export it in that shape")
        if not items:
            raise InputError(f"{path}, user {user!r}: an empty history; remove the user")
    return content


def _read_items(path: Path) -> pl.DataFrame:
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(fields, dict) for fields in content.values()):
        raise InputError(f"{path}: not a JSON object from items to objects; export it in that shape")
    missing = next((str(n) for n in range(len(content)) if str(n) not in content), None)
    if missing is not None:
        raise InputError(f"{path}: {len(content)} items but none numbered {missing}; number them from 0 without gaps")
    rows = [_item_row(str(n), content[str(n)], path) for n in range(len(content))]
    names = ("id", "title", "description", "category", "brand")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def _item_row(item: str, fields: dict[str, Any], path: Path) -> tuple[str | None, ...]:
    texts = [fields.get(name) or "" for name in ("title", "description", "categories", "brand")]
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"{path}, item {item!r}: {text!r} is not text; export title, categories etc. as strings")
    title, description, categories, brand = map(clean_text, texts)
    path_to_leaf = " > ".join(part.strip() for part in re.split(r",(?! )", categories))  # ", " is inside a name
    return item, title, description, _known(path_to_leaf), _known(brand)


def _known(value: str) -> str | None:
    return None if value in ("", "Unknown") else value


def _without_text(n_items: int) -> pl.DataFrame:
    return pl.select(id=pl.int_range(n_items).cast(pl.String), title=pl.lit(""), description=pl.lit(""))
