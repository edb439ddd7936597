"""The sections of the report: each says what one sees and shows it; None where nothing was measured."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup

from redraft.bench.columns import Column
from redraft.bench.report.budgets import Budget
from redraft.bench.report.charts import Axis, Bar, Series, Style, bar_chart, heat_map, line_chart, share_chart
from redraft.bench.report.page import (
    Block,
    Figure,
    Heading,
    Legend,
    Note,
    Panels,
    Section,
    Stories,
    Table,
    result_table,
    style_of,
    wide_and_narrow,
)
from redraft.bench.report.stories import Story
from redraft.bench.results import result_columns
from redraft.eval.metrics import recall
from redraft.records import FloatArray, IntArray
from redraft.tokenizer.report import TokenizerReport

__all__ = [
    "Entry",
    "ablation_part",
    "bucket_part",
    "codes_part",
    "comparison_part",
    "curves_part",
    "effort_part",
    "frontier",
    "quarters",
    "reflection_part",
    "sensitivity_part",
    "stories_part",
]

Result = Mapping[str, Any]
PLOTTED = "grc-rl"


@dataclass(frozen=True)
class Entry:
    """One method of Table 1.

    curve: (seconds, NDCG@10) on validation as it learnt. ranks: int64 [S, U], a row per seed. budgets: on the sample of
    users, by correction budget, a single one for a method that does not correct itself.
    """

    name: str
    label: str
    curve: Sequence[tuple[float, float]]
    ranks: IntArray
    budgets: Sequence[Budget]


def comparison_part(result: Result | None) -> Section | None:
    """Table 1, seen items kept and filtered."""
    if result is None:
        return None
    columns = [column for column in result_columns(result) if column.field != "seen"]
    rows = result["metrics"]
    tables: list[Block] = []
    for seen in dict.fromkeys(row["seen"] for row in rows):
        mine = [row for row in rows if row["seen"] == seen]
        tables += [Heading(f"Items of the user's own history {seen}"), result_table(mine, columns)]
    first = sorted((row for row in rows if row["seen"] == rows[0]["seen"]), key=lambda row: -row["N@10"])
    sentence = f"With seen items {rows[0]['seen']}, {first[0]['method']} is best (NDCG@10 {first[0]['N@10']:.4f})"
    sentence += f", then {first[1]['method']} ({first[1]['N@10']:.4f})." if len(first) > 1 else "."
    sources = sorted({row["source"] for row in rows if "source" in row})
    tables += [_note(result)] + [Note(f"Published: {'; '.join(sources)}.")] * bool(sources)
    return Section("How well each method finds the next item", sentence, tables)


def ablation_part(result: Result | None) -> Section | None:
    """Table 3."""
    if result is None:
        return None
    rows = [row for row in result["metrics"] if "gain" in row]
    worst = min(rows, key=lambda row: row["gain"])
    proven = [row["method"] for row in rows if row["p_value"] < 0.05]
    sentence = f"The largest loss is that of {worst['method']} (NDCG@10 {worst['gain']:+.4f}); " + (
        f"beyond chance at 5 %: {', '.join(proven)}." if proven else "no difference is beyond chance at 5 %."
    )
    return Section("What each part of the method is worth", sentence, [_table(result), _note(result)])


def sensitivity_part(result: Result | None) -> Section | None:
    """Figure 3: two small charts a coefficient."""
    if result is None:
        return None
    rows = result["metrics"]
    metrics = [metric for metric in ("R@10", "R@200") if metric in rows[0]]
    ends = {metric: (min(row[metric] for row in rows), max(row[metric] for row in rows)) for metric in metrics}
    figures, widest = [], ("", 0.0)
    for coefficient in dict.fromkeys(row["coefficient"] for row in rows):
        mine = [row for row in rows if row["coefficient"] == coefficient]
        reach = max(row["R@10"] for row in mine) - min(row["R@10"] for row in mine)
        widest = max(widest, (coefficient, reach), key=lambda each: each[1])
        notes = ["default" if row["name"] == PLOTTED else "" for row in mine]
        for metric in metrics:
            line = Series(coefficient, style_of(PLOTTED), [(row["value"], row[metric]) for row in mine], notes)
            axes = Axis(coefficient), Axis(metric, ends=ends[metric])
            title = f"{metric} by {coefficient}"
            figures.append(Figure(title, line_chart(title, [line], *axes, size=(320, 210))))
    sentence = f"R@10 moves most with {widest[0]}: by {widest[1]:.4f} between its best and its worst value."
    pairs = Panels(figures, pairs=True)
    return Section("How much the coefficients matter", sentence, (pairs, _table(result), _note(result)))


def curves_part(entries: Sequence[Entry]) -> Section | None:
    """Validation NDCG@10 against training time."""
    learnt = [entry for entry in entries if entry.curve]
    if not learnt:
        return None
    series = [Series(entry.label, style_of(entry.name), entry.curve) for entry in learnt]
    best = max(learnt, key=lambda entry: max(score for _, score in entry.curve))
    seconds, score = max(best.curve, key=lambda point: point[1])
    title = "Validation NDCG@10 against seconds of training"
    axes = Axis("seconds of training (log scale)", log=True, form="{x:,g}"), Axis("validation NDCG@10")
    note = (
        "First seed. The clock of each run starts at its own first step; runs that start from another add to its time."
    )
    sentence = f"{best.label} comes highest: {score:.4f} after {seconds:,.0f} seconds."
    draw = partial(_drawn, title, series, axes)
    return Section("How they learn", sentence, wide_and_narrow(title, draw, series, "end", note))


def effort_part(entries: Sequence[Entry], n_sample: int, seen: str) -> Section:
    """Recall against latency on a sample of the users, for each method and budget."""
    series = [Series(entry.label, style_of(entry.name), _by_budget(entry)) for entry in entries]
    title = f"R@10 against the time of one list, {n_sample:,} test users, seen items {seen}"
    axes = Axis("milliseconds for one user (log scale)", log=True), Axis("R@10")
    note = "One user at a time, median of 30 calls, first seed. Lines: methods that correct themselves, by budget."
    best = frontier(
        {
            entry.label if each.budget is None else f"{entry.label} with budget {each.budget}": point
            for entry in entries
            for each, point in zip(entry.budgets, _by_budget(entry))
        }
    )
    correcting = [(entry, line) for entry, line in zip(entries, series) if len(line.points) > 1]
    scores = [score for _, line in correcting for _, score in line.points]
    figures = []
    for entry, line in correcting:
        name = f"{entry.label}, by drafts that may be corrected"
        noted = replace(line, notes=[str(each.budget) for each in entry.budgets])
        up = Axis("R@10", ends=(min(scores), max(scores)))
        figures.append(Figure(name, line_chart(name, [noted], Axis("milliseconds for one user"), up, size=(330, 230))))
    sentence = f"Nothing is both faster and better than {_listed(best)}."
    blocks = wide_and_narrow(title, partial(_drawn, title, series, axes), series, "beside", note)
    return Section("What a better list costs", sentence, blocks + ([Panels(figures)] if figures else []))


def bucket_part(entries: Sequence[Entry], lengths: IntArray, counts: IntArray, seen: str) -> Section:
    """R@10 by length of the history and by the target's training count, both [U], in quarters of the users."""
    best = max(entries, key=lambda entry: recall(entry.ranks, 10).mean())
    blocks: list[Block] = []
    ends = []
    for name, values in (("events in the history", lengths), ("training events of the target", counts)):
        groups = quarters(values)
        shown = [[float(recall(entry.ranks[:, mine], 10).mean()) for entry in entries] for mine in groups.values()]
        top = max(max(row) for row in shown)
        figures = []
        for (label, mine), row in zip(groups.items(), shown):
            title = f"{label} {name}"
            bars = [Bar(entry.label, style_of(entry.name), value) for entry, value in zip(entries, row)]
            axis = Axis("R@10", ends=(0.0, top or 1.0))
            wide, narrow = (bar_chart(f"R@10, {title}", bars, axis, width=width) for width in (540, 340))
            figures.append(Figure(title, wide, f"{int(mine.sum()):,} users", narrow))
        blocks += [Heading(f"By {name}"), Panels(figures, pairs=True)]
        column = list(entries).index(best)
        ends.append((shown[0][column], shown[-1][column]))
    (short, long), (rare, popular) = ends
    sentence = (
        f"{best.label} finds {long:.1%} of the next items after the longest histories and {short:.1%} after the "
        f"shortest; {popular:.1%} of the most popular items and {rare:.1%} of the rarest."
    )
    blocks.append(Note(f"Seen items {seen}; all test users; quarters of the users, mean over seeds."))
    return Section("For whom, and for which items", sentence, blocks)


