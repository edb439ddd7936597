import json
import sys
from pathlib import Path

import pytest

from redraft.bench.columns import Column, markdown_table
from redraft.bench.results import DocumentsConfig, fill_tables, main, seeds_of, write_result
from redraft.files import read_json
from redraft.records import InputError

ROWS = [{"method": "popularity", "R@10": 0.05071}, {"method": "TIGER", "R@10": 0.11, "spread": 0.002}]
COLUMNS = [Column("method", "method"), Column("R@10", "R@10", ".4f"), Column("spread", "spread", "± {spread:.3f}")]
NAMES = [Column(name, name) for name in ("m", "seen", "x")]
TABLE = """\
| method | R@10 | spread |
| :-- | --: | --: |
| popularity | 0.0507 | - |
| TIGER | 0.1100 | ± 0.002 |"""
README = "# Shop\n\n<!-- table: toy -->\n<!-- /table -->\n\nMore."


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_result("toy", ROWS, columns=COLUMNS, protocol="toy protocol", folder=tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text(README, encoding="utf-8")
    return path


def test_a_result_says_how_it_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/redraft", "bench", "toy", "--data", "/somewhere/else/Toys"])
    fingerprints = {"data": "d", "semantic_ids": "s"}
    path = write_result(
        "toy", ROWS, columns=COLUMNS, protocol="one pass", fingerprints=fingerprints, seeds=[0, 1], folder=tmp_path
    )
    written = read_json(path)
    assert path == tmp_path / "toy.json"
    assert written["metrics"] == ROWS
    assert written["columns"] == {"method": "{method}", "R@10": "{R@10:.4f}", "spread": "± {spread:.3f}"}
    assert written["command"] == "redraft bench toy --data Toys"
    assert (written["protocol"], written["seeds"], written["fingerprints"]) == ("one pass", [0, 1], fingerprints)
    assert {"date", "machine", "versions", "revision"} < written.keys()
    assert "somewhere" not in path.read_text(encoding="utf-8")


def test_a_result_whose_table_cannot_be_made_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_result("toy", ROWS, columns=[Column("method", "method", ".2f")], protocol="", folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_table_aligns_numbers_and_marks_what_is_missing() -> None:
    assert markdown_table(ROWS, COLUMNS) == TABLE


def test_fill_replaces_what_stands_between_the_markers_and_nothing_else(results: Path, readme: Path) -> None:
    filled = README.replace("<!-- table: toy -->\n", f"<!-- table: toy -->\n{TABLE}\n")
    assert fill_tables(readme, results)
    assert readme.read_text(encoding="utf-8") == filled
    assert not fill_tables(readme, results)
    assert not fill_tables(readme, results, check=True)
    readme.write_text(filled.replace("0.0507", "0.9"), encoding="utf-8")
    assert fill_tables(readme, results)
    assert readme.read_text(encoding="utf-8") == filled


def test_check_names_the_table_that_differs_and_leaves_the_document(results: Path, readme: Path) -> None:
    fill_tables(readme, results)
    edited = readme.read_text(encoding="utf-8").replace("0.0507", "0.9")
    readme.write_text(edited, encoding="utf-8")
    with pytest.raises(InputError, match=r"README\.md, line 3: .*toy\.json makes; run `redraft bench documents`"):
        fill_tables(readme, results, check=True)
    assert readme.read_text(encoding="utf-8") == edited


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n<!-- table: toy -->\n| a |", r"line 2: the table is not closed; write <!-- /table -->"),
        ("a\n<!-- table: toy seen = b -->\n<!-- /table -->", r"line 2: write <!-- table: NAME --> or"),
        ("<!-- table: other -->\n<!-- /table -->", r"line 1: the table needs .*other\.json, which is not there"),
    ],
)
def test_bad_markers_are_named_and_the_document_stays(results: Path, readme: Path, text: str, message: str) -> None:
    readme.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        fill_tables(readme, results)
    assert readme.read_text(encoding="utf-8") == text


def test_a_marker_may_choose_several_values_and_columns(results: Path, readme: Path) -> None:
    rows = [{"m": m, "seen": "kept", "x": x} for x, m in enumerate(["a and more", "b", "c"])]
    write_result("three", rows, columns=NAMES, protocol="", folder=results)
    marker = '<!-- table: three m="c,a and more" columns=x,m -->'
    readme.write_text(f"{marker}\n<!-- /table -->", encoding="utf-8")
    assert fill_tables(readme, results)
    table = "| x | m |\n| --: | :-- |\n| 0 | a and more |\n| 2 | c |"
    assert readme.read_text(encoding="utf-8") == f"{marker}\n{table}\n<!-- /table -->"
    readme.write_text("<!-- table: three columns=y -->\n<!-- /table -->", encoding="utf-8")
    with pytest.raises(InputError, match="line 1: no column 'y'; there are m, seen, x"):
        fill_tables(readme, results)


def test_a_marker_may_choose_rows(results: Path, readme: Path) -> None:
    rows = [{"m": "a", "seen": "kept", "x": 1}, {"m": "a", "seen": "not", "x": 2}]
    write_result("two", rows, columns=NAMES, protocol="", folder=results)
    readme.write_text("<!-- table: two seen=not m=a -->\n<!-- /table -->", encoding="utf-8")
    assert fill_tables(readme, results)
    table = "| x |\n| --: |\n| 2 |"
    assert readme.read_text(encoding="utf-8") == f"<!-- table: two seen=not m=a -->\n{table}\n<!-- /table -->"
    readme.write_text("<!-- table: two seen=b -->\n<!-- /table -->", encoding="utf-8")
    with pytest.raises(InputError, match="line 1: no row has seen=b; the rows' fields are m, seen, x"):
        fill_tables(readme, results)


def test_a_missing_document_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"README\.md: no such file"):
        fill_tables(tmp_path / "README.md")


def test_main_fills_files_and_folders_of_documents(
    results: Path, readme: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = readme.parent / "docs" / "guides" / "speed.md"
    guide.parent.mkdir(parents=True)
    guide.write_text(README, encoding="utf-8")
    main(DocumentsConfig((readme, readme.parent / "docs"), results))
    assert capsys.readouterr().out.splitlines() == [f"wrote {readme}", f"wrote {guide}"]
    main(DocumentsConfig((readme, readme.parent / "docs"), results, check=True))
    (results / "toy.json").write_text(json.dumps(read_json(results / "toy.json") | {"metrics": ROWS[1:]}))
    with pytest.raises(InputError, match="README"):
        main(DocumentsConfig((readme, readme.parent / "docs"), results, check=True))


def test_the_tables_of_this_repository_come_from_its_results() -> None:
    root = Path(__file__).resolve().parents[2]
    documents = [path for path in (root / "README.md", *(root / "docs").glob("**/*.md")) if path.exists()]
    if not documents:
        pytest.skip("no documents here")
    for document in documents:
        fill_tables(document, root / "results", check=True)


def test_seeds_come_from_the_runs(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"config": {"seed": seed}, "fingerprints": {}}))
    (tmp_path / "saved from Python").mkdir()
    assert seeds_of([tmp_path / "a", tmp_path / "saved from Python", tmp_path / "b"]) == [3, 1]
