"""The page of the report: what stands on it as records, which templates/page.html makes into one file of HTML."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from redraft.bench.columns import Column
from redraft.bench.report.charts import COLOURS, Series, Style

__all__ = [
    "Cell",
    "Figure",
    "Heading",
    "Legend",
    "Note",
    "Panels",
    "Section",
    "Stories",
    "Table",
    "render",
    "result_table",
    "style_of",
    "wide_and_narrow",
]

STYLES = {
    "popularity": Style("grey", 0),
    "markov": Style("grey", 1),
    "itemknn": Style("grey", 2),
    "dssm": Style("olive", 0),
    "cobra": Style("olive", 3),
    "sasrec": Style("sky", 0),
    "sasrec-sampled": Style("sky", 1),
    "sasrec-bce": Style("sky", 2),
    "hstu": Style("blue", 0),
    "rearec-erl": Style("green", 0),
    "rearec-prl": Style("green", 1),
    "tiger": Style("orange", 0),
    "tiger-more": Style("orange", 1),
    "tiger-verified": Style("orange", 2),
    "gc-sft": Style("ink", 4),
    "grc-sft": Style("purple", 0),
    "grc-sft-more": Style("purple", 1),
    "grc-verified": Style("purple", 2),
    "grc-rl": Style("red", 3),
}


@dataclass(frozen=True)
class Heading:
    """Above a group of what follows."""

    words: str


@dataclass(frozen=True)
class Note:
    """How something was measured, or is to be read."""

    words: str


@dataclass(frozen=True)
class Cell:
    """Of a table. kind: "text", "best" or "". style: of the marker before the words, if any."""

    words: str
    kind: str = ""
    style: Style | None = None


@dataclass(frozen=True)
class Table:
    """Headings and rows of cells."""

    head: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Figure:
    """A chart under its title. narrow: the same for phones, if that is another drawing."""

    title: str
    chart: Markup
    note: str = ""
    narrow: Markup | None = None


@dataclass(frozen=True)
class Panels:
    """Small figures, as many beside each other as fit; at most two with `pairs`."""

    figures: Sequence[Figure]
    pairs: bool = False


@dataclass(frozen=True)
class Legend:
    """Markers and names; unless always, only where there is no room for names in the chart."""

    series: Sequence[Series]
    always: bool = False


@dataclass(frozen=True)
class Stories:
    """Single users; see redraft.bench.report.stories.Story."""

    stories: Sequence[Any]


Block = Heading | Note | Table | Figure | Panels | Legend | Stories


@dataclass(frozen=True)
class Section:
    """A part of the page: what it is about, what one sees, and what shows it."""

    heading: str
    sentence: str
    blocks: Sequence[Block]


def style_of(name: str) -> Style:
    """A method's colour and marker, the same in every chart; all that is not in the tables' own list looks alike."""
    return STYLES.get(name, Style("ink", 1))


def render(title: str, facts: Sequence[str], sections: Sequence[Section], footer: str) -> str:
    """The whole document; nothing on it is fetched."""
    loader = PackageLoader("redraft.bench.report")
    environment = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    template = environment.get_template("page.html")
    return template.render(title=title, facts=facts, sections=sections, footer=footer, colours=COLOURS)


def result_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> Table:
    """Rows as the documents' tables show them, the best of each metric marked, methods with their markers."""
    best = {
        column.field: max((row[column.field] for row in rows if column.field in row), default=None)
        for column in columns
        if column.field.startswith(("R@", "N@"))
    }
    texts = [column.is_text(rows) for column in columns]
    head = [
        Cell(column.heading, "text" if text else "wide" if len(column.heading) > 14 else "")
        for column, text in zip(columns, texts)
    ]

    def cell(row: Mapping[str, Any], number: int) -> Cell:
        column = columns[number]
        top = column.field in best and row.get(column.field) == best[column.field]
        style = STYLES.get(row.get("name", "")) if number == 0 else None
        return Cell(column.cell(row), "text" if texts[number] else "best" if top else "", style)

    return Table(head, [[cell(row, number) for number in range(len(columns))] for row in rows])


def wide_and_narrow(
    title: str, draw: Callable[[tuple[float, float], str], Markup], series: Sequence[Series], names: str, note: str
) -> list[Block]:
    """A chart with names inside for wide screens, and for phones with a legend."""
    return [Legend(series), Figure(title, draw((1140, 440), names), note, draw((350, 320), ""))]
