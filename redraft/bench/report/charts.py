"""Charts as SVG from numbers: pure functions, no library; colours come from the page's style sheet.

A hue is the name of a CSS class that sets --c. Every chart says in words what it shows, for those who cannot see it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from redraft.bench.report.markup import Html, element, joined

__all__ = [
    "Axis",
    "Bar",
    "Scale",
    "Series",
    "Style",
    "bar_chart",
    "heat_map",
    "line_chart",
    "linear_ticks",
    "log_ticks",
    "marker",
    "share_chart",
    "spread",
    "swatch",
]

DASHES = (None, "7 3", "2 3", "9 3 2 3", "1 4")
LETTER, LINE, LEFT = 7.5, 15.0, 72.0
OFFSETS = (
    *((9, 4, "start"), (-9, 4, "end"), (0, -9, "middle"), (0, 18, "middle")),
    *((9, -9, "start"), (9, 17, "start"), (-9, -9, "end"), (-9, 17, "end"), (9, -24, "start"), (9, 32, "start")),
)


@dataclass(frozen=True)
class Style:
    """How a method looks everywhere. shape: of its marker and the dashes of its line, 0 to 4."""

    hue: str
    shape: int = 0


@dataclass(frozen=True)
class Axis:
    """What an axis measures. low, high: its ends [from the numbers]. form: of its ticks' numbers."""

    label: str
    log: bool = False
    low: float | None = None
    high: float | None = None
    form: str = "{:g}"


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


