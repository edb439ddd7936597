import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from redraft.bench.report.charts import (
    COLOURS,
    Axis,
    Bar,
    Series,
    Style,
    bar_chart,
    heat_map,
    line_chart,
    share_chart,
    spread,
)

RED, BLUE = Style("red"), Style("blue", 1)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Shapes(HTMLParser):
    """The elements of a chart with their attributes, and the texts in it with where they stand."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, tuple[float, float, str]] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        tag, about = self.found[-1]
        if tag == "text" and data.strip():
            moved = [float(x) for x in NUMBER.findall((about.get("transform") or "").partition(")")[0])]
            x, y = about.get("x", moved[0] if moved else 0), about.get("y", moved[1] if moved else 0)
            self.texts[data.strip()] = float(x), float(y), about["style"]

    def marks(self, hue: str) -> list[tuple[float, float]]:
        """Where the markers of a colour stand."""
        return [
            (float(about["x"]), float(about["y"]))
            for tag, about in self.found
            if tag == "use" and f"fill: var(--{hue})" in about["style"]
        ]

    def lines(self, hue: str) -> list[list[float]]:
        """The numbers of the paths in a colour."""
        return [
            [float(x) for x in NUMBER.findall(about["d"])]
            for tag, about in self.found
            if tag == "path"
            and f"stroke: var(--{hue})" in about.get("style", "")
            and "stroke-width: 2" in about["style"]
        ]


@given(st.lists(st.floats(0, 100), max_size=8))
def test_names_are_spread_in_their_order(wanted: list[float]) -> None:
    places = spread(wanted, 10, 100)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    in_order = [places[i] for i in order]
    assert all(b - a >= 10 - 1e-9 for a, b in pairwise(in_order))
    assert all(place <= 100 for place in places)


def test_names_with_room_stay() -> None:
    assert spread([50.0, 10.0, 90.0], 10, 100) == [50.0, 10.0, 90.0]


def test_points_of_a_line_chart_stand_where_the_numbers_say() -> None:
    """The plot is 72 to 326 wide and 216 to 12 high, with 4 % of it free at each end."""
    line = Series("ours", RED, [(0, 0.0), (5, 0.5), (10, 1.0)])
    text = line_chart("R by x", [line], Axis("x", ends=(0, 10)), Axis("R", ends=(0, 1)), size=(340, 260))
    shapes = Shapes(text)
    left, right, low, high = 72 + 254 / 27, 326 - 254 / 27, 216 - 204 / 27, 12 + 204 / 27
    expected = [(left, low), ((left + right) / 2, (low + high) / 2), (right, high)]
    assert [x for mark in shapes.marks("red") for x in mark] == pytest.approx(
        [x for e in expected for x in e], abs=0.01
    )
    assert shapes.lines("red")[0] == pytest.approx([x for e in expected for x in e], abs=0.01)
    assert {"x", "R", "0", "5", "10", "0.5", "1"} <= shapes.texts.keys()
    svg = shapes.found[0][1]
    assert (svg["role"], svg["aria-label"], svg["viewbox"]) == ("img", "R by x", "0 0 340 260")


@pytest.mark.parametrize("names", ["end", "beside"])
def test_names_and_notes_stand_inside_the_chart(names: str) -> None:
    lines = [Series(f"method {i}", RED, [(1, 0.5), (10, 0.5 + i / 1000)], notes=("a", f"b{i}")) for i in range(6)]
    shapes = Shapes(line_chart("t", lines, Axis("x", log=True), Axis("y"), size=(700, 300), names=names))
    for word in [*(f"method {i}" for i in range(6)), "a", *(f"b{i}" for i in range(6))]:
        x, y, style = shapes.texts[word]
        anchor = re.search(r"text-anchor: (\w+)", style)
        left = x - 6 * len(word) * {"start": 0, "middle": 0.5, "end": 1}[anchor[1] if anchor else "start"]
        assert 50 <= left <= left + 6 * len(word) <= 700
        assert 0 < y < 300


def test_one_point_and_equal_numbers_make_a_chart() -> None:
    one = Series("a", RED, [(3, 0.0)])
    shapes = Shapes(line_chart("t", [one], Axis("x", log=True), Axis("y", ends=(0.2, 0.2))))
    assert len(shapes.marks("red")) == 1


def test_bars_begin_at_zero() -> None:
    bars = [Bar("a", RED, 0.1), Bar("bbbb", BLUE, 0.05), Bar("c", Style("green"), 0.0)]
    shapes = Shapes(bar_chart("t", bars, Axis("R@10", ends=(0, 0.1)), width=340))
    ends = [shapes.marks(hue)[0] for hue in ("red", "blue", "green")]
    zero = ends[2][0]
    assert ends[0][0] - zero == pytest.approx(2 * (ends[1][0] - zero), abs=0.01)
    assert ends[0][0] == pytest.approx(340 - 48)
    assert ends[0][1] < ends[1][1] < ends[2][1]
    assert {"0.100", "0.050", "0.000", "a", "bbbb", "c"} <= shapes.texts.keys()


def test_bars_of_nothing_make_a_chart() -> None:
    assert "0.000" in Shapes(bar_chart("t", [Bar("a", RED, 0.0)], Axis("R"))).texts


def test_shares_are_steps_under_an_even_line() -> None:
    """The plot is 72 to 306 wide and 156 to 12 high for 0 to 63 %."""
    text = share_chart("t", [0.6, 0.3, 0.1], "blue", size=(320, 200))
    steps = next(about["d"] for tag, about in Shapes(text).found if "fill: var(--blue)" in (about.get("style") or ""))
    heights = sorted({round(156 - float(y), 1) for y in NUMBER.findall(steps)[1::2]})
    assert heights == pytest.approx([0, 144 * 0.1 / 0.63, 144 * 0.3 / 0.63, 144 * 0.6 / 0.63], abs=0.1)
    assert "even use" in Shapes(text).texts


def test_a_heat_map_says_what_it_shows() -> None:
    text = heat_map("t", [[0.75, 0.25], [None, None]], ["code 1", "none"], ("in truth", "said"))
    said = Shapes(text).texts
    assert {"75%", "25%", "-", "code 1", "none", "in truth", "said"} == said.keys()
    assert said["75%"][0] < said["25%"][0]
    strengths = [float(x) for x in re.findall(r"fill: var\(--sky\); opacity: ([\d.]+)", text)]
    assert strengths[:2] == pytest.approx([0.4125, 0.1375])


def test_every_shape_has_its_marker_and_every_line_its_dashes() -> None:
    drawn = {
        str(line_chart("t", [Series("a", Style("red", shape), [(0, 0), (1, 1)])], Axis("x"), Axis("y")))
        for shape in range(5)
    }
    assert len(drawn) == 5


def test_colours_are_the_page_s_and_text_is_text() -> None:
    hostile = Series("<script> $x$", RED, [(1, 1), (2, 2)])
    text = line_chart("<script>", [hostile], Axis("<script>"), Axis("y"), names="end")
    assert isinstance(text, Markup)
    assert "<script>" not in text
    assert "<script> $x$" in Shapes(text).texts
    assert not any(colour in text for colour in COLOURS.values())
    assert text == line_chart("<script>", [hostile], Axis("<script>"), Axis("y"), names="end")
