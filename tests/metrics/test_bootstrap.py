from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.metrics.bootstrap import (
    RESAMPLES,
    Interval,
    bootstrap_means,
    combine,
    percentiles,
    wilson,
)


def test_wilson_of_none_in_ten_reaches_the_known_upper_bound() -> None:
    # z^2/(n+z^2) with z = 1.959964, n = 10: 3.841459/13.841459.
    assert wilson(0, 10) == Interval(0.0, pytest.approx(0.2775328))


def test_wilson_of_half_is_symmetric_and_as_worked_by_hand() -> None:
    # p = 1/2, n = 4: half width z/(1+z^2/4) * sqrt(1/16 + z^2/64) = 0.349961.
    z = 1.959963984540054
    half = z / (1 + z * z / 4) * math.sqrt(1 / 16 + z * z / 64)
    found = wilson(2, 4)
    assert found.low == pytest.approx(0.5 - half)
    assert found.high == pytest.approx(0.5 + half)
    assert half == pytest.approx(0.349961, abs=1e-6)


@settings(max_examples=30)
@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_solves_its_defining_equation_and_holds_the_share(case: tuple[int, int]) -> None:
    successes, n = case
    share, found = successes / n, wilson(*case)
    assert 0.0 <= found.low <= share <= found.high <= 1.0
    assert found.low < found.high
    for bound in (found.low, found.high):
        if 0.0 < bound < 1.0:
            standard = math.sqrt(bound * (1 - bound) / n)
            assert abs(share - bound) / standard == pytest.approx(1.959964, rel=1e-4)


@pytest.mark.parametrize("case", [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_share(case: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no share"):
        wilson(*case)


def test_a_bootstrap_of_nothing_is_an_error_and_not_zero() -> None:
    with pytest.raises(ValueError, match="mean of nothing"):
        bootstrap_means([])


def test_the_bootstrap_has_the_spread_that_the_formula_gives() -> None:
    values = [0.0] * 60 + [1.0] * 40
    means = bootstrap_means(values)
    assert means.shape == (RESAMPLES,)
    assert float(means.mean()) == pytest.approx(0.4, abs=0.003)
    # The standard error of a share is sqrt(p(1-p)/n) = 0.04899.
    assert float(means.std()) == pytest.approx(math.sqrt(0.4 * 0.6 / 100), rel=0.03)


def test_many_distinct_values_give_the_spread_of_the_formula() -> None:
    values = list(np.random.default_rng(3).random(700))
    means = bootstrap_means(values)
    assert float(means.std()) == pytest.approx(np.std(values) / math.sqrt(700), rel=0.03)


@settings(max_examples=30)
@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=30), st.randoms())
def test_the_bootstrap_is_blind_to_order_and_stays_within_the_values(values, random) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    means = bootstrap_means(values)
    assert np.array_equal(means, bootstrap_means(shuffled))
    assert min(values) - 1e-9 <= means.min() <= means.max() <= max(values) + 1e-9


def test_strata_have_draws_of_their_own() -> None:
    values = [0.0, 1.0] * 20
    assert not np.array_equal(bootstrap_means(values, 0), bootstrap_means(values, 1))


def test_percentiles_cut_two_and_a_half_percent_off_each_side() -> None:
    assert percentiles(np.arange(1001) / 1000) == Interval(0.025, 0.975)


def test_the_mean_of_one_has_that_ones_interval() -> None:
    assert combine([0.4], [Interval(0.3, 0.6)]) == Interval(pytest.approx(0.3), pytest.approx(0.6))


def test_distances_add_up_as_variances_do() -> None:
    # Distances 0.3 and 0.4 below, 0.6 and 0.8 above: 0.5/2 and 1.0/2 around the mean 1.5.
    found = combine([1.0, 2.0], [Interval(0.7, 1.6), Interval(1.6, 2.8)])
    assert found == Interval(pytest.approx(1.25), pytest.approx(2.0))


def test_combining_refuses_means_without_intervals() -> None:
    with pytest.raises(ValueError, match="one interval for each mean"):
        combine([0.1, 0.2], [Interval(0.0, 1.0)])