@dataclass(frozen=True)
class Scale:
    """From numbers low to high to pixels start to end."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Pixels of a number."""
        low, high, at = (math.log10(x) if self.log else x for x in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from at most `low` to at least `high`, 1, 2 or 5 times a power of ten apart."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if raw <= power * factor * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from at most `low` to at least `high`; with 2 and 5 times them where that is under two decades."""
    factors = (1, 2, 5) if high / low < 100 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [float(f"{factor}e{power}") for power in powers for factor in factors]
    first = max(i for i, tick in enumerate(every) if tick <= low * (1 + 1e-9))
    last = min(i for i, tick in enumerate(every) if tick >= high * (1 - 1e-9))
    return every[first : max(last, first + 1) + 1]


def spread(wanted: Sequence[float], gap: float, high: float) -> list[float]:
    """Places as near as easily done to those wanted, in their order, `gap` apart and none above `high`."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places = list(wanted)
    for before, i in pairwise(order):
        places[i] = max(places[i], places[before] + gap)
    for after, i in enumerate(reversed(order)):
        places[i] = min(places[i], high - gap * after)
    return places


def line_chart(
    title: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    size: tuple[float, float] = (340, 260),
    names: str = "",
) -> Html:
    """Lines with markers. names: "end" writes them at the right margin, "beside" each next to the last point."""
    width, height = size
    right = 12 + (LETTER * max(len(each.name) for each in series) + 8 if names == "end" else 0)
    across = _fit(x, [point[0] for each in series for point in each.points], LEFT, width - right)
    up = _fit(y, [point[1] for each in series for point in each.points], height - 44, 14)
    parts = [_grid(x, across[1], across[0], y, up[1], up[0], size)]
    placed = [[(across[0](a), up[0](b)) for a, b in each.points] for each in series]
    for each, points in zip(series, placed):
        parts.append(_line(each, points))
    if names == "end":
        ends = spread([points[-1][1] for points in placed], LINE, height - 44)
        for each, points, place in zip(series, placed, ends):
            (left, top), edge = points[-1], width - right + 8
            leader = f"M{left + 5:.1f} {top:.1f}L{edge - 3:.1f} {place:.1f}"
            parts.append(element("path", d=leader, class_="leader"))
            parts.append(element("text", each.name, x=edge, y=place + 4, class_=f"name {each.style.hue}"))
    words = [(points[-1], each.name, each.style.hue) for each, points in zip(series, placed) if names == "beside"]
    words += [(at, note, "note") for each, points in zip(series, placed) for at, note in zip(points, each.notes)]
    parts.append(_beside(words, [at for points in placed for at in points], width))
    return _svg(title, size, parts)


def bar_chart(title: str, bars: Sequence[Bar], axis: Axis, *, width: float = 340) -> Html:
    """Horizontal bars from 0, with names to the left and numbers at their ends."""
    gutter = 12 + LETTER * max(len(bar.name) for bar in bars)
    height = 18 * len(bars) + 40
    scale, ticks = _fit(axis, [0.0, *(bar.value for bar in bars)], gutter, width - 48)
    floor = height - 36
    parts = [_ticks_along(ticks, scale, axis, floor, 4), _label_along(axis.label, (gutter + width - 48) / 2, height)]
    for row, bar in enumerate(bars):
        middle, end = 18 * row + 13, scale(bar.value)
        parts += [
            element("text", bar.name, x=gutter - 8, y=middle + 4, class_="row"),
            element("path", d=f"M{gutter:.1f} {middle}H{end:.1f}", class_=f"bar {bar.style.hue}"),
            marker(bar.style, end, middle),
            element("text", f"{bar.value:.3f}", x=end + 8, y=middle + 4, class_="value"),
        ]
    return _svg(title, (width, height), parts)


def share_chart(title: str, shares: Sequence[float], hue: str, *, size: tuple[float, float] = (340, 200)) -> Html:
    """Shares in their order as an area of steps, and a dashed line where they would be if all were equal."""
    width, height = size
    x, y = Axis("codes, most used first"), Axis("share of items", form="{:.1%}")
    across = Scale(0, len(shares), LEFT, width - 12)
    up, ticks = _fit(y, [0.0, max(shares)], height - 44, 14)
    steps = "".join(f"V{up(share):.1f}H{across(i + 1):.1f}" for i, share in enumerate(shares))
    even = up(1 / len(shares))
    parts = [
        _grid(x, [0, len(shares) // 2, len(shares)], across, y, ticks, up, size),
        element("path", d=f"M{across(0):.1f} {up(0):.1f}{steps}V{up(0):.1f}Z", class_=f"area {hue}"),
        element("path", d=f"M{across(0):.1f} {even:.1f}H{across(len(shares)):.1f}", class_="even"),
        element("text", "even use", x=width - 14, y=even - 5, class_="value end"),
    ]
    return _svg(title, size, parts)


def heat_map(title: str, shares: Sequence[Sequence[float | None]], names: Sequence[str], axes: tuple[str, str]) -> Html:
    """A square table of shares, darker where higher. axes: what the rows and the columns are."""
    cell, left, top = 56, 78, 40
    size = (left + cell * len(names) + 8, top + cell * len(names) * 0.7 + 10)
    parts = [
        element("text", axes[0], x=left - 8, y=top - 8, class_="row axis"),
        element("text", axes[1], x=left + cell * len(names) / 2, y=12, class_="tick along axis"),
    ]
    for i, name in enumerate(names):
        middle = top + cell * 0.7 * (i + 0.5) + 4
        parts.append(element("text", name, x=left + cell * (i + 0.5), y=top - 8, class_="tick along"))
        parts.append(element("text", name, x=left - 8, y=middle, class_="row"))
        for j, share in enumerate(shares[i]):
            spot = {"x": left + cell * j + 1, "y": top + cell * 0.7 * i + 1}
            strength = f"{0.55 * (share or 0):.2f}"
            box = element(
                "rect", **spot, width=cell - 2, height=cell * 0.7 - 2, rx=3, class_="heat", fill_opacity=strength
            )
            said = "-" if share is None else f"{share:.0%}"
            parts += [box, element("text", said, x=left + cell * (j + 0.5), y=middle, class_="along")]
    return _svg(title, size, parts)


def marker(style: Style, x: float, y: float, size: float = 4.5) -> Html:
    """A circle, square, triangle, diamond or ring by the style's shape."""
    hue = f"mark {style.hue}"
    if style.shape in (0, 4):
        return element("circle", cx=x, cy=y, r=size, class_=hue if style.shape == 0 else f"{hue} ring")
    corners = {
        1: ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        2: ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
        3: ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    }[style.shape]
    points = " ".join(f"{x + size * a:.1f},{y + size * b:.1f}" for a, b in corners)
    return element("polygon", points=points, class_=hue)


def swatch(style: Style) -> Html:
    """A piece of a method's line with its marker, for a legend."""
    line = element("path", d="M1 7H25", class_=f"line {style.hue}", stroke_dasharray=DASHES[style.shape])
    return element("svg", line, marker(style, 13, 7, 4), viewBox="0 0 26 14", width=26, height=14, aria_hidden="true")


def _fit(axis: Axis, values: Sequence[float], start: float, end: float) -> tuple[Scale, list[float]]:
    """A scale that holds all values and ends at round numbers, and these numbers."""
    low = min(values) if axis.low is None else axis.low
    high = max(values) if axis.high is None else axis.high
    if low == high:
        high = low * 2 if axis.log else low + (abs(low) or 1.0)
    about = max(2, round(abs(end - start) / 45))
    ticks = log_ticks(low, high) if axis.log else linear_ticks(low, high, about)
    return Scale(ticks[0], ticks[-1], start, end, axis.log), ticks


def _grid(
    x: Axis,
    x_ticks: Sequence[float],
    across: Scale,
    y: Axis,
    y_ticks: Sequence[float],
    up: Scale,
    size: tuple[float, float],
) -> Html:
    """Ticks with their numbers, thin lines across, and what both axes measure."""
    parts = []
    for tick in y_ticks:
        height = up(tick)
        parts.append(element("path", d=f"M{across.start:.1f} {height:.1f}H{across.end:.1f}", class_="grid"))
        parts.append(element("text", y.form.format(tick), x=across.start - 7, y=height + 4, class_="tick end"))
    middle = (up.start + up.end) / 2
    turned = element("text", y.label, transform=f"translate(12 {middle:.1f}) rotate(-90)", class_="tick along axis")
    along = _ticks_along(x_ticks, across, x, up.start, up.start)
    return joined([*parts, turned, along, _label_along(x.label, (across.start + across.end) / 2, size[1])])


def _ticks_along(ticks: Sequence[float], scale: Scale, axis: Axis, floor: float, top: float) -> Html:
    """Numbers below `floor`, each with a line up to `top`, or with a short one where that is `floor` itself."""
    parts = []
    for tick in ticks:
        ends = f"M{scale(tick):.1f} {floor:.1f}V{floor + 4 if top == floor else top:.1f}"
        parts.append(element("path", d=ends, class_="grid"))
        parts.append(element("text", axis.form.format(tick), x=scale(tick), y=floor + 16, class_="tick along"))
    return joined(parts)


def _label_along(label: str, middle: float, height: float) -> Html:
    return element("text", label, x=middle, y=height - 6, class_="tick along axis")


def _line(series: Series, points: Sequence[tuple[float, float]]) -> Html:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dashes = DASHES[series.style.shape]
    sizes = series.sizes or [4.5 if len(points) < 12 else 0.0] * (len(points) - 1) + [4.5]
    marks = [marker(series.style, x, y, size) for (x, y), size in zip(points, sizes) if size > 0]
    line = element("path", d=path, class_=f"line {series.style.hue}", stroke_dasharray=dashes)
    return element("g", element("title", series.name), line, *marks)


def _beside(
    words: Sequence[tuple[tuple[float, float], str, str]], points: Sequence[tuple[float, float]], width: float
) -> Html:
    """Words next to their points, where they hide neither a point nor another word as far as possible."""
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    parts = []
    for (x, y), word, hue in words:
        choices = [(_box(x + dx, y + dy, word, anchor), x + dx, y + dy, anchor) for dx, dy, anchor in OFFSETS]
        inside = [choice for choice in choices if choice[0][0] >= LEFT and choice[0][2] <= width] or choices
        box, left, top, anchor = min(inside, key=lambda choice: sum(_overlap(choice[0], other) for other in taken))
        taken.append(box)
        parts.append(element("text", word, x=left, y=top, text_anchor=anchor, class_=f"name {hue}"))
    return joined(parts)


Box = tuple[float, float, float, float]


def _box(x: float, y: float, word: str, anchor: str) -> Box:
    width = LETTER * len(word)
    left = x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
    return left, y - LINE + 3, left + width, y + 3


def _overlap(a: Box, b: Box) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, wide) * max(0.0, high)


def _svg(title: str, size: tuple[float, float], parts: Sequence[Html]) -> Html:
    box = f"0 0 {size[0]:g} {size[1]:g}"
    parts = (element("title", title), *parts)
    return element("svg", *parts, viewBox=box, width=size[0], height=size[1], role="img", aria_label=title)
