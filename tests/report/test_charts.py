from __future__ import annotations

import xml.etree.ElementTree as ET
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.report import charts, plots

finite = st.floats(-1e6, 1e6, allow_nan=False)


@given(finite, finite, st.integers(2, 8))
def test_an_axis_covers_its_values_in_even_steps(left: float, right: float, count: int) -> None:
    low, high = min(left, right), max(left, right)
    axis = charts.axis(low, high, count)
    slack = 1e-6 * max(1.0, high - low)
    assert axis.low <= low + slack
    assert axis.high >= high - slack
    steps = {
        round((b - a) / (axis.ticks[1] - axis.ticks[0]), 6)
        for a, b in zip(axis.ticks, axis.ticks[1:], strict=False)
    }
    assert steps == {1.0}
    assert len(axis.ticks) <= 2 * count + 3


def test_an_axis_has_round_ticks() -> None:
    assert charts.axis(-39, 71, 6).ticks == (-40, -20, 0, 20, 40, 60, 80)
    assert charts.axis(0.01, 0.098, 4).ticks == (0.0, 0.05, 0.1)


def test_a_constant_series_still_has_an_axis() -> None:
    axis = charts.axis(3.0, 3.0)
    assert axis.low < 3.0 < axis.high
    assert charts.axis(0.0, 0.0).low < 0.0


def test_places_are_percent_of_the_scale_and_never_beyond_it() -> None:
    axis = charts.axis(0, 100, 5)
    assert axis.percent(25) == "25.00%"
    assert axis.percent(-7) == "0.00%"
    assert axis.percent(1e9) == "100.00%"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-2.5, "−2.5"),
        (0.00002, "2e−5"),
        (12345, "12.3k"),
        (1000, "1,000"),
        (-1999.6, "−2,000"),
        (999.4, "999"),
        (2.5e6, "2.5M"),
        (0.1256, "0.126"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert charts.short(value) == text


def test_forty_eight_sources_look_different_each_from_the_others() -> None:
    looks = [charts.paint(number) for number in range(48)]
    assert looks[0] == "s0"
    assert looks[9] == "s1 p1"
    assert len(set(looks)) == 48
    style = resources.files("fusechat.report").joinpath("assets/report.css").read_text()
    for look in looks:
        assert all(f"span.{name} {{" in style for name in look.split())


def test_few_ticks_are_all_shown_on_narrow_pages_and_many_are_thinned() -> None:
    assert "minor" not in charts.tick_strip(charts.axis(-500, 500, 2))
    many = charts.tick_strip(charts.axis(0, 100, 10))
    assert many.count("minor") in (many.count("major") - 1, many.count("major"))


def test_a_chart_is_well_formed_and_escapes_its_names() -> None:
    line = plots.Series("<b>&", [(1, 0.5), (2, 0.25)], "main")
    found = ET.fromstring(plots.curves('a "<script>"', [line]))
    assert found.attrib["aria-label"] == 'a "<script>": <b>& from 0.5 to 0.25'
    assert found.find("polyline") is not None


def test_a_stacked_bar_says_its_numbers_in_words_and_shows_shares_of_the_whole() -> None:
    found = ET.fromstring(
        charts.stacked([("kept", 3, "good"), ("cut", 1, "warn"), ("x", 0, "bad")], "rows")
    )
    assert found.attrib["aria-label"] == "rows: kept 3, cut 1, x 0"
    assert [span.text for span in found] == ["75%", "25%"]


def test_a_stacked_bar_of_nearly_all_does_not_say_all() -> None:
    found = ET.fromstring(charts.stacked([("kept", 3999, "good"), ("cut", 1, "bad")], "rows"))
    assert [span.text for span in found] == [">99%", None]
    assert [span.attrib["title"] for span in found] == ["kept: 3,999 (>99%)", "cut: 1 (<1%)"]


@given(st.integers(1, 5000))
def test_thinning_keeps_the_ends_and_bounds_the_number(count: int) -> None:
    points = [(float(i), 0.0) for i in range(count)]
    kept = plots.thinned(points)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert len(kept) <= 301
