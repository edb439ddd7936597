import json
from pathlib import Path

import pytest

from redraft.bench.columns import Column, latex_table, metric_columns, terminal_table

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.mark.parametrize("template", ["{a}", "{a:.4f}", "± {a:.3f}", "{a:+.2f} ({b:.1f} to {c})", "{a} / {b}", "{a}!"])
def test_a_column_is_read_as_it_was_written(template: str) -> None:
    column = Column.read("heading", template)
    assert (column.heading, column.field, column.template) == ("heading", "a", template)


@pytest.mark.skipif(not RESULTS.exists(), reason="no results here")
def test_every_column_of_the_results_is_read_as_it_stands() -> None:
    for path in RESULTS.glob("*.json"):
        for heading, template in json.loads(path.read_text(encoding="utf-8"))["columns"].items():
            assert Column.read(heading, template).template == template


def test_cells_show_what_is_known() -> None:
    row = {"R@10": 0.12345, "std R@10": 0.01, "n": 1234, "none": None}
    assert Column("n", "n", ",").cell(row) == "1,234"
    assert [column.cell(row) for column in metric_columns(("R@10", "N@10"))] == ["0.1235", "-"]
    assert metric_columns(("R@10",), spread=True)[0].cell(row) == "0.1235 ± 0.0100"
    assert Column("x", "none").cell(row) == "-"


def test_latex_escapes_text_and_keeps_rows_in_order() -> None:
    table = latex_table([{"m": "a_b & 5%"}, {"m": "c"}], [Column("R@10 ±", "m")]).splitlines()
    assert table[2] == r"R@10 $\pm$ \\"
    assert table[4:6] == [r"a\_b \& 5\% \\", r"c \\"]


def test_the_terminal_shows_headings_and_cells() -> None:
    table = terminal_table([{"m": "a"}, {}], [Column("method", "m")], "title")
    assert (table.title, [column.header for column in table.columns]) == ("title", ["method"])
    assert list(table.columns[0].cells) == ["a", "-"]
