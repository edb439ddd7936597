"""Input that cannot be used, and a full disk: one line, exit code 2, nothing left behind."""

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from full_disk import room_for
from safetensors.numpy import save_file
from tiny import random_interactions, tiny_catalogue, tiny_ids, tiny_interactions
from verbs import TINY, run

from redraft.data.store import make_dataset, save_dataset
from redraft.recommender import load
from redraft.records import Catalogue
from redraft.tokenizer.semantic_ids import save_semantic_ids


def other_ids(folder: Path) -> Path:
    save_semantic_ids(tiny_ids(29, 3, 5), folder / "ids.safetensors", source={})
    return folder / "ids.safetensors"


def other_attributes(folder: Path) -> Path:
    users = pl.Series("id", [f"user-{u}" for u in range(40)])
    dataset = make_dataset("tiny", tiny_interactions(40), tiny_catalogue(30, 2), users)
    save_dataset(dataset, folder / "data", source="test")
    return folder / "data"


def other_items(folder: Path) -> Path:
    catalogue = replace(tiny_catalogue(30), ids=pl.Series("id", [f"thing-{i}" for i in range(30)]))
    users = pl.Series("id", [f"user-{u}" for u in range(40)])
    save_dataset(make_dataset("other", tiny_interactions(40), catalogue, users), folder / "data", source="test")
    return folder / "data"


def short(folder: Path) -> Path:
    """The shop's items and ids, and users whose training events hold no history."""
    users = pl.Series("id", ["user-0", "user-1"])
    interactions = random_interactions([3, 3], 30)
    save_dataset(make_dataset("short", interactions, tiny_catalogue(30), users), folder / "data", source="test")
    save_semantic_ids(tiny_ids(30, 3, 5), folder / "data" / "semantic_ids.safetensors", source={})
    return folder / "data"


def verified(shop: Path, folder: Path) -> Path:
    found = load(shop / "run")
    found.model.add_verifier()
    found.save(folder / "verified")
    return folder / "verified"


def other_backbone(shop: Path, folder: Path) -> Path:
    found = load(shop / "run")
    torch.nn.init.zeros_(next(found.model.parameters()))
    found.save(folder / "other")
    return folder / "other"


def resumed(shop: Path, *changes: object) -> list[object]:
    """The words that trained the shop's grc, to go on with it."""
    words = ["train", "grc", shop / "data", shop / "grc", "--backbone", shop / "run", "--epochs", 1, "--resume"]
    return [*words, "--draft-beams", 3, "--evaluate-users", 10, "--evaluate-beams", 10, *changes]


def without_text(folder: Path) -> Path:
    blank = pl.Series([""] * 30)
    catalogue = Catalogue(tiny_catalogue(30).ids, blank, blank, np.empty((30, 0), dtype=np.int32))
    users = pl.Series("id", [f"user-{u}" for u in range(40)])
    save_dataset(make_dataset("blank", tiny_interactions(40), catalogue, users), folder / "data", source="test")
    return folder / "data"


def not_numbers(folder: Path) -> Path:
    np.save(folder / "vectors.npy", np.concatenate([np.ones((7, 4)), np.full((23, 4), np.nan)]))
    return folder / "vectors.npy"


def outside_the_codebook(folder: Path) -> Path:
    about = {"format_version": 1, "codebook_size": 5, "fingerprint": "0", "source": {}}
    codes = np.array([[0, 0, 0], [0, 5, 0]], dtype=np.int32)
    save_file({"codes": codes}, folder / "ids.safetensors", {"redraft": json.dumps(about)})
    return folder / "ids.safetensors"


