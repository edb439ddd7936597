"""Charts as static SVG by matplotlib, from numbers alone; its colours become those of the page's style sheet.

Every chart says in words what it shows, for those who cannot see it.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

__all__ = ["COLOURS", "Axis", "Bar", "Series", "Style", "bar_chart", "heat_map", "line_chart", "share_chart", "spread"]

COLOURS = {
    "page": "#fbfaf7",
    "ink": "#22242a",
    "quiet": "#626670",
    "rule": "#dedbd3",
    "grey": "#737680",
    "olive": "#857000",
    "sky": "#2b8cc4",
    "blue": "#274fa8",
    "green": "#00795a",
    "orange": "#bf6f00",
    "purple": "#a03c8b",
    "red": "#d1401f",
}
"""Of light pages, by the name of the style sheet's variable; it has those of dark pages."""
MARKERS, DASHES = "os^Do", ("-", (0, (3.5, 1.5)), (0, (1, 1.5)), (0, (4.5, 1.5, 1, 1.5)), (0, (0.5, 2)))
LETTER, LINE, LEFT, RIGHT, BELOW, ABOVE = 7.2, 15.0, 72.0, 14.0, 44.0, 12.0
OFFSETS = ((9, 0, "left"), (-9, 0, "right"), (0, 12, "center"), (0, -12, "center"), (9, 12, "left"), (9, -12, "left"))
LOOK: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.color": COLOURS["ink"],
    "font.size": 12,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": COLOURS["rule"],
    "axes.labelcolor": COLOURS["quiet"],
    "axes.labelsize": 11.5,
    "axes.labelweight": "bold",
    **{f"axes.spines.{side}": False for side in ("top", "right", "left")},
    "grid.color": COLOURS["rule"],
    **{f"{axis}tick.color": COLOURS["rule"] for axis in "xy"},
    **{f"{axis}tick.labelcolor": COLOURS["quiet"] for axis in "xy"},
    "ytick.major.size": 0,
    "figure.dpi": 72,
}


@dataclass(frozen=True)
class Style:
    """How a method looks everywhere. hue: of COLOURS. shape: of its marker and the dashes of its line, 0 to 4."""

    hue: str
    shape: int = 0


@dataclass(frozen=True)
class Axis:
    """What an axis measures. ends: the numbers that it must hold [from the points]. form: of its ticks' numbers x."""

    label: str
    log: bool = False
    ends: tuple[float, float] | None = None
    form: str = "{x:g}"


