import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import random_interactions, tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.bench.columns import Column
from redraft.bench.report import budgets
from redraft.bench.report import make as report
from redraft.bench.report.make import ReportConfig
from redraft.bench.report.parts import frontier, quarters
from redraft.bench.report.stories import choose_users
from redraft.bench.results import result_columns, write_result
from redraft.bench.tables import make as tables
from redraft.bench.tables import runs
from redraft.checkpoint import build_grc
from redraft.data.split import leave_one_out, sample_users
from redraft.data.store import load_dataset, make_dataset, save_dataset
from redraft.eval.evaluate import evaluate
from redraft.files import read_json
from redraft.recommender import SelfCorrectingRecommender, load
from redraft.records import InputError

N, USERS, SAMPLE = 30, 60, 25
HOSTILE = "<script>alert(1)</script>"
HEADINGS = {
    "table1": "How well each method finds the next item",
    "table2": "What the models know of their own drafts",
    "table3": "What each part of the method is worth",
    "figure3": "How much the coefficients matter",
    "curves": "How they learn",
    "costs": "What a better list costs",
    "buckets": "For whom, and for which items",
    "codes": "How the codes are used",
    "stories": "How single lists came about",
}
ALWAYS = {HEADINGS["costs"], HEADINGS["buckets"]}