def codes_part(codes: IntArray, codebook_size: int, report: TokenizerReport) -> Section:
    """How evenly the codes of each level are used; codes: [N, L]."""
    rows = [
        {
            "level": number,
            "used": f"{level.used:,} of {codebook_size:,}",
            "perplexity": level.perplexity,
            "prefixes": level.prefixes,
            "sharing": level.sharing_after,
        }
        for number, level in enumerate(report.levels, start=1)
    ]
    columns = [
        Column("level", "level"),
        Column("codes in use", "used"),
        Column("perplexity", "perplexity", ",.1f"),
        Column("distinct prefixes", "prefixes", ","),
        Column("items that share theirs", "sharing", ","),
    ]
    figures = []
    for level in range(codes.shape[1]):
        shares = np.sort(np.bincount(codes[:, level], minlength=codebook_size))[::-1] / len(codes)
        title = f"Level {level + 1}: share of the items by code"
        figures.append(Figure(title, share_chart(title, shares.tolist(), "blue", size=(320, 200))))
    least = min(rows, key=lambda row: float(row["perplexity"]))  # type: ignore[arg-type]
    sentence = (
        f"Level {least['level']} is used least evenly, as if {least['perplexity']:,.0f} of {codebook_size:,} codes "
        f"were used alike; {report.collisions_before:,} of {report.n_items:,} items shared all codes before "
        f"{report.moved:,} of them were moved."
    )
    return Section("How the codes are used", sentence, [result_table(rows, columns), Panels(figures)])