@dataclass(frozen=True)
class Series:
    """Points in the order in which a line joins them. notes: a word at each. sizes: of the markers, in pixels."""

    name: str
    style: Style
    points: Sequence[tuple[float, float]]
    notes: Sequence[str] = ()
    sizes: Sequence[float] = ()


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart."""

    name: str
    style: Style
    value: float


def line_chart(
    title: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    size: tuple[float, float] = (340, 260),
    names: str = "",
) -> Markup:
    """Lines with markers. names: "end" writes them at the right margin, "beside" each next to the last point."""
    right = RIGHT + (LETTER * max(len(each.name) for each in series) + 8 if names == "end" else 0)
    with mpl.rc_context(LOOK):
        figure, axes = _plot(size, LEFT, right, x, y)
        for each in series:
            few = len(each.points) < 12 or None
            marks = {} if each.sizes else {**_marker(each.style, 7), "markevery": few if few else [-1]}
            look: dict[str, Any] = {"color": _colour(each.style), "linestyle": DASHES[each.style.shape], **marks}
            axes.plot(*zip(*each.points), linewidth=2, clip_on=False, **look)
            for point, radius in zip(each.points, each.sizes):
                axes.plot(*point, linestyle="", clip_on=False, **_marker(each.style, 2 * radius))
        axes.autoscale_view()
        if names == "end":
            _names_at_end(axes, series, size[0] - right)
        words = [(each.points[-1], each.name, _colour(each.style)) for each in series if names == "beside"]
        words += [(at, note, COLOURS["quiet"]) for each in series for at, note in zip(each.points, each.notes)]
        _names_beside(axes, words, [point for each in series for point in each.points], size[0])
        return _svg(figure, title)


def bar_chart(title: str, bars: Sequence[Bar], axis: Axis, *, width: float = 340) -> Markup:
    """Horizontal bars from 0, with names to the left and numbers at their ends."""
    gutter = 12 + LETTER * max(len(bar.name) for bar in bars)
    with mpl.rc_context(LOOK):
        size = (width, 18 * len(bars) + 40)
        figure, axes = _plot(size, gutter, 48, axis, Axis(""), above=4, below=36)
        rows, values = range(len(bars)), [bar.value for bar in bars]
        drawn = axes.barh(rows, values, height=0.28, color=[_colour(bar.style) for bar in bars], alpha=0.35)
        axes.bar_label(drawn, [f"{value:.3f}" for value in values], padding=8, color=COLOURS["quiet"], fontsize=11.5)
        for row, bar in enumerate(bars):
            axes.plot(bar.value, row, linestyle="", clip_on=False, **_marker(bar.style, 8))
        axes.set_yticks(rows, [bar.name for bar in bars])
        axes.tick_params("y", labelcolor=COLOURS["ink"])
        axes.grid(visible=False, axis="y")
        axes.set(xlim=(0, (axis.ends or (0, max(values)))[1] or 1), ylim=(len(bars) - 0.5, -0.5))
        return _svg(figure, title)


def share_chart(title: str, shares: Sequence[float], hue: str, *, size: tuple[float, float] = (340, 200)) -> Markup:
    """Shares in their order as an area of steps, and a dashed line where they would be if all were equal."""
    with mpl.rc_context(LOOK):
        figure, axes = _plot(size, LEFT, RIGHT, Axis("codes, most used first"), Axis("share of items", form="{x:.1%}"))
        axes.stairs(shares, fill=True, color=COLOURS[hue], alpha=0.45)
        even, last = 1 / len(shares), len(shares)
        axes.axhline(even, color=COLOURS["ink"], linestyle="--", linewidth=1)
        axes.annotate("even use", (last, even), (-2, 4), textcoords="offset pixels", ha="right", fontsize=11.5)
        axes.set(xlim=(0, last), ylim=(0, max(shares) * 1.05))
        return _svg(figure, title)


def heat_map(
    title: str, shares: Sequence[Sequence[float | None]], names: Sequence[str], axes: tuple[str, str]
) -> Markup:
    """A square table of shares, darker where higher. axes: what the rows and the columns are."""
    n, width, height = len(names), 56, 39
    with mpl.rc_context(LOOK | {"axes.grid": False, "axes.spines.bottom": False}):
        figure, drawn = _plot(
            (86 + width * n, 64 + height * n), 78, 8, Axis(axes[1]), Axis(axes[0]), above=50, below=14
        )
        for i, row in enumerate(shares):
            for j, share in enumerate(row):
                box = mpl.patches.Rectangle((j - 0.48, i - 0.47), 0.96, 0.94, facecolor=COLOURS["sky"])
                box.set(edgecolor=COLOURS["rule"], alpha=0.55 * (share or 0))
                drawn.add_patch(box)
                drawn.text(j, i, "-" if share is None else f"{share:.0%}", ha="center", va="center")
        drawn.xaxis.set(label_position="top", ticks_position="top")
        drawn.set_xticks(range(n), names)
        drawn.set_yticks(range(n), names)
        drawn.tick_params("both", length=0, labelcolor=COLOURS["ink"])
        drawn.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
        return _svg(figure, title)


def spread(wanted: Sequence[float], gap: float, high: float) -> list[float]:
    """Heights as near as easily done to those wanted, in their order, `gap` apart and none above `high`."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    heights = list(wanted)
    for before, i in pairwise(order):
        heights[i] = max(heights[i], heights[before] + gap)
    for after, i in enumerate(reversed(order)):
        heights[i] = min(heights[i], high - gap * after)
    return heights


