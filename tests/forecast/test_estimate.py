"""Extrapolation: means, spreads and intervals worked by hand, and their coverage."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.forecast.estimate import Estimate, Stratum, across, student, total, wilson


def test_a_sum_over_other_prompts_is_the_mean_times_their_rows() -> None:
    # Three prompts of mean 10, 20 and 30 tokens: mean 20, spread 10, error 10 / sqrt(3).
    found = Stratum.of([10.0, 20.0, 30.0]).over(100)
    assert found.value == 2000
    assert found.half == pytest.approx(100 * 4.302653 * 10 / math.sqrt(3))


def test_one_prompt_gives_a_number_without_an_interval() -> None:
    found = Stratum.of([7.0]).over(10)
    assert (found.value, found.half, found.low, found.high) == (70, None, None, None)


def test_strata_add_up_by_their_own_rows_with_independent_errors() -> None:
    one, two = Stratum(4, 10.0, 2.0), Stratum(4, 100.0, 20.0)
    found = across([(one, 30), (two, 5)])
    halves = [30 * student(3) * 1.0, 5 * student(3) * 10.0]
    assert found.value == 800
    assert found.half == pytest.approx(math.hypot(*halves))


def test_a_total_over_sources_takes_the_wide_side() -> None:
    assert total([Estimate(1, 2), Estimate(10, 3)]) == Estimate(11, 5)
    assert total([Estimate(1, 2), Estimate(10, None)]).half is None
    assert total([]) == Estimate(0, 0)


def test_students_quantile_is_that_of_the_tables() -> None:
    tables = {1: 12.7062, 2: 4.30265, 3: 3.18245, 4: 2.77645, 5: 2.57058, 9: 2.26216, 29: 2.04523}
    for freedom, value in tables.items():
        assert student(freedom) == pytest.approx(value, rel=2e-3)


def test_wilsons_interval_of_3_in_10_is_that_of_the_books() -> None:
    found = wilson(3, 10)  # 0.1078 to 0.6032: Newcombe 1998's method 3 at 95%
    assert found.low == pytest.approx(0.1078, abs=1e-4)
    assert found.high == pytest.approx(0.6032, abs=1e-4)


@given(st.integers(1, 200), st.data())
def test_a_share_is_inside_its_interval_which_is_never_empty(
    count: int, data: st.DataObject
) -> None:
    hits = data.draw(st.integers(0, count))
    found = wilson(hits, count)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high > found.low


def test_no_share_of_nothing() -> None:
    with pytest.raises(ValueError, match="0 of 0"):
        wilson(0, 0)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    draw, inside = random.Random(0), 0
    for _ in range(2000):
        found = Stratum.of([draw.gauss(300, 80) for _ in range(12)]).over(1)
        assert found.half is not None
        inside += abs(found.value - 300) <= found.half
    assert 0.935 <= inside / 2000 <= 0.965
