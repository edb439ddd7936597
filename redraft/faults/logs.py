"""Every file of every reader of raw logs, damaged in every way: one line that names it, or a whole data set."""

import gzip
import io
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from redraft.data.store import load_dataset
from redraft.faults.damage import Damaged, garbled
from redraft.faults.world import call
from redraft.records import InputError

__all__ = ["READERS", "try_logs"]

EVENTS = [(f"u{u}", (u + t * t) % 12, 1_600_000_000 + 1000 * u + t) for u in range(12) for t in range(6)]
REVIEWS = [{"reviewerID": user, "asin": f"A{item}", "unixReviewTime": time} for user, item, time in EVENTS]
METADATA = [{"asin": f"A{n}", "title": f"\u00e9 {n}", "brand": "B", "category": ["x", "y"]} for n in range(12)]
ITEM = {"title": "lamp", "description": "\u00e9", "brand": "A", "categories": "Home, Garden,Lamps"}
TABLE = "user_id,item_id,timestamp\n" + "".join(f"{user},i{item},{time}\n" for user, item, time in EVENTS)
ITEMS = "item_id,title,brand\n" + "".join(f'i{n},"\u00e9 ""{n}""",b{n % 3}\n' for n in range(12))


def _lines(records: Iterable[Mapping[str, object]]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def _parquet(text: str) -> bytes:
    written = io.BytesIO()
    pl.read_csv(text.encode()).write_parquet(written)
    return written.getvalue()


@cache  # not at import: what writes Parquet begins threads, and those do not outlive a fork
def _readers() -> dict[str, tuple[list[str], dict[str, bytes]]]:
    """What to say to `data import` for each reader, and the files that it reads."""
    histories: dict[str, list[int]] = {}
    for user, item, _ in EVENTS:
        histories.setdefault(user, []).append(item)
    described = json.dumps({str(n): ITEM for n in range(12)}, ensure_ascii=False)
    inter = "user_id:token\titem_id:token\ttimestamp:float\n" + TABLE.partition("\n")[2].replace(",", "\t")
    things = "item_id:token\ttitle:token_seq\tclass:token\n" + "".join(
        f"i{n}\t\u00e9 {n}\tc{n % 3}\n" for n in range(12)
    )
    readers = {
        "lcrec": (["lcrec", "."], {"S.inter.json": json.dumps(histories).encode(), "S.item.json": described.encode()}),
        "amazon": (["amazon", ".", "--core", "0"], {"S.jsonl": _lines(REVIEWS), "meta_S.jsonl": _lines(METADATA)}),
        "recbole": (["recbole", ".", "--duplicates", "drop"], {"S.inter": inter.encode(), "S.item": things.encode()}),
    }
    readers["amazon gz"] = (
        readers["amazon"][0],
        {f"{name}.gz": gzip.compress(content) for name, content in readers["amazon"][1].items()},
    )
    for suffix, write in (
        (".csv", str.encode),
        (".csv.gz", lambda text: gzip.compress(text.encode())),
        (".parquet", _parquet),
    ):
        events, items = f"events{suffix}", f"items{suffix}"
        options = ["--items", items, "--attributes", "brand", "--duplicates", "drop"]
        readers[suffix] = (["table", events, *options], {events: write(TABLE), items: write(ITEMS)})
    return readers


READERS = ("lcrec", "amazon", "amazon gz", "recbole", ".csv", ".csv.gz", ".parquet")


def try_logs(scratch: Path, readers: Iterable[str] = READERS) -> list[Damaged]:
    """Each file of each reader, damaged in each way; scratch is a new folder, in which the work is done."""
    (scratch / "in").mkdir(parents=True)
    before = Path.cwd()
    os.chdir(scratch / "in")
    try:
        return [each for reader in readers for each in _damaged(reader, scratch)]
    finally:
        os.chdir(before)


def _damaged(reader: str, scratch: Path) -> list[Damaged]:
    words, files = _readers()[reader]
    rng, out, tried = np.random.default_rng(0), scratch / "out", []
    importing: list[object] = ["data", "import", *words[:2], out / "d", *words[2:]]
    for name, content in files.items():
        Path(name).write_bytes(content)
    assert call(importing) == (0, "")
    shutil.rmtree(out)
    for name, content in files.items():
        others = [other for _, theirs in _readers().values() for other in theirs.values() if other != content]
        for what, damaged in garbled(content, others, rng):
            Path(name).write_bytes(damaged)
            tried.append(Damaged(reader, name, what, _fault(importing, out, files)))
            shutil.rmtree(out, ignore_errors=True)
        Path(name).write_bytes(content)
    for name in files:
        Path(name).unlink()
    return tried


def _fault(importing: list[object], out: Path, files: Iterable[str]) -> str | None:
    try:
        code, said = call(importing)
        if code == 0:
            load_dataset(out / "d")
            return None
    except InputError as error:
        return f"was written, and cannot be opened: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    told = code == 2 and said.startswith("error: ") and said.count("\n") == 1 and any(name in said for name in files)
    return None if told and not out.exists() else f"status {code}: {said}"
