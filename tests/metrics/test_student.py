"""Student's t interval of few runs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.metrics.student import interval, t_quantile


@pytest.mark.parametrize(
    ("freedom", "known"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042)]
)
def test_quantiles_are_those_of_the_printed_table(freedom: int, known: float) -> None:
    assert round(t_quantile(freedom), 3) == known


def test_the_interval_of_three_values_worked_by_hand() -> None:
    # Mean 2, standard deviation 1, t of 2 degrees 4.303: 2 ± 4.303 / sqrt(3) = 2 ± 2.484.
    low, high = interval([1.0, 2.0, 3.0])
    assert (low, high) == (pytest.approx(-0.484, abs=1e-3), pytest.approx(4.484, abs=1e-3))


def test_one_value_has_no_interval() -> None:
    assert interval([1.0]) == (None, None)
    assert interval([]) == (None, None)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.floats(-5, 5))
def test_the_interval_lies_around_the_mean_and_moves_with_it(
    values: list[float], shift: float
) -> None:
    low, high = interval(values)
    moved = interval([value + shift for value in values])
    assert low is not None
    assert high is not None
    assert (low + high) / 2 == pytest.approx(math.fsum(values) / len(values), abs=1e-9)
    assert moved == (pytest.approx(low + shift, abs=1e-6), pytest.approx(high + shift, abs=1e-6))