def reflection_part(result: Result | None) -> Section | None:
    """Table 2, reliability of each label, and which first wrong code was taken for which."""
    if result is None:
        return None
    rows = result["metrics"]
    figures = []
    sure, right = (Axis(words, ends=(0.0, 1.0)) for words in ("probability of the answer", "share that is right"))
    diagonal = Series("as sure as right", Style("grey", 2), [(0.0, 0.0), (1.0, 1.0)], sizes=(0.0, 0.0))
    said = {row["name"]: Series(row["method"], style_of(row["name"]), []) for row in rows}
    for label in dict.fromkeys(row["label"] for row in rows):
        lines = [diagonal, *(_reliability(row) for row in rows if row["label"] == label)]
        title = f"{_asked(label)}: how often it is right when it is so sure"
        figures.append(Figure(title, line_chart(title, lines, sure, right, size=(330, 300))))
    maps = []
    for row in (row for row in rows if row["label"] == "location"):
        counts: FloatArray = np.array(row["confusion@10"], dtype=np.float64)
        names = [*(f"code {level}" for level in range(1, len(counts))), "none"]
        shares = [[None] * len(counts) if not line.sum() else (line / line.sum()).tolist() for line in counts]
        title = f"{row['method']}: the first wrong code, and what was said"
        chart = heat_map(title, shares, names, ("in truth", "said"))
        maps.append(Figure(title, chart, "Shares of each row, ten best drafts"))
    first = max((row for row in rows if row["label"] == "location"), key=lambda row: row["accuracy@10"])
    sentence = (
        f"{first['method']} names the first wrong code of {first['accuracy@10']:.1%} of the ten best drafts; always "
        f"saying the commonest would be right for {first['commonest@10']:.1%}."
    )
    key = Legend([*said.values(), diagonal], always=True)
    note = Note("Markers grow with the share of the drafts; first seed.")
    blocks = (_table(result), _note(result), key, Panels(figures), note, Panels(maps))
    return Section("What the models know of their own drafts", sentence, blocks)


def stories_part(label: str, stories: Sequence[Story], n_sample: int) -> Section | None:
    """Single users, drawn by a rule."""
    if not stories:
        return None
    sentence = (
        f"{len(stories)} lists of {label}, drawn by seed 0 from the sample of {n_sample:,}: of every outcome as many "
        "as of the others, or all that there are."
    )
    key = Note(
        "Boxes are an item's codes: the redder, the more probable the model holds it that the first wrong code stands "
        "there; green underlines mark codes that agree with the truth up to the first that does not."
    )
    return Section("How single lists came about", sentence, [key, Stories(stories)])


def quarters(values: IntArray) -> dict[str, Any]:
    """About equal groups of numbers [U], as bool [U] by the numbers they hold; fewer where many are equal."""
    edges = np.unique(np.quantile(values, (0.25, 0.5, 0.75), method="lower"))
    quarter = np.searchsorted(edges, values)
    groups = {}
    for number in np.unique(quarter):
        mine = quarter == number
        low, high = int(values[mine].min()), int(values[mine].max())
        groups[f"{low:,}" if low == high else f"{low:,} to {high:,}"] = mine
    return groups


def frontier(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names of (cost, gain) than which no other costs no more, gains no less, and differs; cheapest first."""
    names, highest = [], -math.inf
    for name, (_, gain) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if gain > highest:
            names.append(name)
            highest = gain
    return names


def _by_budget(entry: Entry) -> list[tuple[float, float]]:
    return [(each.latency, float(recall(each.ranks, 10).mean())) for each in entry.budgets]


def _reliability(row: Mapping[str, Any]) -> Series:
    bins = zip(*(row["reliability"][part] for part in ("share", "confidence", "accuracy")))
    filled = [each for each in bins if each[0] > 0]
    sizes = [2.5 + 8 * share**0.5 for share, _, _ in filled]
    points = [(confidence, accuracy) for _, confidence, accuracy in filled]
    return Series(row["method"], style_of(row["name"]), points, sizes=sizes)


def _asked(label: str) -> str:
    return "First wrong code" if label == "location" else f"Match of the {label}"


def _drawn(
    title: str, series: Sequence[Series], axes: tuple[Axis, Axis], size: tuple[float, float], names: str
) -> Markup:
    return line_chart(title, series, *axes, size=size, names=names)


def _table(result: Result) -> Table:
    return result_table(result["metrics"], result_columns(result))


def _note(result: Result) -> Note:
    words = f"{result['protocol']}. Measured {result['date'][:10]}, revision {result['revision']}: {result['command']}"
    return Note(words)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
