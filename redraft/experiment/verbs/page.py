"""The sections of an experiment's page."""

from collections.abc import Mapping, Sequence

import numpy as np

from redraft.bench.columns import Column
from redraft.bench.report.charts import Axis, Series, Style, line_chart
from redraft.bench.report.page import Block, Cell, Figure, Legend, Note, Panels, Section, Table
from redraft.experiment.analysis.conclude import NAMES, Analysis, sentence_of
from redraft.experiment.verbs.watch import COLUMNS, lift_rows

__all__ = ["Row", "parts_of", "table"]

Row = Mapping[str, object]
ARMS = ("purple", "green", "sky", "orange")
LIMIT = 1.0


def parts_of(analysis: Analysis, truth: Mapping[str, Mapping[str, float]] | None = None) -> list[Section]:
    """Everything on the page. truth: the true lifts by arm and metric, where somebody knows them."""
    parts = [_said(analysis), _by_day(analysis), _watched(analysis), _sample(analysis), _segments(analysis)]
    return parts + ([] if truth is None else [_truth(analysis, truth)])


def table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    """Rows as a table of the page."""
    texts = [column.is_text(rows) for column in columns]
    head = [Cell(column.heading, "text" if text else "") for column, text in zip(columns, texts)]
    cells = [[Cell(column.cell(row), "text" if text else "") for column, text in zip(columns, texts)] for row in rows]
    return Table(head, cells)


def _said(analysis: Analysis) -> Section:
    experiment, rows = analysis.experiment, lift_rows(analysis)
    known = [column for column in COLUMNS if any(column.cell(row) != "-" for row in rows)]
    note = (
        f"A click or purchase belongs to the newest list of the {experiment.window_hours:g} hours before it that had "
        "the item. CTR is clicks per item shown, GMV the value of purchases that belong to a list, per list, revenue "
        f"that of all purchases, per user, with regard to the {experiment.before_days} days before. The last day "
        "decides, after Holm; the guard holds on all days at once, and can only stop for harm."
    )
    return Section("What may be said", sentence_of(analysis), [table(rows, known), Note(note)])


def _by_day(analysis: Analysis) -> Section:
    figures: list[Figure] = []
    arms = list(dict.fromkeys(lift.arm for lift in analysis.lifts))
    lines: dict[str, Series] = {}
    for metric in analysis.experiment.metrics:
        for number, arm in enumerate(arms):
            series = _lines(analysis, arm, metric, ARMS[number % len(ARMS)])
            lines |= {each.name: each for each in series}
            if series:
                title = f"{NAMES[metric]}: lift of {arm}"
                axis = Axis("lift", form="{x:+.0%}")
                days = Axis("day", ends=(1, max(2, analysis.experiment.days)))
                figures.append(Figure(title, line_chart(f"{title} by day", series, days, axis, size=(360, 260))))
    sentence = (
        "Lifts with everything up to each day; intervals narrow as users come. An interval that leaves zero on one day "
        "is no result: one that is looked at every day leaves it in a fifth of experiments without any difference."
    )
    return Section(
        "Day by day", sentence, [Legend(list(lines.values()), always=True), Panels(figures)] if figures else []
    )


def _lines(analysis: Analysis, arm: str, metric: str, hue: str) -> list[Series]:
    """Lift, interval and guard by day, as far as they can be drawn."""
    points: dict[str, list[tuple[float, float]]] = {
        "lift": [],
        "low": [],
        "high": [],
        "guard_low": [],
        "guard_high": [],
    }
    for day, (lifts, guards) in enumerate(zip(analysis.by_day, analysis.guards), 1):
        for lift, guard in zip(lifts, guards):
            if (lift.arm, lift.metric) == (arm, metric):
                values = (lift.lift, lift.low, lift.high, guard.low, guard.high)
                for name, value in zip(points, values):
                    if np.isfinite(value) and abs(value) <= LIMIT:
                        points[name].append((day, value))
    looks = {
        "lift": ("lift", Style(hue, 0)),
        "low": ("95 % interval of the day", Style(hue, 1)),
        "high": ("95 % interval of the day", Style(hue, 1)),
        "guard_low": ("guard, all days at once", Style("grey", 2)),
        "guard_high": ("guard, all days at once", Style("grey", 2)),
    }
    drawn = [Series(looks[name][0], looks[name][1], line) for name, line in points.items() if line]
    zero = Series(
        "no difference", Style("ink", 4), [(1, 0.0), (max(2, analysis.experiment.days), 0.0)], sizes=(0.1, 0.1)
    )
    return [*drawn, zero] if drawn else []