def _plot(
    size: tuple[float, float],
    left: float,
    right: float,
    x: Axis,
    y: Axis,
    *,
    above: float = ABOVE,
    below: float = BELOW,
) -> tuple[Figure, Axes]:
    """A figure of so many pixels, with room around the axes for what is written there."""
    width, height = size
    figure = Figure(figsize=(width / 72, height / 72))
    inner = width - left - right, height - above - below
    axes = figure.add_axes((left / width, below / height, inner[0] / width, inner[1] / height))
    for axis, name, ticks, room in ((x, "x", axes.xaxis, inner[0] / 60), (y, "y", axes.yaxis, inner[1] / 40)):
        axes.set(**{f"{name}label": axis.label, f"{name}scale": "log" if axis.log else "linear"})
        if axis.ends:
            space = 0.04 * (axis.ends[1] - axis.ends[0]) or 0.1
            axes.set(**{f"{name}lim": (axis.ends[0] - space, axis.ends[1] + space)})
        logarithmic = LogLocator(subs=(1, 2, 5) if room > 8 else (1, 3))
        ticks.set_major_locator(logarithmic if axis.log else MaxNLocator(max(2, round(room)), steps=[1, 2, 5, 10]))
        ticks.set_minor_locator(NullLocator())
        ticks.set_major_formatter(axis.form)
    return figure, axes


def _names_at_end(axes: Axes, series: Sequence[Series], edge: float) -> None:
    ends = axes.transData.transform([each.points[-1] for each in series])
    top = float(axes.transAxes.transform((0, 1))[1])
    for each, height in zip(series, spread(ends[:, 1].tolist(), LINE, top)):
        arrow = {"arrowstyle": "-", "color": COLOURS["rule"], "shrinkA": 2, "shrinkB": 5}
        how: dict[str, Any] = {"textcoords": "figure pixels", "va": "center", "arrowprops": arrow, "weight": "bold"}
        axes.annotate(each.name, each.points[-1], (edge + 8, height), color=_colour(each.style), **how)


Box = tuple[float, float, float, float]


def _names_beside(
    axes: Axes,
    words: Sequence[tuple[tuple[float, float], str, str]],
    points: Sequence[tuple[float, float]],
    width: float,
) -> None:
    """Words next to their points, where they hide neither a point nor another word as far as possible."""
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in axes.transData.transform(points)]
    for at, word, colour in words:
        x, y = axes.transData.transform(at)
        choices = [(_box(x + dx, y + dy, word, side), (dx, dy), side) for dx, dy, side in OFFSETS]
        inside = [each for each in choices if each[0][0] >= LEFT and each[0][2] <= width] or choices
        box, offset, side = min(inside, key=lambda each: sum(_overlap(each[0], other) for other in taken))
        taken.append(box)
        how: dict[str, Any] = {"textcoords": "offset pixels", "ha": side, "va": "center", "fontsize": 11.5}
        axes.annotate(word, at, offset, color=colour, **how)


def _box(x: float, y: float, word: str, side: str) -> Box:
    width = LETTER * len(word)
    left = x - width * {"left": 0.0, "center": 0.5, "right": 1.0}[side]
    return left, y - LINE / 2, left + width, y + LINE / 2


def _overlap(a: Box, b: Box) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, wide) * max(0.0, high)


def _colour(style: Style) -> str:
    return COLOURS[style.hue]


def _marker(style: Style, size: float) -> dict[str, Any]:
    ring, colour = style.shape == 4, _colour(style)
    face = {
        "markerfacecolor": COLOURS["page"] if ring else colour,
        "markeredgecolor": colour if ring else COLOURS["page"],
    }
    return {"marker": MARKERS[style.shape], "markersize": size, "markeredgewidth": 2 if ring else 1, **face}


def _svg(figure: Figure, title: str) -> Markup:
    """The figure as an element of the page: its title for those who cannot see it, colours by the style sheet."""
    written = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": title}):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", written.getvalue(), flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :])
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    width, height = figure.get_size_inches() * 72
    words = escape(title)
    opened = f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img"'
    return Markup(f'{opened} aria-label="{words}"><title>{words}</title>{text[text.index(">") + 1 :]}')
