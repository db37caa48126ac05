"""Intervals of benchmark scores: worked by hand where that is possible, else what must hold."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark_made import Talk, items
from fusechat.metrics.benchmark_bootstrap import (
    Scoring,
    clusters,
    constant_bounds,
    difference,
    estimate,
    expanded_level,
    resampled,
)
from fusechat.metrics.scoring import Items

MEAN = Scoring(lambda found: 100 * float(found.values.mean()), 100.0, plain=True, resamples=4000)
SLOW_MEAN = Scoring(MEAN.score, 100.0, plain=False, resamples=4000)
TALK = Scoring(Talk().score, 10.0, resamples=300)


def test_five_of_five_right_are_bounded_as_clopper_and_pearson_say() -> None:
    # 0.025^(1/5) = 0.4782: with 97.5% a share below it would have failed once.
    found = estimate(items([1.0] * 5), MEAN)
    assert found.interval is not None
    assert (found.value, found.n) == (100.0, 5)
    assert found.interval.low == pytest.approx(47.82, abs=0.01)
    assert found.interval.high == 100.0


def test_a_single_item_leaves_nearly_everything_open() -> None:
    found = estimate(items([0.0]), MEAN)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (0.0, pytest.approx(97.5))


def test_items_that_all_differ_alike_say_worse_only_from_six_on() -> None:
    # A sign test needs six losses of six: 2 * 0.5^5 = 0.0625, 2 * 0.5^6 = 0.03125.
    five = difference(items([0.0] * 5), items([1.0] * 5), MEAN)
    six = difference(items([0.0] * 6), items([1.0] * 6), MEAN)
    assert five.value == six.value == -100.0
    assert five.interval
    assert six.interval
    assert five.interval.high > 0 > six.interval.high


@pytest.mark.parametrize(("losses", "worse"), [(5, False), (6, True)])
def test_fewer_than_six_items_that_differ_are_never_beyond_chance(losses: int, worse: bool) -> None:
    # 40 items alike beside them: a bootstrap alone would call five losses of 45 a loss.
    left = items([1.0] * 40 + [0.0] * losses)
    right = items([1.0] * (40 + losses))
    for how in (MEAN, SLOW_MEAN):
        found = difference(left, right, how)
        assert found.interval is not None
        assert (found.interval.high < 0) == worse


def test_a_difference_of_nothing_has_an_interval_all_the_same() -> None:
    found = difference(items([1.0, 0.0, 1.0]), items([1.0, 0.0, 1.0]), MEAN)
    assert found.value == 0.0
    assert found.interval is not None
    # 1 - 0.025^(1/3) = 0.7076 of all items may say anything else.
    assert (found.interval.low, found.interval.high) == pytest.approx((-70.76, 70.76), abs=0.01)


def test_the_expanded_level_is_the_plain_one_of_many_items_and_smaller_of_few() -> None:
    # n = 2: t = 12.706, times sqrt(2) = 17.97 standard deviations.
    assert expanded_level(2) < 1e-60
    # n = 10: t = 2.2622 * sqrt(10/9) = 2.3846; Phi(-2.3846) = 0.00855.
    assert expanded_level(10) == pytest.approx(0.00855, abs=2e-5)
    assert expanded_level(100_000) == pytest.approx(0.025, abs=1e-5)


def test_only_items_that_both_models_have_a_verdict_for_are_compared() -> None:
    left = items([1.0, None, 1.0, 0.0], names=["a", "b", "c", "d"])
    right = items([0.0, 1.0, None, 0.0], names=["a", "b", "c", "d"])
    found = difference(left, right, MEAN)
    assert (found.value, found.n) == (50.0, 2)
    shuffled = right.take([3, 2, 1, 0])
    assert difference(left, shuffled, MEAN).value == 50.0


def test_without_any_verdict_there_is_no_number_and_a_reason() -> None:
    found = estimate(items([None, None]), MEAN)
    assert (found.value, found.interval, found.n) == (None, None, 0)
    assert found.why == "none of 2 items has a verdict"
    both = difference(items([None, 1.0]), items([1.0, None]), MEAN)
    assert (both.value, both.why) == (None, "no item has a verdict for both models")


def test_turns_of_one_conversation_are_drawn_together() -> None:
    found = items([1.0, 0.0, 1.0], names=["p", "q", "p#2"])
    assert [places.tolist() for places in clusters(found)] == [[0, 2], [1]]
    # Two conversations: of (p, p), (p, q), (q, p), (q, q) the means are 1, 2/3, 2/3, 0.
    seen = set(np.round(resampled(found, MEAN), 6))
    assert seen == {0.0, round(200 / 3, 6), 100.0}
    assert set(np.round(resampled(found, SLOW_MEAN), 6)) == seen


def test_the_fast_way_and_the_scores_own_way_give_the_same_interval() -> None:
    values = [float(v) for v in np.random.default_rng(3).integers(0, 3, 80) / 2]
    fast, slow = (estimate(items(values), how) for how in (MEAN, SLOW_MEAN))
    assert fast.value == slow.value
    assert fast.interval
    assert slow.interval
    assert fast.interval.low == pytest.approx(slow.interval.low, abs=1.5)
    assert fast.interval.high == pytest.approx(slow.interval.high, abs=1.5)


def test_the_interval_is_that_of_the_rows_own_number() -> None:
    # Three of four items are in one category: the mean of means weighs the fourth as much as them.
    found = items([1.0, 1.0, 0.0, 0.0], groups=["a", "a", "a", "b"])
    assert estimate(found, TALK).value == pytest.approx(10 * (2 / 3 + 0) / 2)


def test_pairing_makes_a_difference_narrower_than_two_intervals() -> None:
    values = np.random.default_rng(5).integers(0, 2, 200).astype(float)
    better = values.copy()
    better[:10] = 1.0
    found = difference(items(better.tolist()), items(values.tolist()), MEAN)
    one = estimate(items(values.tolist()), MEAN)
    assert found.interval
    assert one.interval
    width = found.interval.high - found.interval.low
    assert width < 0.6 * (one.interval.high - one.interval.low)


def test_a_score_that_cannot_be_made_is_no_number_and_no_crash() -> None:
    def fails(found: Items) -> float:
        if found.values.max() == found.values.min():
            raise ValueError("nothing to fit")
        warnings.warn("hard to fit", RuntimeWarning, stacklevel=1)
        return 50.0 + found.values.mean()

    broken = Scoring(fails, 100.0, resamples=50)
    assert estimate(items([1.0, 1.0]), broken).why == "no number can be made of these items"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = estimate(items([1.0, 0.0, 0.5]), broken)
    assert found.value == 50.5
    assert found.interval is not None


shares = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(values=shares)
def test_an_interval_holds_its_number_and_stays_on_the_scale(values: list[float]) -> None:
    for how in (MEAN, TALK):
        found = estimate(items(values), how)
        assert found.value is not None
        assert found.interval is not None
        assert 0.0 <= found.interval.low <= found.value <= found.interval.high <= how.scale + 1e-9


@settings(max_examples=40, deadline=None)
@given(values=shares, n=st.integers(1, 400))
def test_constant_bounds_hold_the_value_and_close_in(values: list[float], n: int) -> None:
    found, more = (constant_bounds(values[0], size, 0.0, 1.0) for size in (n, n + 1))
    assert 0.0 <= found.low <= values[0] <= found.high <= 1.0
    assert more.high - more.low < found.high - found.low + 1e-12
    assert math.isclose(found.high - found.low, 1 - 0.025 ** (1 / n))
