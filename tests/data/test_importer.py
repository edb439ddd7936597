from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.data.importer import READERS, ImportConfig, Reader, build_dataset, import_dataset, main
from redraft.data.raw import RawData
from redraft.data.store import load_meta
from redraft.records import InputError

Event = tuple[str, str, int]


def raw(events: list[Event], items: pl.DataFrame | None = None) -> RawData:
    frame = pl.DataFrame(events, schema={"user": pl.String, "item": pl.String, "time": pl.Int64}, orient="row")
    return RawData(
        Path("log"), frame.with_columns(pl.col("time") * 1_000_000), items, (), lambda n: f"log, line {n + 1}"
    )


def naive(events: list[Event], core: int) -> dict[str, list[tuple[str, int]]]:
    """First event of each user and item, iterated k-core, time order; in plain Python."""
    kept: list[Event] = []
    for event in sorted(events, key=lambda event: event[2]):
        if not any(event[:2] == other[:2] for other in kept):
            kept.append(event)
    while True:
        n_user = {u: sum(e[0] == u for e in kept) for u, _, _ in kept}
        n_item = {i: sum(e[1] == i for e in kept) for _, i, _ in kept}
        left = [e for e in kept if n_user[e[0]] >= core and n_item[e[1]] >= core]
        if left == kept:
            return {u: [(i, t) for v, i, t in kept if v == u] for u in sorted(n_user)}
        kept = left


users, items, times = st.sampled_from(["u1", "u2", "u3", "u4"]), st.sampled_from("abcdef"), st.integers(0, 9)
logs = st.lists(st.tuples(users, items, times), min_size=1, max_size=60)


@settings(max_examples=40)
@given(events=logs)
def test_equals_plain_python(events: list[Event]):
    wanted = naive(events, 3)
    if not wanted:
        with pytest.raises(InputError, match="no events are left"):
            build_dataset(raw(events), name="n", core=3, duplicates="first")
        return
    dataset, account = build_dataset(raw(events), name="n", core=3, duplicates="first", ties="file")
    offsets = dataset.interactions.offsets
    item_ids = dataset.catalogue.ids.gather(dataset.interactions.items).to_list()
    pairs = list(zip(item_ids, dataset.interactions.times.tolist()))
    got = {u: pairs[a:b] for u, a, b in zip(dataset.user_ids, offsets, offsets[1:])}
    assert got == wanted
    assert len(events) == len(pairs) + account.dropped["duplicates"] + account.dropped["interactions"]
    assert dataset.catalogue.ids.to_list() == sorted(set(item_ids))


@settings(max_examples=25)
@given(events=st.lists(st.tuples(users, items), min_size=1, max_size=40, unique=True), seed=st.integers(0, 99))
def test_order_of_rows_does_not_matter_without_ties(events: list[tuple[str, str]], seed: int):
    timed = [(user, item, n) for n, (user, item) in enumerate(events)]
    timed += [(user, item, 1_000 + n) for n, item in enumerate("abc") for user in sorted({u for u, _ in events})]
    shuffled = [timed[n] for n in np.random.default_rng(seed).permutation(len(timed))]
    prints = {build_dataset(raw(log), name="n", core=0, duplicates="drop")[0].fingerprint for log in (timed, shuffled)}
    assert len(prints) == 1


THREE: list[Event] = [("u", "a", 1), ("u", "b", 2), ("u", "c", 3)]


@pytest.mark.parametrize(("duplicates", "order"), [("drop", "abca"), ("first", "abc"), ("keep", "aabca")])
def test_duplicates(duplicates: str, order: str):
    dataset, _ = build_dataset(raw([*THREE, ("u", "a", 1), ("u", "a", 9)]), name="n", core=0, duplicates=duplicates)
    assert "".join(dataset.catalogue.ids.gather(dataset.interactions.items)) == order


def test_duplicate_is_an_error_that_names_its_line():
    with pytest.raises(InputError, match=r"log, line 4: user 'u' and item 'a'.*--duplicates drop"):
        build_dataset(raw([*THREE, ("u", "a", 1)]), name="n", core=0, duplicates="error")


def test_an_item_bought_again_later_is_no_duplicate():
    dataset, _ = build_dataset(raw([*THREE, ("u", "a", 9)]), name="n", core=0, duplicates="error")
    assert dataset.interactions.items.tolist() == [0, 1, 2, 0]


def test_cold_items_stay_only_without_a_core():
    described = pl.DataFrame({"id": ["z", "a"], "title": ["Zed", "Aye"], "description": ["", ""]})
    dataset, _ = build_dataset(raw(THREE, described), name="n", core=0, duplicates="error")
    assert dataset.catalogue.ids.to_list() == ["a", "b", "c", "z"]
    assert dataset.catalogue.titles.to_list() == ["Aye", "", "", "Zed"]
    dataset, _ = build_dataset(raw(THREE, described), name="n", core=1, duplicates="error")
    assert dataset.catalogue.ids.to_list() == ["a", "b", "c"]


def test_main_says_what_it_wrote_and_what_is_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    src = tmp_path / "events.parquet"
    log = pl.DataFrame([*THREE, ("v", "a", 1)], schema=["user_id", "item_id", "timestamp"], orient="row")
    log.write_parquet(src)
    with pytest.raises(InputError, match=r"user 'v' has 1 events.*--core 3"):
        main(ImportConfig("table", src, tmp_path / "out"))
    pl.concat([log] + [log.with_columns(user_id=pl.lit(u)).head(3) for u in "wx"]).write_parquet(src)
    main(ImportConfig("table", src, tmp_path / "out", core=3, name="shop"))
    said = capsys.readouterr().out
    assert "shop: 3 users, 3 items, 9 interactions" in said
    assert "dropped: 1 interactions, 1 users" in said
    assert f"redraft data show {tmp_path / 'out'}" in said
    meta = load_meta(tmp_path / "out")
    assert (meta["options"]["core"], meta["dropped"]["users"]) == (3, 1)


def test_a_new_reader_is_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted, numbered and checked as all others; its options are refused where it does not read them."""

    def read(config: ImportConfig) -> RawData:
        rows = [line.split() for line in config.src.read_text().splitlines()]
        return raw([(user, item, int(time)) for user, item, time in rows])

    monkeypatch.setitem(READERS, "lines", Reader(read, items=False))
    log = tmp_path / "events.log"
    log.write_text("".join(f"u{n % 3} i{n % 4} {20 - n}\n" for n in range(12)))
    dataset, _ = import_dataset(ImportConfig("lines", log, tmp_path / "data"))
    assert [dataset.catalogue.ids[int(i)] for i in dataset.interactions.history(0)] == ["i1", "i2", "i3", "i0"]
    with pytest.raises(InputError, match=r"items.*kind lines"):
        import_dataset(ImportConfig("lines", log, tmp_path / "more", items=log))
