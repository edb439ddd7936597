"""Every file of every reader, damaged in every way: one line that names it, or a whole data set."""

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from redraft.data.store import load_dataset
from redraft.faults.world import call

EVENTS = [(f"u{u}", (u + t * t) % 12, 1_600_000_000 + 1000 * u + t) for u in range(12) for t in range(6)]
REVIEWS = [{"reviewerID": user, "asin": f"A{item}", "unixReviewTime": time} for user, item, time in EVENTS]
METADATA = [{"asin": f"A{n}", "title": f"\u00e9 {n}", "brand": "B", "category": ["x", "y"]} for n in range(12)]
ITEM = {"title": "lamp", "description": "\u00e9", "brand": "A", "categories": "Home, Garden,Lamps"}
TABLE = "user_id,item_id,timestamp\n" + "".join(f"{user},i{item},{time}\n" for user, item, time in EVENTS)
ITEMS = "item_id,title,brand\n" + "".join(f'i{n},"\u00e9 ""{n}""",b{n % 3}\n' for n in range(12))


def lines(records: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def parquet(text: str) -> bytes:
    written = Path("table.parquet")
    pl.read_csv(text.encode()).write_parquet(written)
    return written.read_bytes()


def readers() -> dict[str, tuple[list[str], dict[str, bytes]]]:
    """What to say to `data import` for each reader, and the files that it reads."""
    histories: dict[str, list[int]] = {}
    for user, item, _ in EVENTS:
        histories.setdefault(user, []).append(item)
    described = json.dumps({str(n): ITEM for n in range(12)}, ensure_ascii=False)
    inter = "user_id:token\titem_id:token\ttimestamp:float\n" + TABLE.partition("\n")[2].replace(",", "\t")
    item = "item_id:token\ttitle:token_seq\tclass:token\n" + "".join(f"i{n}\t\u00e9 {n}\tc{n % 3}\n" for n in range(12))
    found = {
        "lcrec": (["lcrec", "."], {"S.inter.json": json.dumps(histories).encode(), "S.item.json": described.encode()}),
        "amazon": (["amazon", ".", "--core", "0"], {"S.jsonl": lines(REVIEWS), "meta_S.jsonl": lines(METADATA)}),
        "recbole": (["recbole", ".", "--duplicates", "drop"], {"S.inter": inter.encode(), "S.item": item.encode()}),
    }
    found["amazon gz"] = (
        found["amazon"][0],
        {f"{name}.gz": gzip.compress(content) for name, content in found["amazon"][1].items()},
    )
    for suffix, write in (
        (".csv", str.encode),
        (".csv.gz", lambda text: gzip.compress(text.encode())),
        (".parquet", parquet),
    ):
        events, items = f"events{suffix}", f"items{suffix}"
        options = ["--items", items, "--attributes", "brand", "--duplicates", "drop"]
        found[suffix] = (["table", events, *options], {events: write(TABLE), items: write(ITEMS)})
    return found


def mutations(content: bytes, others: list[bytes], rng: np.random.Generator) -> Iterator[bytes]:
    for share in (0, 0.3, 0.8):
        yield content[: int(len(content) * share)]
    yield content[:-1]
    for place in rng.integers(len(content), size=24).tolist():
        yield content[:place] + bytes([content[place] ^ int(rng.integers(1, 256))]) + content[place + 1 :]
    yield from others
    yield from (content + content, b"\0" * 100, b"\xff\xfe" + content)
    for old, new in ((b"1600", b"NaN"), (b": 1", b": Infinity"), (b"u1", b""), (b"i1", b"\0")):
        yield content.replace(old, new, 1)
        yield content.replace(old, new)


@pytest.mark.parametrize("reader", ["lcrec", "amazon", "amazon gz", "recbole", ".csv", ".csv.gz", ".parquet"])
def test_a_damaged_file_is_named_in_one_line_or_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    monkeypatch.chdir(tmp_path)
    known = readers()
    words, files = known[reader]
    (tmp_path / "table.parquet").unlink()
    (tmp_path / "in").mkdir()
    for name, content in files.items():
        (tmp_path / "in" / name).write_bytes(content)
    monkeypatch.chdir(tmp_path / "in")
    importing = ["data", "import", *words[:2], tmp_path / "out" / "d", *words[2:]]
    assert call(importing) == (0, "")
    shutil.rmtree(tmp_path / "out")
    rng, refused = np.random.default_rng(0), 0
    for name, content in files.items():
        others = [other for _, theirs in known.values() for other in theirs.values() if other != content]
        for n, mutated in enumerate(mutations(content, others, rng)):
            (tmp_path / "in" / name).write_bytes(mutated)
            code, said = call(importing)
            assert code in (0, 2), (name, n, said)
            if code == 2:
                refused += 1
                assert said.startswith("error: "), (name, n, said)
                assert said.count("\n") == 1, (name, n, said)
                assert any(file in said for file in files), (name, n, said)
                assert not (tmp_path / "out").exists(), (name, n)
            else:
                load_dataset(tmp_path / "out" / "d")
                shutil.rmtree(tmp_path / "out")
        (tmp_path / "in" / name).write_bytes(content)
    assert refused > 30