class Page(HTMLParser):
    """Text by element, and whether every element is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.names: set[str] = set()
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag != "meta":
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            for tag in set(self.open):
                self.texts[tag][-1] += data


@pytest.fixture(scope="module", autouse=True)
def few_calls() -> Iterator[None]:
    """Nobody reads these latencies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "LATENCY_CALLS", 3)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set, and what `bench tables` leaves: two counted baselines and two self-correcting models."""
    folder = tmp_path_factory.mktemp("report")
    ids, catalogue = tiny_ids(N, 3, 5), tiny_catalogue(N, 2)
    catalogue = replace(catalogue, titles=pl.Series("title", [f"{HOSTILE} {i}" for i in range(N)]))
    users = pl.Series("id", [f"user-{u}" for u in range(USERS)])
    interactions = random_interactions([3 + u % 9 for u in range(USERS)], N)
    data, root = folder / "data", folder / "root"
    save_dataset(make_dataset("tiny", interactions, catalogue, users), data, source="test")
    about = {"config": {"seed": 0}, "fingerprints": {"data": load_dataset(data).fingerprint}}
    for seed, name in enumerate(("tiger", "tiger-fold-0", "tiger-fold-1", "grc-sft", "grc-rl")):
        model = with_random_weights(build_grc(tiny_config(), ids, catalogue, reflection=True), seed)
        SelfCorrectingRecommender(model, ids, catalogue).save(root / f"{name}-0")
        (root / f"{name}-0" / "config.json").write_text(json.dumps(about))
        (root / f"{name}-0" / "trained.json").write_text('{"seconds": 3.5}')
    lines = [{"epoch": 0, "seconds": 0.0, "N@10": 0.1}, {"epoch": 1, "seconds": 2.5}]
    lines += [{"epoch": e, "seconds": 2.5 * e, "N@10": 0.1 + e / 100} for e in (2, 3)]
    (root / "grc-rl-0" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    methods = ("popularity", "itemknn", "grc-sft", "grc-rl")
    tables.main(tables.TablesConfig(data, tables=("1", "2"), methods=methods, out=root, precision="float32"))
    return data, root


@pytest.fixture
def copied(made: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    shutil.copytree(made[1], tmp_path / "root")
    return made[0], tmp_path / "root"


def draw(data: Path, root: Path, **changes) -> str:
    report.main(ReportConfig(root, data, users=SAMPLE, precision="float32", **changes))
    return (root / "report.html").read_text(encoding="utf-8")


def test_the_page_is_one_file_and_shows_what_the_tables_say(copied: tuple[Path, Path]) -> None:
    data, root = copied
    text = draw(data, root)
    page = Page(text)
    assert not page.open
    assert not page.names & {"script", "link", "img", "iframe", "object"}
    assert all(link.startswith("#") for link in page.links)
    assert "http:" not in text
    assert "https:" not in text
    assert text.count("url(") == text.count("url(#")
    assert "@import" not in text
    assert set(page.texts["h2"]) == {text for name, text in HEADINGS.items() if name not in ("table3", "figure3")}
    cells = {said.strip() for said in page.texts["td"]}
    for name in ("table1", "table2"):
        result = read_json(root / f"{name}.json")
        for row in result["metrics"]:
            for column in result_columns(result):
                assert column.field == "seen" or column.cell(row) in cells
    assert HOSTILE not in text
    assert any(HOSTILE in said for said in page.texts["li"])
    assert text.count('class="story"') >= 2


def test_tables_that_are_there_are_shown_and_others_left_out(copied: tuple[Path, Path]) -> None:
    data, root = copied
    about = {"protocol": "by hand", "fingerprints": {"data": load_dataset(data).fingerprint}, "folder": root}
    whole = {"method": "GRC_RL", "name": "grc-rl", "R@10": 0.0711, "N@10": 0.04}
    less = {"method": "w/o R_task", "name": "x", "R@10": 0.0612, "N@10": 0.03, "gain": -0.0123, "p_value": 0.01}
    columns = [Column("method", "method"), Column("R@10", "R@10", ".4f"), Column("N@10 over GRC_RL", "gain", "+.4f")]
    write_result("table3", [whole, less], columns=columns, **about)
    rows = [
        {"coefficient": name, "value": value, "name": "grc-rl" if value == 2 else "x", "R@10": value / 10}
        for name in ("beta_cor", "alpha_e")
        for value in (1.0, 2.0, 3.0)
    ]
    write_result("figure3", rows, columns=[Column("value", "value")], **about)
    for name in ("grc-sft-0", "grc-rl-0", "table2.json"):
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = Page(draw(data, root))
    expected = ALWAYS | {HEADINGS[name] for name in ("table1", "table3", "figure3")}
    assert set(page.texts["h2"]) == expected
    assert "-0.0123" in page.texts["td"]
    assert any("w/o R_task (NDCG@10 -0.0123)" in said for said in page.texts["p"])
    assert sum(said.endswith("R@10 by beta_cor") for said in page.texts["figcaption"]) == 1


def test_budgets_are_those_of_evaluate_and_measured_once(
    copied: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, root = copied
    draw(data, root)
    found = read_json(root / "budgets.json")["grc-rl-0"]["budgets"]
    assert [row["budget"] for row in found] == [0, 7, 10, 25, 30]
    questions = sample_users(leave_one_out(load_dataset(data).interactions).test, SAMPLE, 0)
    model = load(root / "grc-rl-0", beams=N)
    expected = {0: model.drafts_alone(), 7: model}
    for row in found[:2]:
        lists = evaluate(expected[row["budget"]], questions, ks=(N,), filter_seen=False)
        assert row["ranks"] == lists.ranks.tolist()
    counted = read_json(root / "budgets.json")["popularity-0"]["budgets"]
    kept = pl.read_parquet(root / "popularity-0" / "ranks-kept.parquet")["rank"].fill_null(-1).to_list()
    rows = np.sort(np.random.default_rng(0).permutation(USERS)[:SAMPLE])
    assert [row["ranks"] for row in counted] == [[kept[user] for user in rows]]

    def again(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(budgets, "_measure", again)
    draw(data, root)
    path = root / "grc-rl-0" / "test-kept.json"
    changed = read_json(path)
    changed["about"]["weights"] = "other"
    path.write_text(json.dumps(changed))
    with pytest.raises(AssertionError, match="measured again"):
        draw(data, root)


def test_what_cannot_be_reported_is_refused(copied: tuple[Path, Path], tmp_path: Path) -> None:
    data, root = copied
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no measured method; run `redraft bench tables"):
        draw(data, tmp_path / "empty")
    dataset = load_dataset(data)
    other = random_interactions([4] * USERS, N, seed=9)
    save_dataset(make_dataset("other", other, dataset.catalogue, dataset.user_ids), tmp_path / "other", source="test")
    with pytest.raises(InputError, match=r"measured on other data than .*other; give --data"):
        draw(tmp_path / "other", root)
    path = root / "itemknn-0" / "test-kept.json"
    changed = read_json(path)
    changed["about"]["users"] = 20
    path.write_text(json.dumps(changed))
    with pytest.raises(InputError, match=r"measured on 20 and all users, and one page has one protocol"):
        draw(data, root)
    with pytest.raises(InputError, match="users is 0"):
        report.main(ReportConfig(root, data, users=0))
    assert not (root / "report.html").exists()


def test_tables_stay_in_the_root_and_are_copied_for_the_documents(
    copied: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root = copied
    for suffix in ("json", "md", "tex"):
        (root / f"table1.{suffix}").unlink()
    config = tables.TablesConfig(data, methods=("popularity",), out=root, result="mine", results=tmp_path / "results")
    tables.main(config)
    copy, own = read_json(tmp_path / "results" / "mine_table1.json"), read_json(root / "table1.json")
    assert copy["metrics"] == own["metrics"]
    assert f"next: redraft bench report {root}" in capsys.readouterr().out


def test_confusion_keeps_its_form_over_seeds(made: tuple[Path, Path]) -> None:
    for row in read_json(made[1] / "table2.json")["metrics"]:
        assert np.sum(row["confusion@10"]) == USERS * 10
        assert np.trace(row["confusion@10"]) / (USERS * 10) == pytest.approx(row["accuracy@10"])


RANKS = st.lists(st.tuples(st.integers(-1, 20), st.integers(-1, 20)), min_size=1, max_size=30)


@given(RANKS, st.integers(0, 5))
def test_users_are_chosen_by_what_became_of_them(pairs: list[tuple[int, int]], seed: int) -> None:
    drafts, final = (np.array(ranks) for ranks in zip(*pairs))
    chosen = choose_users(drafts, final, 8, seed)
    kinds = {(False, True): "gained", (True, True): "kept", (True, False): "lost", (False, False): "missed"}
    actual = [kinds[1 <= before <= 10, 1 <= after <= 10] for before, after in pairs]
    assert all(actual[row] == kind for kind, row in chosen)
    assert len(set(chosen)) == len(chosen)
    assert len(chosen) == min(8, len(pairs))
    for kind in kinds.values():
        assert sum(found == kind for found, _ in chosen) >= min(2, actual.count(kind))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_quarters_hold_every_user_once(values: list[int]) -> None:
    groups = quarters(np.array(values))
    assert 1 <= len(groups) <= 4
    assert (np.sum(list(groups.values()), axis=0) == 1).all()
    ends = [(min(np.array(values)[mine]), max(np.array(values)[mine])) for mine in groups.values()]
    assert all(before[1] < after[0] for before, after in pairwise(ends))


def test_quarters_by_hand() -> None:
    assert {name: int(mine.sum()) for name, mine in quarters(np.arange(1, 9)).items()} == {
        "1 to 2": 2,
        "3 to 4": 2,
        "5 to 6": 2,
        "7 to 8": 2,
    }
    assert list(quarters(np.array([3, 3, 3]))) == ["3"]


@given(st.dictionaries(st.text(max_size=2), st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_the_frontier_is_what_nothing_beats(points: dict[str, tuple[int, int]]) -> None:
    beaten = {
        name
        for name, mine in points.items()
        if any(other[0] <= mine[0] and other[1] >= mine[1] and other != mine for other in points.values())
    }
    found = frontier(points)
    assert {points[name] for name in found} == {points[name] for name in points.keys() - beaten}
