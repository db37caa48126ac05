from __future__ import annotations

import math
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from fusechat.report import plots
from fusechat.report.plots import Counts, Mark

COUNTS = st.lists(st.integers(0, 10**7), min_size=1, max_size=30)


def drawn(picture: str, tag: str) -> list[ET.Element]:
    return ET.fromstring(picture).findall(tag)


@given(COUNTS, st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_bars_are_as_high_as_their_counts_and_inside_the_picture(
    counts: list[int], first: float, step: float
) -> None:
    edges = [first + step * number for number in range(len(counts) + 1)]
    bars = drawn(plots.histogram("x", edges, counts, None, None), "rect")
    heights = [float(bar.attrib["height"]) for bar in bars]
    for bar, height in zip(bars, heights, strict=True):
        assert 0 <= height <= plots.HEIGHT
        assert 0 <= float(bar.attrib["x"]) <= plots.WIDTH
    most = max(counts)
    for count, height in zip(counts, heights, strict=True):
        if most:
            assert math.isclose(height, max(heights) * count / most, abs_tol=0.11)


def test_bars_inside_the_window_have_its_colour_and_the_ends_are_lines() -> None:
    low, high = Mark(1.0, "least 1"), Mark(3.0, "most 3")
    picture = plots.histogram("x", [0, 1, 2, 3, 4], [5, 6, 7, 8], low, high)
    assert [bar.attrib["class"] for bar in drawn(picture, "rect")] == ["out", "in", "in", "out"]
    lines = [e for e in drawn(picture, "line") if e.attrib["class"] == "mark"]
    bars = drawn(picture, "rect")
    at = [float(line.attrib["x1"]) for line in lines]
    assert math.isclose(at[0], float(bars[1].attrib["x"]), abs_tol=1)
    assert math.isclose(at[1], float(bars[3].attrib["x"]), abs_tol=1)


def test_an_end_that_lies_outside_the_picture_has_an_arrow_and_no_line() -> None:
    picture = plots.histogram("x", [0, 1, 2], [5, 6], Mark(-1, "least -1"), Mark(100.0, "most 100"))
    assert "most 100 →" in picture
    assert "← least -1" in picture
    assert not [e for e in drawn(picture, "line") if e.attrib["class"] == "mark"]
    assert [bar.attrib["class"] for bar in drawn(picture, "rect")] == ["in", "in"]


def test_labels_and_marks_are_escaped() -> None:
    found = ET.fromstring(plots.histogram('a "<b>', [0, 1], [1], Mark(0.5, "<i>"), None))
    assert found.attrib["aria-label"] == 'a "<b>'
    assert "<i>" in [text.text for text in found.findall("text")]


def test_a_line_is_cut_where_the_picture_ends_between_two_points() -> None:
    line = Counts([0.0, 1.0, 3.0], [0, 10, 30], "upper")
    (drawn_line,) = drawn(plots.thresholds("x", [line], 40, (0.5, 2.0), []), "polyline")
    places = [tuple(map(float, p.split(","))) for p in drawn_line.attrib["points"].split()]
    # At 0.5 the line stands at 5, at 2.0 at 20; 40 is the top of the axis.
    floor, top = plots.HEIGHT - 24, 10
    wanted = [floor - (floor - top) * count / 40 for count in (5, 10, 20)]
    assert len(places) == 3
    for (_, y), right in zip(places, wanted, strict=True):
        assert math.isclose(y, right, abs_tol=0.1)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=40), st.floats(0.0, 1.0))
def test_no_line_leaves_the_picture(counts: list[int], mark: float) -> None:
    at = [number / len(counts) for number in range(len(counts))]
    line = Counts(at, counts, "lower")
    found = plots.thresholds("x", [line], 1000, (0.1, 0.9), [Mark(mark, "now")])
    for element in drawn(found, "polyline"):
        for place in element.attrib["points"].split():
            x, y = map(float, place.split(","))
            assert 0 <= x <= plots.WIDTH
            assert 0 <= y <= plots.HEIGHT