def _watched(analysis: Analysis) -> Section:
    broken = [each for each in analysis.guardrails if each.broken]
    sentence = "Every guardrail holds."
    if broken:
        named = "; ".join(f"{each.name} of {each.arm} is {each.value:.4g}, above {each.most:g}" for each in broken)
        sentence = f"Broken: {named}."
    rows: list[Row] = [
        {
            "arm": each.arm,
            "what": each.name.replace("_", " "),
            "value": each.value,
            "most": each.most,
            "state": "not watched" if each.most is None else "broken" if each.broken else "holds",
        }
        for each in analysis.guardrails
    ]
    columns = [
        Column("arm", "arm"),
        Column("guardrail", "what"),
        Column("value", "value", ".4g"),
        Column("at most", "most", "g"),
        Column("", "state"),
    ]
    note = (
        "p99 ms: of the time to a list. errors: requests without a list, or answered by another model. "
        "Others: shares of lists."
    )
    return Section("Guardrails", sentence, [table(rows, columns), Note(note)])


def _sample(analysis: Analysis) -> Section:
    if analysis.problems:
        sentence = f"Something is wrong: {analysis.problems[0]}."
    else:
        sentence = "Users are spread as the shares say, and none is lost as far as can be seen."
    rows: list[Row] = [
        {
            "arm": each.arm,
            "users": each.users,
            "expected": each.expected,
            "users_p": each.users_p,
            "lists_p": each.lists_p,
        }
        for each in analysis.ratios
    ]
    columns = [
        Column("arm", "arm"),
        Column("users", "users", ",d"),
        Column("expected by its share", "expected", ",.0f"),
        Column("p of that", "users_p", ".3g"),
        Column("p of as many lists per user", "lists_p", ".3g"),
    ]
    notes: list[Block] = [Note(each) for each in [*analysis.problems[1:], *analysis.remarks]]
    return Section("Sample ratio", sentence, [*([table(rows, columns)] if rows else []), *notes])


def _segments(analysis: Analysis) -> Section:
    rows: list[Row] = [
        {
            "segment": segment.name,
            "users": segment.users,
            "metric": NAMES[lift.metric],
            "arm": lift.arm,
            "lift": lift.lift,
            "low": lift.low,
            "high": lift.high,
        }
        for segment in analysis.segments
        for lift in segment.lifts
        if np.isfinite(lift.lift)
    ]
    columns = [
        Column("users", "segment"),
        Column("how many", "users", ",d"),
        Column("metric", "metric"),
        Column("arm", "arm"),
        Column("lift", "lift", "+.2%"),
        Column("95 % interval", "low", "{low:+.2%} to {high:+.2%}"),
    ]
    sentence = "To look at, not to decide by: of so many intervals some leave zero by chance."
    return Section("Segments", sentence, [table(rows, columns)] if rows else [])


def _truth(analysis: Analysis, truth: Mapping[str, Mapping[str, float]]) -> Section:
    rows: list[Row] = [
        {
            "metric": NAMES[lift.metric],
            "arm": lift.arm,
            "true": truth[lift.arm][lift.metric],
            "lift": lift.lift,
            "low": lift.low,
            "high": lift.high,
            "covered": "yes" if lift.low <= truth[lift.arm][lift.metric] <= lift.high else "no",
        }
        for lift in analysis.lifts
        if lift.arm in truth
    ]
    columns = [
        Column("metric", "metric"),
        Column("arm", "arm"),
        Column("true lift", "true", "+.2%"),
        Column("estimated", "lift", "+.2%"),
        Column("95 % interval", "low", "{low:+.2%} to {high:+.2%}"),
        Column("holds the truth", "covered"),
    ]
    sentence = "The customers are simulated, so what an arm does to all of them is known."
    return Section("The truth", sentence, [table(rows, columns)])
