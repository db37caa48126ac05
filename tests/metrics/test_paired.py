from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.metrics.accuracy import Outcome, Verdict
from fusechat.metrics.paired import average_difference, item_differences, paired_difference


def by_item(*values: float | Outcome) -> dict[str, Verdict]:
    return {
        f"item{i}": Verdict(value) if isinstance(value, str) else Verdict("scored", value)
        for i, value in enumerate(values)
    }


def test_items_differ_by_their_strict_values_and_errors_stay_out() -> None:
    model = by_item(1, 1, 0, "cut", "error", "cut", "unscorable")
    against = by_item(1, 0, 1, 1, 1, "empty", 1)
    found = item_differences(model, against)
    assert found == {"item0": 0, "item1": 1, "item2": -1, "item3": -1, "item5": 0}


def test_a_cut_response_is_a_loss_for_its_own_model() -> None:
    found = paired_difference(by_item(1, "cut", "cut"), by_item(1, 1, 1))
    assert found.value == pytest.approx(-2 / 3)
    assert found.n == 3


def test_items_of_only_one_model_stay_out() -> None:
    found = paired_difference(by_item(1, 1, 1), by_item(0))
    assert (found.value, found.n) == (1.0, 1)


def test_without_a_common_item_there_is_no_difference_and_a_reason() -> None:
    found = paired_difference(by_item("error"), by_item(1))
    assert (found.value, found.interval, found.n) == (None, None, 0)
    assert found.why == "no item was judged for both models"


def test_the_interval_has_the_width_of_the_formula_for_paired_shares() -> None:
    # 30 gains, 10 losses of 100: mean 0.2, variance 0.4 - 0.04 = 0.36, standard error 0.06.
    found = average_difference([[1.0] * 30 + [-1.0] * 10 + [0.0] * 60])
    assert found.value == pytest.approx(0.2)
    assert found.interval.low == pytest.approx(0.2 - 1.96 * 0.06, abs=0.012)
    assert found.interval.high == pytest.approx(0.2 + 1.96 * 0.06, abs=0.012)


def test_pairing_makes_the_interval_narrower_than_two_separate_ones() -> None:
    model, against = by_item(*[1] * 55, *[0] * 45), by_item(*[1] * 50, *[0] * 50)
    found = paired_difference(model, against)
    separate = 1.96 * math.sqrt(0.55 * 0.45 / 100 + 0.25 / 100)
    assert found.interval.high - found.interval.low < separate


def test_models_that_agree_on_every_item_do_not_get_an_interval_of_no_width() -> None:
    # z * sqrt(2) / (n + 2) = 1.959964 * 1.414214 / 10 for 8 items.
    found = paired_difference(by_item(*[1] * 8), by_item(*[1] * 8))
    assert found.value == 0.0
    assert found.interval.high == pytest.approx(0.2771808)
    assert found.interval.low == pytest.approx(-0.2771808)


def test_the_average_weighs_tasks_the_same_and_resamples_within_them() -> None:
    # Means 0.5 (n 100) and 0 (n 400): average 0.25. Variances of the means: 0.25/100 and 1/400;
    # of their average: (0.0025 + 0.0025)/4, standard error 0.035355.
    tasks = [[1.0] * 50 + [0.0] * 50, [1.0] * 200 + [-1.0] * 200]
    found = average_difference(tasks)
    assert found.value == pytest.approx(0.25)
    assert found.n == 500
    assert found.interval.high == pytest.approx(0.25 + 1.96 * 0.035355, abs=0.005)
    assert found.interval.low == pytest.approx(0.25 - 1.96 * 0.035355, abs=0.005)


def test_the_average_over_one_task_is_that_tasks_own_difference() -> None:
    model, against = by_item(1, 0, 1, 1), by_item(0, 0, 1, 1)
    differences = list(item_differences(model, against).values())
    assert average_difference([differences]) == paired_difference(model, against)


def test_a_task_without_common_items_leaves_no_average() -> None:
    found = average_difference([[1.0, 0.0], []])
    assert found.value is None
    assert found.why == "no item was judged for both models in 1 of 2 tasks"


@settings(max_examples=30)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=20), st.randoms())
def test_swapping_the_models_flips_the_sign_and_bounds_hold_the_mean(values, random) -> None:
    others = list(values)
    random.shuffle(others)
    there = paired_difference(by_item(*values), by_item(*others))
    back = paired_difference(by_item(*others), by_item(*values))
    assert there.value == pytest.approx(-back.value)
    assert there.interval.low - 1e-9 <= there.value <= there.interval.high + 1e-9
