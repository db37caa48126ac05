from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.metrics.accuracy import Mean, Verdict, accuracy, average, mean, mean_interval
from fusechat.metrics.bootstrap import Interval, wilson

verdicts = st.one_of(
    st.sampled_from([0.0, 0.25, 1.0]).map(lambda value: Verdict("scored", value)),
    st.sampled_from(["cut", "empty", "unscorable", "error"]).map(Verdict),  # type: ignore[arg-type]
)


def scored(*values: float) -> list[Verdict]:
    return [Verdict("scored", value) for value in values]


def test_accuracy_is_over_scored_items_and_strict_counts_cut_and_empty_ones_as_not_solved() -> None:
    found = accuracy(
        [
            *scored(1, 1, 0),
            Verdict("cut"),
            Verdict("empty"),
            Verdict("unscorable"),
            Verdict("error"),
        ]
    )
    assert found.mean.value == pytest.approx(2 / 3)
    assert found.mean.n == 3
    assert found.strict.value == pytest.approx(2 / 5)
    assert found.strict.interval == wilson(2, 5)
    counts = (found.expected, found.scored, found.unscorable, found.errors, found.cut, found.empty)
    assert counts == (7, 3, 3, 1, 1, 1)


def test_a_model_cannot_win_in_the_strict_reading_by_not_finishing() -> None:
    runs_on = accuracy([*scored(1), *[Verdict("cut")] * 9])
    honest = accuracy(scored(*[1] * 5, *[0] * 5))
    assert runs_on.mean.value == 1.0
    assert runs_on.strict.value == 0.1 < (honest.strict.value or 0.0)


def test_a_mean_of_nothing_is_none_with_a_reason_and_never_zero() -> None:
    found = accuracy([Verdict("error"), Verdict("unscorable")])
    assert found.mean == Mean(None, None, 0, "none of 2 items was scored")
    assert found.strict.value is None


def test_only_cut_responses_give_a_strict_zero_but_no_accuracy() -> None:
    found = accuracy([Verdict("cut")] * 3)
    assert found.mean.value is None
    assert found.strict.value == 0.0


def test_fractional_values_have_a_bootstrap_interval_around_their_mean() -> None:
    values = [0.0, 0.5, 1.0, 0.25, 0.75] * 20
    found = mean_interval(values)
    # Standard error: sqrt(0.125/100) = 0.0354; 1.96 of it is 0.0693.
    assert found.low == pytest.approx(0.5 - 0.0693, abs=0.006)
    assert found.high == pytest.approx(0.5 + 0.0693, abs=0.006)


def test_equal_fractions_do_not_give_an_interval_of_no_width() -> None:
    found = mean_interval([0.3] * 10)
    assert found.low < 0.3 < found.high


@pytest.mark.parametrize("value", [-0.1, 1.5, 12.0])
def test_a_value_outside_zero_to_one_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        Verdict("scored", value)


@pytest.mark.parametrize(("outcome", "value"), [("scored", None), ("cut", 0.0)])
def test_a_verdict_has_a_value_only_where_it_was_scored(outcome, value) -> None:
    with pytest.raises(ValueError, match="if and only if"):
        Verdict(outcome, value)


@settings(max_examples=30)
@given(st.lists(verdicts, max_size=40))
def test_counts_add_up_and_strict_is_never_above_accuracy(given_verdicts: list[Verdict]) -> None:
    found = accuracy(given_verdicts)
    assert found.scored + found.unscorable + found.errors == found.expected == len(given_verdicts)
    assert found.cut + found.empty <= found.unscorable
    if found.mean.value is not None and found.mean.interval is not None:
        assert found.strict.value is not None
        assert found.strict.value <= found.mean.value + 1e-12
        assert found.mean.interval.low <= found.mean.value <= found.mean.interval.high


def test_the_average_weighs_each_task_the_same() -> None:
    small, large = mean([1.0], ""), mean([0.0] * 99, "")
    found = average([small, large])
    assert found.value == 0.5
    assert found.n == 2


def test_the_average_of_one_task_is_that_task() -> None:
    only = mean([1.0, 0.0, 0.0], "")
    assert average([only]).interval == Interval(
        pytest.approx(only.interval.low), pytest.approx(only.interval.high)
    )


def test_there_is_no_average_where_a_task_has_no_mean() -> None:
    found = average([mean([1.0], ""), mean([], "none")])
    assert found.value is None
    assert found.why == "1 tasks have no accuracy"
    assert average([]).why == "there is no task"
