from __future__ import annotations

import itertools
import math
from xml.etree import ElementTree as ET

import pytest

from mqkit.pictures.plot import LINES, Line, Mark, plot_svg
from mqkit.pictures.style import INK
from mqkit.pictures.ticks import linear, logarithmic, written
from tests.unit.pictures.test_graph import contrast, texts


def plotted(*lines: Line, marks: tuple[Mark, ...] = (), log_y: bool = False) -> str:
    svg = plot_svg(lines, title="Wait", x_label="per second", y_label="s", marks=marks, log_y=log_y)
    ET.fromstring(svg)  # noqa: S314 - it is our own
    assert "nan" not in svg
    assert "inf" not in svg
    return svg


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize(
    "points",
    [
        [],
        [(0, 0)],
        [(2, 2), (2, 2)],
        [(math.nan, 1), (1, math.inf)],
        [(1e308, 1e308), (1, 1)],
        [(-1e300, -1e300), (1e300, 1e300)],
        [(1e-320, 1e-320)],
        [(1e9, 1e9 + 1), (1e9 + 1, 1e9 + 2)],
        [(1e17, 1e17), (1e17 + 16, 1e17 + 32)],
        [(x, 10.0**x) for x in range(-30, 30)],
    ],
)
def test_any_numbers_can_be_drawn(points: list[tuple[float, float]], log_y: bool) -> None:
    """Whatever the points are, the picture is well-formed and names the line."""
    svg = plotted(Line("a <line>", points), log_y=log_y)
    assert any("a <line>" in text for text in texts(svg)) or "Nothing to show." in texts(svg)


def test_a_line_breaks_where_there_is_no_number() -> None:
    """A point that is not finite parts the line, and the others are drawn."""
    svg = plotted(Line("a", [(0, 0), (1, 1), (2, math.nan), (3, 1), (4, 2)]))
    assert svg.count('class="mq-drawn"') == 2


def test_names_do_not_overlap() -> None:
    """Lines that end at one point have their names below each other."""
    svg = plotted(*(Line(f"line {number}", [(0, 0), (1, 1)]) for number in range(30)))
    root = ET.fromstring(svg)  # noqa: S314 - it is our own
    heights = sorted(
        float(element.get("y", ""))
        for element in root.iter("{http://www.w3.org/2000/svg}text")
        if (element.text or "").startswith("line ")
    )
    assert len(heights) == 30
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 15.9


def test_marks_that_cannot_be_drawn_are_left_out() -> None:
    """A mark at 0 of a logarithmic axis is none, and one above it is."""
    svg = plotted(marks=(Mark(1, 0, "zero"), Mark(1, 2, "two")), log_y=True)
    assert "two" in texts(svg)
    assert "zero" not in texts(svg)


def test_ticks_are_round() -> None:
    """An axis has round numbers, which include all values."""
    assert linear(0, 97, 6) == [0, 20, 40, 60, 80, 100]
    assert linear(-3, 12, 5) == [-5, 0, 5, 10, 15]
    assert logarithmic(0.04, 3) == pytest.approx([0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5])
    assert logarithmic(1e-3, 1e6) == [10.0**power for power in range(-3, 8, 2)]
    assert logarithmic(2, 2) == [2, 5]


def test_numbers_are_written_short() -> None:
    """Tick labels are what a person would write."""
    given = [0, 0.05, 2500, 1e9, 1.5e-7, -0.25, 0.1 + 0.2]
    assert [written(each) for each in given] == [
        "0",
        "0.05",
        "2,500",
        "1e9",
        "1.5e-7",
        "-0.25",
        "0.3",
    ]


@pytest.mark.parametrize("mode", [0, 1])
def test_lines_can_be_told_apart_from_the_paper(mode: int) -> None:
    """The name of each line has a contrast of 4.5 to the paper, and dashes of its own."""
    assert all(contrast(colours[mode], INK["paper"][mode]) >= 4.5 for colours, _ in LINES)
    assert len({dash for _, dash in LINES}) == len(LINES)
