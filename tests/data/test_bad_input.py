"""Input that cannot be used: one line that names the file, the place and the fix; nothing is written."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from imports import imported

from redraft.records import InputError

REVIEW = {"reviewerID": "U", "asin": "A", "unixReviewTime": 1}
CSV = "user_id,item_id,timestamp\nu,a,1\nu,b,2\nu,c,3\n"
INTER = "user_id:token\titem_id:token\ttimestamp:float\nu\ta\t1\nu\tb\t2\nu\tc\t3\n"
ITEM = '{"title": "", "description": "", "brand": "", "categories": ""}'


def lcrec(inter: str | bytes, items: str | None = None) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "S.inter.json").write_bytes(inter.encode() if isinstance(inter, str) else inter)
        if items is not None:
            (folder / "S.item.json").write_text(items)
        return {"kind": "lcrec", "src": folder}

    return make


def amazon(reviews: bytes, metadata: bytes | None = None, name: str = "S.json", **options: Any):
    def make(folder: Path) -> dict[str, Any]:
        (folder / name).write_bytes(reviews)
        if metadata is not None:
            (folder / "meta_S.json").write_bytes(metadata)
        return {"kind": "amazon", "src": folder, **options}

    return make


def recbole(inter: str | bytes, items: str | None = None, **options: Any):
    def make(folder: Path) -> dict[str, Any]:
        (folder / "S.inter").write_bytes(inter.encode() if isinstance(inter, str) else inter)
        if items is not None:
            (folder / "S.item").write_text(items)
        return {"kind": "recbole", "src": folder, **options}

    return make


def table(events: str | bytes, items: str | None = None, suffix: str = ".csv", **options: Any):
    def make(folder: Path) -> dict[str, Any]:
        src = folder / f"events{suffix}"
        src.write_bytes(events.encode() if isinstance(events, str) else events)
        if items is not None:
            (folder / "items.csv").write_text(items)
            options["items"] = folder / "items.csv"
        return {"kind": "table", "src": src, **options}

    return make


def parquet(**columns: list[Any]):
    def make(folder: Path) -> dict[str, Any]:
        pl.DataFrame(columns).write_parquet(folder / "events.parquet")
        return {"kind": "table", "src": folder / "events.parquet"}

    return make


def lines(*records: Any) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


GZIP = gzip.compress(lines(*[REVIEW | {"asin": f"A{n}", "summary": str(n**9)} for n in range(500)]))

CASES = {
    "lcrec: no such folder": (lambda folder: {"kind": "lcrec", "src": folder / "no"}, r"no: no such file or folder"),
    "lcrec: no files": (lambda folder: {"kind": "lcrec", "src": folder}, r"0 files called NAME.inter.json"),
    "lcrec: empty file": (lcrec(""), r"S.inter.json: the file is empty"),
    "lcrec: cut off": (lcrec('{"0": [0, 1,\n 2'), r"S.inter.json, line 2: not JSON"),
    "lcrec: not UTF-8": (lcrec(b'{\n"0": [0, 1, 2], "\xff": []}'), r"S.inter.json, line 2: byte 0xff"),
    "lcrec: deep": (lcrec("[" * 99_999), r"S.inter.json: cannot be read as JSON"),
    "lcrec: a list": (lcrec("[[0, 1, 2]]"), r"S.inter.json: not a JSON object from users"),
    "lcrec: no users": (lcrec("{}"), r"S.inter.json: not a JSON object from users"),
    "lcrec: items as text": (lcrec('{"0": [0, 1], "1": ["0"]}'), r"S.inter.json, user '1': not a list of item numbers"),
    "lcrec: a negative item": (lcrec('{"0": [0, -1, 1]}'), r"S.inter.json, user '0': not a list of item numbers"),
    "lcrec: a huge item": (lcrec(f'{{"0": [0, 1, {9**99}]}}'), r"S.inter.json, user '0': not a list of item numbers"),
    "lcrec: an empty history": (lcrec('{"0": [0, 1, 2], "1": []}'), r"user '1': an empty history; remove"),
    "lcrec: a short history": (lcrec('{"0": [0, 1, 2], "1": [0, 1]}'), r"user '1' has 2 events.*`--core 3`"),
    "lcrec: a gap": (lcrec('{"0": [0, 1, 3]}'), r"3 items but numbers up to 3.*S.item.json"),
    "lcrec: an unknown item": (
        lcrec('{"0": [0, 0, 0], "7": [0, 1, 0]}', f'{{"0": {ITEM}}}'),
        r"S.inter.json, user '7': item 1 is not in S.item.json",
    ),
    "lcrec: items not numbered": (lcrec('{"0": [0, 0, 0]}', f'{{"1": {ITEM}}}'), r"S.item.json: .*none numbered 0"),
    "lcrec: items as a list": (lcrec('{"0": [0, 0, 0]}', "[1]"), r"S.item.json: not a JSON object from items"),
    "lcrec: text as a list": (lcrec('{"0": [0, 0, 0]}', '{"0": {"title": ["x"]}}'), r"item '0': \['x'\] is not text"),
    "amazon: empty": (amazon(b""), r"S.json: the file is empty"),
    "amazon: truncated gzip": (amazon(GZIP[:-200], name="S.json.gz"), r"S.json.gz, after line \d+: broken gzip"),
    "amazon: no gzip": (amazon(lines(REVIEW), name="S.json.gz"), r"S.json.gz, after line 0: broken gzip"),
    "amazon: broken gzip": (amazon(GZIP[:-8] + b"\0" * 8, name="S.json.gz"), r"broken gzip \(CRC"),
    "amazon: cut-off line": (amazon(lines(REVIEW) + b'{"reviewerID": "U", "as'), r"S.json, line 2: not a JSON object"),
    "amazon: a list": (amazon(lines(REVIEW, [1])), r"S.json, line 2: not a JSON object"),
    "amazon: a long number": (amazon(b'{"a": 1' + b"0" * 5000 + b"}\n"), r"S.json, line 1: not a JSON object"),
    "amazon: deep": (amazon(b"[" * 99_999), r"S.json, line 1: not a JSON object"),
    "amazon: not UTF-8": (amazon(lines(REVIEW) + b'{"asin": "\xe9"}\n'), r"S.json, line 2: byte 0xe9 is not UTF-8"),
    "amazon: no item": (amazon(lines(REVIEW, {"reviewerID": "U", "unixReviewTime": 1})), r"S.json, line 2: no asin"),
    "amazon: null user": (amazon(lines(REVIEW | {"reviewerID": None})), r"S.json, line 1: no reviewerID"),
    "amazon: no review": (amazon(lines({"title": "x"})), r"line 1: no user_id; is this a file of Amazon reviews"),
    "amazon: bad time": (amazon(lines(REVIEW | {"unixReviewTime": "May"})), r"line 1: bad timestamp 'May'"),
    "amazon: metadata without id": (amazon(lines(REVIEW), lines({"title": "x"})), r"meta_S.json, line 1: no asin"),
    "amazon: nothing left": (amazon(lines(REVIEW)), r"S.json: no events are left with `--core 5`; lower it"),
    "amazon: duplicate": (
        amazon(lines(REVIEW, REVIEW | {"asin": "B"}, REVIEW), core=0, duplicates="error"),
        r"S.json, line 3: user 'U' and item 'A'.*appear together twice",
    ),
    "amazon: folder of nothing": (lambda folder: {"kind": "amazon", "src": folder}, r"0 files of reviews"),
    "recbole: empty": (recbole(""), r"S.inter: the file is empty"),
    "recbole: only a header": (recbole(INTER.splitlines()[0] + "\n"), r"S.inter: no events"),
    "recbole: no types": (recbole("user_id\titem_id\nu\ta\n"), r"S.inter, line 1: 'user_id' is not NAME:TYPE"),
    "recbole: a wrong type": (recbole(INTER.replace("float", "date")), r"line 1: 'timestamp:date' is not NAME:TYPE"),
    "recbole: a column twice": (
        recbole(INTER.replace("timestamp", "user_id")),
        r"S.inter, line 1: two columns are called 'user_id'",
    ),
    "recbole: missing column": (
        recbole(INTER.replace("item_id", "film")),
        r"no column 'item_id'; name one with --item",
    ),
    "recbole: too many fields": (recbole(INTER + "u\td\t4\tx\n"), r"S.inter, line 5: 4 fields where the header has 3"),
    "recbole: too few fields": (recbole(INTER + "u\n"), r"S.inter, line 5: bad timestamp None"),
    "recbole: not UTF-8": (recbole(INTER.encode() + b"u\t\xff\t4\n"), r"S.inter, line 5: byte 0xff is not UTF-8"),
    "recbole: bad time": (recbole(INTER.replace("2", "soon")), r"S.inter, line 3: bad timestamp 'soon'"),
    "recbole: no item": (recbole(INTER + "u\t\t4\n"), r"S.inter, line 5: no item id"),
    "recbole: attribute": (
        recbole(INTER, "item_id:token\na\n", attributes=("brand",)),
        r"S.item: no column 'brand'; name one with --attributes: item_id",
    ),
    "recbole: item twice": (
        recbole(INTER, "item_id:token\na\na\n"),
        r"S.item, line 3: an item that appears twice",
    ),
    "table: missing file": (lambda f: {"kind": "table", "src": f / "x.csv"}, r"x.csv: no such file"),
    "table: unknown suffix": (table(CSV, suffix=".xlsx"), r"events.xlsx: not a .parquet, .csv or .tsv file"),
    "table: empty": (table(""), r"events.csv: the file is empty"),
    "table: only a header": (table("user_id,item_id,timestamp\n"), r"events.csv: no events"),
    "table: missing column": (
        table(CSV, time="when"),
        r"events.csv: no column 'when'; name one with --time: user_id, item",
    ),
    "table: null user": (table(CSV + ",d,4\n"), r"events.csv, line 5: no user id"),
    "table: bad time": (table(CSV + "u,d,soon\n"), r"events.csv, line 5: bad timestamp 'soon'.*--time-unit"),
    "table: not UTF-8": (table(CSV.encode() + b"u,\xff,4\n"), r"events.csv, line 5: byte 0xff is not UTF-8"),
    "table: too many fields": (table(CSV + "u,d,4,5\n"), r"events.csv, line 5: 4 fields where the header has 3"),
    "table: duplicate": (table(CSV + "u,b,2\n"), r"events.csv, line 5: user 'u' and item 'b'.*--duplicates"),
    "table: short history": (table(CSV + "v,b,2\n"), r"events.csv: user 'v' has 1 events.*`--core 3`"),
    "table: no Parquet": (
        table("nonsense, not Parquet", suffix=".parquet"),
        r"events.parquet: cannot be read as Parquet",
    ),
    "table: no item file": (table(CSV, attributes=("brand",)), r"give --items FILE"),
    "table: attribute": (table(CSV, "item_id\na\n", attributes=("brand",)), r"items.csv: no column 'brand'"),
    "table: attribute name": (table(CSV, "item_id,title\na,x\n", attributes=("title",)), r"cannot be called 'title'"),
    "table: item without id": (table(CSV, "item_id,title\na,x\n,y\n"), r"items.csv, line 3: an item without id"),
    "table: item twice": (
        table(CSV, "item_id,title\na,x\na,y\n"),
        r"items.csv, line 3: an item that appears twice",
    ),
    "parquet: null item": (
        parquet(user_id=["u"] * 3, item_id=["a", None, "c"], timestamp=[1, 2, 3]),
        r"events.parquet, row 2: no item id",
    ),
    "parquet: milliseconds": (
        parquet(user_id=["u"] * 2, item_id=["a", "b"], timestamp=[1_600_000_000, 1_600_000_000_000]),
        r"events.parquet, row 2: bad timestamp 1600000000000; .*--time-unit",
    ),
}


@pytest.mark.parametrize(("make", "message"), CASES.values(), ids=CASES)
def test_one_line_and_nothing_written(tmp_path: Path, make: Callable[[Path], dict[str, Any]], message: str):
    (tmp_path / "in").mkdir()
    options = make(tmp_path / "in")
    with pytest.raises(InputError, match=message) as caught:
        imported(**options, dst=tmp_path / "out" / "data")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
