"""The page of the report: its frame, tables and figures in HTML; pure functions, nothing is fetched."""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from redraft.bench.report.charts import Series, Style, swatch
from redraft.bench.report.markup import Html, element, joined
from redraft.bench.results import table_cell

__all__ = ["by_width", "figure", "legend", "page", "panels", "result_table", "section", "style_of", "wide_and_narrow"]

METRIC = re.compile(r"\{([RN]@\d+):")
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
    "gc-sft": Style("black", 4),
    "grc-sft": Style("purple", 0),
    "grc-sft-more": Style("purple", 1),
    "grc-verified": Style("purple", 2),
    "grc-rl": Style("red", 3),
}


def style_of(name: str) -> Style:
    """A method's colour and marker, the same in every chart; all that is not in the tables' own list looks alike."""
    return STYLES.get(name, Style("black", 1))


def page(title: str, facts: Sequence[str], sections: Sequence[Html], footer: str) -> str:
    """The whole document. sections: from `section`, whose headings become the contents."""
    names = [re.search(r"<h2>(.*?)</h2>", each) for each in sections]
    links = [element("a", Html(name[1]), href=f"#part-{i}") for i, name in enumerate(names, start=1) if name]
    body = [
        element(
            "header",
            element("p", "redraft report", class_="eyebrow"),
            element("h1", title),
            element("p", " · ".join(facts), class_="quiet"),
            element("nav", *links, aria_label="Contents"),
        ),
        element("main", *(element("div", each, id=f"part-{i}") for i, each in enumerate(sections, start=1))),
        element("footer", element("p", footer)),
    ]
    style = files("redraft.bench.report").joinpath("report.css").read_text(encoding="utf-8")
    head = joined(
        [
            Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            element("title", f"{title} redraft report"),
            element("style", Html(style)),
        ]
    )
    return f"<!doctype html>\n{element('html', element('head', head), element('body', *body), lang='en')}\n"


def section(heading: str, sentence: str, *body: Html) -> Html:
    """A part of the page: what it is about, what one sees, and the tables and figures that show it."""
    return element("section", element("h2", heading), element("p", sentence, class_="lede"), *body)


def result_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> Html:
    """Rows as the documents' tables show them, the best of each metric bold, methods with their markers."""
    texts = [all(isinstance(row.get(cell.strip("{}")), str) for row in rows) for cell in columns.values()]
    found = [METRIC.match(cell) for cell in columns.values()]
    best = [
        max((row[metric[1]] for row in rows if metric[1] in row), default=None) if metric else None for metric in found
    ]
    heads = [
        element("th", name, scope="col", class_="text" if text else "wide" if len(name) > 14 else None)
        for name, text in zip(columns, texts)
    ]
    body = []
    for row in rows:
        cells = []
        for i, cell in enumerate(columns.values()):
            metric = found[i]
            top = metric is not None and row.get(metric[1]) == best[i]
            mark = swatch(style_of(row["name"])) if i == 0 and row.get("name") in STYLES else ""
            kind = "text" if texts[i] else "best" if top else None
            cells.append(element("td", mark, table_cell(row, cell), class_=kind))
        body.append(element("tr", *cells))
    return element(
        "div",
        element("table", element("thead", element("tr", *heads)), element("tbody", *body)),
        class_="scroll",
        tabindex="0",
    )


def figure(title: str, chart: Html, note: str = "") -> Html:
    """A chart under its title."""
    notes = [element("span", note)] if note else []
    return element("figure", element("figcaption", title, *notes), chart)


def panels(figures: Sequence[Html], *, pairs: bool = False) -> Html:
    """Small figures, as many beside each other as fit; at most two with `pairs`."""
    return element("div", *figures, class_="panels pairs" if pairs else "panels")


def legend(series: Sequence[Series], *, always: bool = False) -> Html:
    """Markers and names; unless always, only where there is no room for names in the chart."""
    rows = [element("li", swatch(each.style), each.name) for each in series]
    return element("ul", *rows, class_="legend" if always else "legend narrow")


def wide_and_narrow(draw: Callable[[tuple[float, float], str], Html], series: Sequence[Series], names: str) -> Html:
    """A chart twice: with names inside for wide screens, and for phones with a legend."""
    return joined([legend(series), by_width(draw((1140, 440), names), draw((350, 320), ""))])


def by_width(wide: Html, narrow: Html) -> Html:
    """One of two drawings, by the width of the screen."""
    return joined([element("div", wide, class_="wide"), element("div", narrow, class_="narrow")])
