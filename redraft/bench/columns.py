"""The columns of a table as records, and rows as tables: in Markdown, in LaTeX and in the terminal."""

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import rich.table
from rich.table import Table

__all__ = ["Column", "latex_table", "markdown_table", "metric_columns", "terminal_table"]

Row = Mapping[str, Any]
SINGLE = re.compile(r"\{([^{}:]+)(?::([^{}]*))?\}")


@dataclass(frozen=True)
class Column:
    """What a column of a table shows.

    heading: above it. field: of the rows, the first if it shows several. format: of its value, such as ".4f"; or the
    whole cell with several fields in it, such as "{low:.2f} to {high:.2f}".
    """

    heading: str
    field: str
    format: str = ""

    @classmethod
    def read(cls, heading: str, template: str) -> Self:
        """From what a result file says of it, the template of its cells."""
        single = SINGLE.fullmatch(template)
        return cls(heading, single[1], single[2] or "") if single else cls(heading, _fields(template)[0], template)

    @property
    def template(self) -> str:
        """Of its cells, over a row."""
        return self.format if "{" in self.format else f"{{{self.field}{':' * bool(self.format)}{self.format}}}"

    @property
    def fields(self) -> list[str]:
        """All fields of a row that it shows."""
        return _fields(self.template)

    def cell(self, row: Row) -> str:
        """What it shows of a row; "-" where the row lacks a value."""
        known = all(row.get(name) is not None for name in self.fields)
        return self.template.format_map(row) if known else "-"

    def is_text(self, rows: Sequence[Row]) -> bool:
        """Whether it stands to the left, as text does."""
        return all(isinstance(row.get(name), str) for row in rows for name in self.fields)


def metric_columns(names: Sequence[str], *, spread: bool = False) -> list[Column]:
    """A column for each metric, such as R@10; with its standard deviation from the field "std R@10" if `spread`."""
    return [Column(m, m, f"{{{m}:.4f}} ± {{std {m}:.4f}}" if spread else ".4f") for m in names]


def markdown_table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """The rows as a Markdown table, text to the left and numbers to the right."""
    rule = [":--" if column.is_text(rows) else "--:" for column in columns]
    lines = [[column.heading for column in columns], rule, *([c.cell(row) for c in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def latex_table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """The rows as a LaTeX tabular with booktabs rules."""
    lines = [[column.heading for column in columns], *([column.cell(row) for column in columns] for row in rows)]
    heading, *body = (" & ".join(map(_escaped, line)) + r" \\" for line in lines)
    parts = [rf"\begin{{tabular}}{{{'l' * len(columns)}}}", r"\toprule", heading, r"\midrule", *body, r"\bottomrule"]
    return "\n".join([*parts, r"\end{tabular}"])


def terminal_table(rows: Sequence[Row], columns: Sequence[Column], title: str) -> Table:
    """The rows for the terminal."""
    table = Table(*(rich.table.Column(column.heading, overflow="fold") for column in columns), title=title)
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def _fields(template: str) -> list[str]:
    return [field for _, field, _, _ in string.Formatter().parse(template) if field]


def _escaped(text: str) -> str:
    text = "".join("\\" + character if character in "&%$#_{}" else character for character in text)
    return text.replace("±", r"$\pm$")
