import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.bench.report.charts import (
    Axis,
    Bar,
    Scale,
    Series,
    Style,
    bar_chart,
    heat_map,
    line_chart,
    linear_ticks,
    log_ticks,
    marker,
    share_chart,
    spread,
)
from redraft.bench.report.markup import Html, element, joined

RED, BLUE = Style("red"), Style("blue", 1)


class Shapes(HTMLParser):
    """All elements of a chart with their attributes and the text in them."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))

    def handle_data(self, data):
        self.found[-1][2].append(data)

    def of(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        return [
            about
            for name, about, _ in self.found
            if name == tag and (not kind or kind in (about.get("class") or "").split())
        ]

    def texts(self, kind: str) -> list[str]:
        return ["".join(said) for tag, about, said in self.found if tag == "text" and kind in about["class"].split()]


@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e6), st.integers(2, 8))
def test_linear_ticks_hold_the_range_in_few_even_round_steps(low: float, span: float, about: int) -> None:
    ticks = linear_ticks(low, low + span, about)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + step * 1e-6
    assert ticks[-1] >= low + span - step * 1e-6
    assert ticks[0] > low - step * (1 + 1e-6)
    assert len(ticks) <= about + 2
    assert round(step / 10 ** math.floor(math.log10(step * (1 + 1e-6))), 4) in (1, 2, 5)


@given(st.floats(1e-3, 1e4), st.floats(1.01, 1e5))
def test_log_ticks_hold_the_range(low: float, factor: float) -> None:
    ticks = log_ticks(low, low * factor)
    assert ticks == sorted(set(ticks))
    assert ticks[0] <= low * (1 + 1e-6)
    assert ticks[-1] >= low * factor * (1 - 1e-6)
    assert ticks[1] > low * (1 - 1e-6)


def test_ticks_by_hand() -> None:
    assert linear_ticks(0.031, 0.082) == [0.02, 0.04, 0.06, 0.08, 0.1]
    assert log_ticks(3, 40) == [2, 5, 10, 20, 50]
    assert log_ticks(3, 4000) == [1, 10, 100, 1000, 10000]


@given(st.lists(st.floats(0, 100), max_size=8))
def test_names_are_spread_in_their_order(wanted: list[float]) -> None:
    places = spread(wanted, 10, 100)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    in_order = [places[i] for i in order]
    assert all(b - a >= 10 - 1e-9 for a, b in pairwise(in_order))
    assert all(place <= 100 for place in places)


def test_names_with_room_stay() -> None:
    assert spread([50.0, 10.0, 90.0], 10, 100) == [50.0, 10.0, 90.0]


def test_scales_by_hand() -> None:
    assert Scale(0, 10, 100, 200)(2.5) == 125
    assert Scale(1, 100, 0, 50, log=True)(10) == pytest.approx(25)


def test_points_of_a_line_chart_by_hand() -> None:
    """The plot is 72 to 328 wide and 216 to 14 high; both axes end at round numbers."""
    line = Series("ours", RED, [(0, 0.0), (5, 0.5), (10, 1.0)])
    shapes = Shapes(line_chart("R by x", [line], Axis("x"), Axis("R"), size=(340, 260)))
    assert [path["d"] for path in shapes.of("path", "line")] == ["M72.0 216.0L200.0 115.0L328.0 14.0"]
    assert [(mark["cx"], mark["cy"]) for mark in shapes.of("circle", "mark")] == [
        ("72", "216"),
        ("200", "115"),
        ("328", "14"),
    ]
    assert shapes.texts("axis") == ["R", "x"]
    assert {"0", "2", "10", "0.5", "1"} <= set(shapes.texts("tick"))
    [svg] = shapes.of("svg")
    assert (svg["role"], svg["aria-label"], svg["viewbox"]) == ("img", "R by x", "0 0 340 260")


@pytest.mark.parametrize("names", ["end", "beside"])
def test_names_and_notes_stand_inside_the_chart(names: str) -> None:
    lines = [Series(f"method {i}", RED, [(1, 0.5), (10, 0.5 + i / 1000)], notes=("a", "b")) for i in range(6)]
    shapes = Shapes(line_chart("t", lines, Axis("x", log=True), Axis("y"), size=(700, 300), names=names))
    said = [
        (float(about["x"]), float(about["y"]), "".join(text), about.get("text-anchor"))
        for tag, about, text in shapes.found
        if tag == "text" and "name" in about["class"].split()
    ]
    assert len(said) == 6 * 3
    for x, y, text, anchor in said:
        width = 6 * len(text)
        left = x - width * {None: 0, "start": 0, "middle": 0.5, "end": 1}[anchor]
        assert left >= 50
        assert left + width <= 700
        assert 0 < y < 300


def test_one_point_and_equal_numbers_make_a_chart() -> None:
    shapes = Shapes(line_chart("t", [Series("a", RED, [(3, 0.0)])], Axis("x", log=True), Axis("y")))
    assert len(shapes.of("circle", "mark")) == 1


def test_bars_begin_at_zero() -> None:
    bars = [Bar("a", RED, 0.1), Bar("bbbb", BLUE, 0.05), Bar("c", BLUE, 0.0)]
    shapes = Shapes(bar_chart("t", bars, Axis("R@10", high=0.1), width=340))
    ends = [tuple(map(float, re.findall(r"[\d.]+", path["d"]))) for path in shapes.of("path", "bar")]
    lengths = [end - start for start, _, end in ends]
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=0.2)
    assert lengths[2] == 0
    assert shapes.texts("value") == ["0.100", "0.050", "0.000"]
    assert shapes.texts("row") == ["a", "bbbb", "c"]


def test_shares_are_steps_under_an_even_line() -> None:
    """Plot 72 to 308 wide, 156 to 14 high, the highest tick is 60 %."""
    shapes = Shapes(share_chart("t", [0.6, 0.3, 0.1], "blue", size=(320, 200)))
    [area] = shapes.of("path", "area")
    assert area["d"] == "M72.0 156.0V14.0H150.7V85.0H229.3V132.3H308.0V156.0Z"
    [even] = shapes.of("path", "even")
    assert even["d"].startswith("M72.0 77.1")


def test_a_heat_map_says_what_it_shows() -> None:
    shapes = Shapes(heat_map("t", [[0.75, 0.25], [None, None]], ["code 1", "none"], ("in truth", "said")))
    assert [float(box["fill-opacity"]) for box in shapes.of("rect")] == pytest.approx([0.41, 0.14, 0, 0])
    assert shapes.texts("along")[-2:] == ["-", "-"]
    assert {"75%", "25%"} <= set(shapes.texts("along"))


def test_every_shape_has_its_marker() -> None:
    assert len({str(marker(Style("red", shape), 10, 10)) for shape in range(5)}) == 5


def test_text_is_escaped_and_markup_is_not() -> None:
    assert element("p", "a < b & <script>") == "<p>a &lt; b &amp; &lt;script&gt;</p>"
    assert element("p", element("b", '"'), title='"<') == '<p title="&quot;&lt;"><b>&quot;</b></p>'
    assert joined([Html("<i>"), "<i>"]) == "<i>&lt;i&gt;"
    assert element("a", x=1.26, class_="c", stroke_width=2, hidden=None) == '<a x="1.3" class="c" stroke-width="2"></a>'
    hostile = Series("<script>", RED, [(1, 1), (2, 2)])
    assert "<script>" not in line_chart("<script>", [hostile], Axis("<script>"), Axis("y"), names="end")
