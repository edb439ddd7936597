"""Every file of a data-set folder, damaged in every way: one line that names the folder, or no difference."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from redraft.data.store import catalogue_from_frame, load_dataset, make_dataset, save_dataset
from redraft.records import Dataset, InputError, Interactions


def made(n_users: int, n_items: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 9, n_users)
    items = rng.integers(n_items, size=lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = 1_600_000_000 + np.arange(len(items), dtype=np.int64)
    frame = pl.DataFrame(
        {
            "id": [f"item-{seed}-{n}" for n in range(n_items)],
            "title": [f"thing {n}" for n in range(n_items)],
            "description": [""] * n_items,
            "brand": [None, *["xyz"[n % 3] for n in range(n_items - 1)]],
        }
    )
    users = pl.Series("id", [f"user-{seed}-{u}" for u in range(n_users)])
    return make_dataset("made", Interactions(items, offsets, times), catalogue_from_frame(frame, ["brand"]), users)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A data set, one of the same shape, and one of another."""
    base = tmp_path_factory.mktemp("sets")
    for name, shape in {"own": (12, 9, 0), "alike": (12, 9, 1), "other": (20, 15, 2)}.items():
        save_dataset(made(*shape), base / name, source="table")
    return base / "own", base / "alike", base / "other"


FILES = ("meta.json", "items.npy", "offsets.npy", "times.npy", "catalogue.parquet", "users.parquet")


def flips(content: bytes) -> list[bytes]:
    """The content with one byte turned over, at places all along it."""
    places = np.linspace(0, len(content) - 1, 25).astype(int)
    return [content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :] for place in places]


def same(found: Dataset, wanted: Dataset) -> bool:
    return (
        found.fingerprint == wanted.fingerprint
        and found.catalogue.ids.equals(wanted.catalogue.ids)
        and np.array_equal(found.interactions.items, wanted.interactions.items)
        and found.user_ids.equals(wanted.user_ids)
        and found.name == wanted.name
    )


@pytest.mark.parametrize("name", FILES)
def test_no_damage_passes_quietly_and_none_is_a_traceback(tmp_path: Path, folders, name: str):
    own, alike, other = folders
    wanted = load_dataset(own)
    content = (own / name).read_bytes()
    cuts = [content[: int(len(content) * share)] for share in (0, 0.1, 0.5, 0.9, 0.99)]
    foreign = [(own / file).read_bytes() for file in FILES if file != name]
    swapped = [(folder / name).read_bytes() for folder in (alike, other)]
    said = []
    shutil.copytree(own, tmp_path / "set")
    for mutated in [*cuts, *flips(content), *foreign, *swapped, b"\0" * 100, content + content]:
        (tmp_path / "set" / name).write_bytes(mutated)
        try:
            assert same(load_dataset(tmp_path / "set"), wanted)
        except InputError as error:
            said.append(str(error))
    assert len(said) >= len(cuts) + len(foreign)
    assert not [line for line in said if "\n" in line or str(tmp_path / "set") not in line]


def rewrite(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, change(np.load(folder / name)))


def with_meta(**changes: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        (folder / "meta.json").write_text(json.dumps(meta | changes))

    return write


def with_catalogue(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], None]:
    return lambda folder: change(pl.read_parquet(folder / "catalogue.parquet")).write_parquet(
        folder / "catalogue.parquet"
    )


def test_users_of_another_set_are_met_by_the_checksum_which_older_sets_lack(tmp_path: Path, folders):
    own, alike, _ = folders
    shutil.copytree(own, tmp_path / "set")
    shutil.copy(alike / "users.parquet", tmp_path / "set")
    with pytest.raises(InputError, match=r"user ids or meta.json are not those of its checksum"):
        load_dataset(tmp_path / "set")
    meta = json.loads((own / "meta.json").read_text())
    (tmp_path / "set" / "meta.json").write_text(json.dumps({k: v for k, v in meta.items() if k != "checksum"}))
    assert load_dataset(tmp_path / "set").user_ids.equals(load_dataset(alike).user_ids)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rewrite("items.npy", lambda a: a.astype(np.float64)), r"items.npy: float64 \[\d+\], not one row of int32"),
        (rewrite("items.npy", lambda a: a[None]), r"items.npy: int32 \[1, \d+\], not one row"),
        (rewrite("items.npy", lambda a: a[:-1]), r"offsets.npy: not the offsets of \d+ events"),
        (rewrite("items.npy", lambda a: a + 1000), "not those of its fingerprint"),
        (rewrite("offsets.npy", lambda a: a[::-1].copy()), "not the offsets"),
        (rewrite("offsets.npy", lambda a: a[:0]), "not the offsets"),
        (rewrite("offsets.npy", lambda a: np.delete(a, 3)), r"12 ids in users.parquet for 11 users"),
        (rewrite("times.npy", lambda a: a[1:]), r"times.npy: \d+ times for \d+ events"),
        (rewrite("times.npy", lambda a: np.where(a > a[3], np.nan, a)), "times.npy: float64"),
        (lambda folder: (folder / "times.npy").unlink(), "not those of its fingerprint"),
        (lambda folder: (folder / "users.parquet").unlink(), "users.parquet"),
        (with_catalogue(lambda f: f.with_columns(pl.concat_list("id").alias("id"))), r"column 'id' is List"),
        (with_catalogue(lambda f: f.drop("title")), "catalogue.parquet"),
        (with_catalogue(lambda f: f.reverse()), "not those of its fingerprint"),
        (with_meta(attributes=["colour"]), "catalogue.parquet"),
        (with_meta(attributes="brand"), "'attributes' in meta.json is 'brand'"),
        (with_meta(attributes=[1]), r"'attributes' in meta.json is \[1\]"),
        (with_meta(name=None), "'name' in meta.json is None"),
        (with_meta(name="another"), "not those of its checksum"),
        (with_meta(chfcksum="0"), "meta.json has 'chfcksum', which is not known"),
        (with_meta(version="1"), "'version' in meta.json is '1'"),
        (with_meta(fingerprint="0" * 64), "not those of its fingerprint"),
    ],
)
def test_files_that_do_not_go_together(tmp_path: Path, folders, damage: Callable[[Path], None], message: str):
    shutil.copytree(folders[0], tmp_path / "set")
    damage(tmp_path / "set")
    with pytest.raises(InputError, match=rf"set.*{message}.*redraft data import") as caught:
        load_dataset(tmp_path / "set")
    assert "\n" not in str(caught.value)