def imported(kind: str, name: str, content: str | bytes, *options: object):
    """`data import` of one file of this content."""

    def words(shop: Path, folder: Path) -> list[object]:
        (folder / "raw").mkdir()
        (folder / "raw" / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return ["data", "import", kind, folder / "raw" / ("" if kind == "lcrec" else name), folder / "data", *options]

    return words


CSV = "user_id,item_id,timestamp,brand\nu,a,1,x\nu,b,2,x\nu,c,3,x\n"
REVIEWS = "".join(f'{{"reviewerID": "U", "asin": "{n**9}", "unixReviewTime": {n}}}\n' for n in range(500))
FIXES = {  # what the issue of bad input is; what the line must name: file, place, fix
    "empty file": (imported("table", "e.csv", ""), "e.csv: the file is empty; export it again"),
    "truncated gzip": (
        imported("amazon", "S.json.gz", gzip.compress(REVIEWS.encode())[:-99]),
        r"S.json.gz, after line \d+: broken gzip .*; download the file again",
    ),
    "JSON of the wrong shape": (
        imported("lcrec", "S.inter.json", '{"0": [0, 1, 2], "7": {"0": 1}}'),
        "S.inter.json, user '7': not a list of item numbers from 0; export it in that shape",
    ),
    "unknown item in a history": (
        lambda s, t: ["recommend", s / "run", "--history", "item-3", "x"],
        "history: item 'x' at position 2 is not in the catalogue; leave it out",
    ),
    "duplicate event": (
        imported("table", "e.csv", CSV + "u,b,2,y\n"),
        "e.csv, line 5: user 'u' and item 'b' appear together twice; remove one line, or .*--duplicates drop",
    ),
    "user with fewer than 3 events": (
        imported("table", "e.csv", CSV + "v,b,2,y\n"),
        "e.csv: user 'v' has 1 events and 3 are needed .*; filter with `--core 3`",
    ),
    "item without text": (
        lambda s, t: ["tokenize", without_text(t), "--codebook-size", 9],
        r"catalogue.parquet, item 'item-0' \(row 0\): no title, .*; add text, or pass --allow-empty",
    ),
    "attribute missing": (
        imported("table", "e.csv", CSV, "--items", "e.csv", "--attributes", "brand", "colour"),
        "e.csv: no column 'colour'; name one with --attributes: user_id, item_id, timestamp, brand",
    ),
    "non-UTF-8 bytes": (
        imported("table", "e.csv", CSV.encode() + b"u,\xff,4,x\n"),
        "e.csv, line 5: byte 0xff is not UTF-8; re-encode the file",
    ),
    "a code outside the codebook": (
        lambda s, t: ["train", "tiny", s / "data", t / "r", "--ids", outside_the_codebook(t)],
        "ids.safetensors: .* item 1 has code 5 at level 2, outside the codebook of 5; raise codebook_size or fix",
    ),
    "K larger than the catalogue": (
        lambda s, t: ["recommend", s / "run", "--history", "item-3", "--k", 31],
        "--k 31: there are only 30 items; it must be <= 30",
    ),
    "NaN in a vector file": (
        lambda s, t: ["tokenize", s / "data", "--vectors", not_numbers(t), "--codebook-size", 9, "--replace"],
        "vectors.npy, row 7: NaN or infinite, as in 22 other rows; replace those vectors",
    ),
}
BAD = {
    "no data set": (lambda s, t: ["data", "show", t / "none"], "not a data set"),
    "no run": (lambda s, t: ["recommend", t, "--history", "item-3"], "not a trained run"),
    "unknown user": (lambda s, t: ["explain", s / "run", "--data", s / "data", "--user", "x"], "no user 'x'"),
    "no history": (lambda s, t: ["explain", s / "run"], "give either --history"),
    "everybody without a file": (lambda s, t: ["recommend", s / "run", "--data", s / "data"], "--out"),
    "ids of other items": (lambda s, t: ["train", "tiny", s / "data", t / "r", "--ids", other_ids(t)], "29 items"),
    "published without a file": (lambda s, t: ["tokenize", s / "data", "--method", "published"], "--index"),
    "trained already": (lambda s, t: ["train", "tiny", s / "data", s / "run"], "--resume"),
    "more budget than drafts": (
        lambda s, t: ["recommend", s / "grc", "--history", "item-3", "--beams", 10, "--correction.budget", 11],
        "budget = 11, but there are 0 to 10 drafts",
    ),
    "more beams than items": (
        lambda s, t: ["recommend", s / "grc", "--history", "item-3", "--beams", 31],
        "beams = 31 exceeds the catalogue",
    ),
    "a device that is not here, to recommend": (
        lambda s, t: ["recommend", s / "run", "--history", "item-3", "--device", "nonsense"],
        "device 'nonsense': not available on this machine; give cpu",
    ),
    "a device that is not here, to explain": (
        lambda s, t: ["explain", s / "run", "--history", "item-3", "--device", "nonsense"],
        "device 'nonsense': not available on this machine; give cpu",
    ),
    "a device that is not here, to export": (
        lambda s, t: ["export", s / "run", t / "out", "--no-compile", "--device", "nonsense"],
        "device 'nonsense': not available on this machine; give cpu",
    ),
    "negative alpha": (
        lambda s, t: ["evaluate", s / "data", "--runs", s / "grc", "--beams", 10, "--correction.alpha", -1],
        "alpha = -1.0",
    ),
    "no backbone": (
        lambda s, t: ["train", "grc", s / "data", t / "r", "--backbone", t / "none"],
        "not a trained run",
    ),
    "a backbone with other ids": (
        lambda s, t: [
            *("train", "grc", s / "data", t / "r", "--backbone", s / "run"),
            *("--ids", other_ids(t)),
        ],
        "trained with other semantic IDs",
    ),
    "a backbone with a verifier": (
        lambda s, t: ["train", "grc", s / "data", t / "r", "--backbone", verified(s, t)],
        "has a verifier, which would no longer fit; give the run that it was added to",
    ),
    "too little for a backbone": (lambda s, t: ["train", "tiny", short(t), t / "r"], "no user has two training events"),
    "too little to correct": (
        lambda s, t: ["train", "grc", short(t), t / "r", "--backbone", s / "run"],
        "no user has two training events",
    ),
    "too little to roll out on": (
        lambda s, t: [
            *("train", "grpo", short(t), t / "r", "--sft", s / "grc"),
            *("--evaluate-beams", 10, "--evaluate-budget", 5),
        ],
        "no user has two training events",
    ),
    "too little to verify": (
        lambda s, t: ["train", "verifier", short(t), t / "r", "--run", s / "run"],
        "no user has two training events",
    ),
    "a gradient of norm zero": (
        lambda s, t: ["train", "tiny", s / "data", t / "r", "--clip", 0],
        "clip is 0.0; it must be > 0",
    ),
    "nothing but dropout": (
        lambda s, t: ["train", "tiny", s / "data", t / "r", "--model.dropout", 0.999],
        "dropout is 0.999; it must be >= 0 and <= 0.99",
    ),
    "another learning rate when going on": (
        lambda s, t: resumed(s, "--learning-rate", 0.1),
        "grc: cannot resume with learning_rate = 0.1, its run has 0.0005; give that again, or start again in another",
    ),
    "another backbone when going on": (
        lambda s, t: resumed(s, "--backbone", other_backbone(s, t)),
        "grc: cannot resume, its run has other backbone; start again in another folder",
    ),
    "a backbone with other attributes": (
        lambda s, t: ["train", "grc", other_attributes(t), t / "r", "--backbone", s / "run"],
        "knows the attributes ('attribute0',)",
    ),
    "a drafter that saw its users": (
        lambda s, t: ["train", "grc", s / "data", t / "r", "--backbone", s / "run", "--drafters", s / "grc"],
        "--fold 0 1",
    ),
    "drafts of another checkpoint": (
        lambda s, t: [
            *("train", "grc", s / "data", t / "r", "--backbone", s / "run"),
            *("--drafts", s / "grc" / "drafts", "--draft-beams", 4),
        ],
        "made with other beams",
    ),
    "a history and a data set": (
        lambda s, t: ["recommend", s / "run", "--history", "item-3", "--data", s / "data"],
        "give either --history",
    ),
    "lists for other items": (
        lambda s, t: ["recommend", s / "run", "--data", other_items(t), "--out", t / "o.parquet"],
        "trained on other items than those of",
    ),
    "a history of other items": (
        lambda s, t: ["explain", s / "run", "--data", other_items(t), "--user", "user-7"],
        "trained on other items than those of",
    ),
    "a run on other items": (
        lambda s, t: ["evaluate", other_items(t), "--runs", s / "run"],
        "trained on other items than those of",
    ),
    "two runs of one name": (lambda s, t: ["evaluate", s / "data", "--runs", s / "run", s / "run"], "rename the"),
}


@pytest.mark.parametrize("case", FIXES)
def test_what_people_get_wrong_is_named_with_its_place_and_fix(
    case: str, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, said = FIXES[case]
    arguments = words(shop, tmp_path)
    (tmp_path / "raw").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "raw")
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert re.fullmatch(f"error: .*{said}.*\n", err)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_input_is_one_line_and_leaves_nothing(
    case: str, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, said = BAD[case]
    arguments = words(shop, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert sorted(tmp_path.rglob("*")) == before


FULL = {
    "data set": ("shop", 500, lambda s, t: ["data", "shop", t / "shop", "--users", 30, "--items", 60]),
    "catalogue": ("shop", 3000, lambda s, t: ["data", "shop", t / "shop", "--users", 5, "--items", 100]),
    "semantic IDs": (
        "i.safetensors",
        100,
        lambda s, t: [
            *("tokenize", s / "data", "--out", t / "i.safetensors"),
            *("--method", "kmeans", "--levels", 3, "--codebook-size", 9),
        ],
    ),
    "lists": (
        ".l.parquet.shards/manifest.json",
        100,
        lambda s, t: ["recommend", s / "run", "--data", s / "data", "--out", t / "l.parquet"],
    ),
}


@pytest.mark.parametrize("case", FULL)
def test_a_full_disk_is_said_and_leaves_nothing(
    case: str, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, n_bytes, words = FULL[case]
    with room_for(n_bytes):
        code, _, err = run(capsys, *words(shop, tmp_path))
    assert code == 2
    assert err.startswith(f"error: {tmp_path / name}: cannot be written (")
    assert err.endswith("free some space there or write elsewhere\n")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_meets_a_full_disk_goes_on_when_there_is_room(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "tiny", shop / "data", tmp_path / "run", "--epochs", 2, "--evaluate-users", 9, *TINY]
    size = (shop / "run" / "model.safetensors").stat().st_size
    with room_for(2 * size):
        code, _, err = run(capsys, *words)
    assert code == 2
    assert err.startswith(f"error: {tmp_path / 'run' / 'state.safetensors'}: cannot be written (")
    assert not list(tmp_path.rglob("*partial*"))
    code, _, _ = run(capsys, *words, "--resume")
    assert code == 0
