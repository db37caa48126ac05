"""Which curves count as drifting, and that those of an ordinary run do not."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.training.drift import (
    CHOSEN_FALL,
    KL_BOUND,
    MARGIN_RESPONSE,
    Drift,
    find_drift,
    gradient_spikes,
)


def _look(step: int, **numbers: float) -> dict[str, Any]:
    usual = {
        "held_out_rows": 100, "held_out_accuracies": 0.6, "held_out_token_logps_chosen": -0.5,
        "held_out_normalized_margins": 0.05, "held_out_lengths_rejected": 200.0,
        "answers": 16, "lengths_answer": 200.0, "length_ratio": 1.0,
        "log_length_ratio_error": 0.05, "cut_answers": 0.1, "kl": 0.02, "kl_error": 0.005,
    }  # fmt: skip
    return {"step": step, **usual, **numbers}


def _line(step: int, **numbers: float) -> dict[str, Any]:
    usual = {"grad_norm": 3.0, "accuracies": 0.7, "normalized_margins": 0.05, "loss": 0.6}
    return {"step": step, **usual, "lengths_rejected": 200.0, **numbers}


def _kinds(found: list[Drift]) -> list[str]:
    return [one.kind for one in found]


def test_an_ordinary_run_drifts_in_nothing() -> None:
    lines = [_line(step, grad_norm=3.0 + step % 7) for step in range(1, 200)]
    assert find_drift(lines, [_look(step) for step in range(0, 200, 20)]) == []


def test_no_curves_or_one_look_say_nothing() -> None:
    assert find_drift([], []) == []
    assert find_drift([], [_look(0, kl=9.0, length_ratio=9.0, cut_answers=1.0)]) == []


def test_chosen_responses_that_fall_and_fall_are_told_with_what_they_fell_by() -> None:
    curve = [-0.5, -0.6, -0.8, -1.1]
    looks = [_look(10 * n, held_out_token_logps_chosen=v) for n, v in enumerate(curve)]
    (found,) = find_drift([], looks)
    assert (found.kind, found.step, found.last) == ("chosen_falls", 20, 30)
    assert "0.60 nats a token less likely" in found.text
    assert "a lower learning_rate" in found.advice


def test_a_fall_that_was_halted_is_told_with_the_steps_at_which_it_fell() -> None:
    curve = [-0.5, -0.9, -0.85, -0.8]
    looks = [_look(10 * n, held_out_token_logps_chosen=v) for n, v in enumerate(curve)]
    (found,) = find_drift([], looks)
    assert (found.step, found.last) == (10, 10)


@given(
    st.lists(st.floats(-3.0, 0.0), min_size=2, max_size=6),
    st.floats(0.0, CHOSEN_FALL * 0.99),
)
@settings(max_examples=60, deadline=None)
def test_a_curve_that_never_falls_far_below_its_start_is_no_drift(
    curve: list[float], fall: float
) -> None:
    kept = [max(value, curve[0] - fall) for value in curve]
    looks = [_look(n, held_out_token_logps_chosen=v) for n, v in enumerate(kept)]
    assert find_drift([], looks) == []


@pytest.mark.parametrize(
    ("ratio", "error", "wanted"),
    [
        (2.4, 0.05, ["length_runs"]), (0.4, 0.05, ["length_runs"]), (1.9, 0.0, []), (0.51, 0.0, []),
        # ln 2.4 - 2 x 0.2 = ln 1.61: too few answers to tell that from less than twice.
        (2.4, 0.2, []), (0.4, 0.2, []),
    ],
)  # fmt: skip
def test_answers_half_or_twice_as_long_beyond_chance_are_told(
    ratio: float, error: float, wanted: list[str]
) -> None:
    looks = [_look(0), _look(9, length_ratio=ratio, log_length_ratio_error=error)]
    assert _kinds(find_drift([], looks)) == wanted
    few = [_look(0), _look(9, length_ratio=ratio, log_length_ratio_error=error, answers=3)]
    assert find_drift([], few) == []


def test_answers_that_no_longer_end_are_told_only_where_they_used_to() -> None:
    (found,) = find_drift([], [_look(0, cut_answers=0.1), _look(5, cut_answers=0.5)])
    assert found.kind == "answers_do_not_end"
    assert "50% of the answers" in found.text
    assert "(10% before training)" in found.text
    assert find_drift([], [_look(0, cut_answers=0.8), _look(5, cut_answers=0.9)]) == []


def test_kl_is_told_where_it_is_above_its_bound_beyond_its_error() -> None:
    high = [_look(0), _look(5, kl=KL_BOUND + 0.1, kl_error=0.04)]
    assert _kinds(find_drift([], high)) == ["kl_is_large"]
    assert find_drift([], [_look(0), _look(5, kl=KL_BOUND + 0.1, kl_error=0.06)]) == []


@pytest.mark.parametrize(
    ("right", "rows", "wanted"),
    [
        # P(X <= 39) of 100 for a coin is 0.018, P(X <= 40) is 0.028; of 5 pairs none says 0.031.
        (39, 100, ["worse_than_a_coin"]), (40, 100, []), (0, 5, []), (0, 6, ["worse_than_a_coin"]),
    ],
)  # fmt: skip
def test_fewer_pairs_ranked_right_than_a_coin_would_are_told(
    right: int, rows: int, wanted: list[str]
) -> None:
    looks = [_look(step, held_out_rows=rows, held_out_accuracies=right / rows) for step in (0, 9)]
    assert _kinds(find_drift([], looks)) == wanted


def test_pairs_learnt_by_heart_are_told_only_while_training_pairs_hold() -> None:
    looks = [_look(0), _look(20, held_out_accuracies=0.8), _look(40, held_out_accuracies=0.55)]
    rising = [_line(step, accuracies=step / 40) for step in range(1, 41)]
    falling = [_line(step, accuracies=1 - step / 40) for step in range(1, 41)]
    (found,) = find_drift(rising, looks)
    assert (found.kind, found.step) == ("learnt_by_heart", 40)
    assert "55% are ranked right, down from 80%" in found.text
    assert find_drift(falling, looks) == []
    # Of 20 pairs, 0.25 is less than two standard errors (0.15 each).
    assert find_drift(rising, [{**look, "held_out_rows": 20} for look in looks]) == []


def test_margins_that_no_loss_asks_for_are_told_of_training_and_held_out_rows() -> None:
    lines = [_line(step, normalized_margins=step / 10) for step in range(1, 31)]
    (found,) = find_drift(lines, [])
    # The mean of ten steps up to s is (s - 4.5) / 10, above 1 from step 15 on.
    assert (found.kind, found.step, found.last) == ("margins_explode", 15, 30)
    looks = [_look(0), _look(8, held_out_normalized_margins=1.2)]
    assert _kinds(find_drift([], looks)) == ["margins_explode"]


def test_short_responses_may_be_further_apart_for_each_token() -> None:
    margin = 0.9 * MARGIN_RESPONSE / 20
    lines = [_line(s, normalized_margins=margin, lengths_rejected=20.0) for s in range(1, 31)]
    assert find_drift(lines, []) == []


def test_spikes_are_told_where_there_are_enough_of_them() -> None:
    norms = dict.fromkeys(range(1, 101), 3.0)
    one = [_line(s, grad_norm=n) for s, n in (norms | {50: 90.0}).items()]
    two = [_line(s, grad_norm=n) for s, n in (norms | {50: 90.0, 70: 60.0}).items()]
    assert find_drift(one, []) == []
    (found,) = find_drift(two, [])
    assert (found.kind, found.step, found.last) == ("gradient_spikes", 50, 70)
    assert "2 steps had a gradient more than 10 times" in found.text
    assert "step 50: 30 times" in found.text


@given(st.lists(st.floats(0.5, 4.9), max_size=120))
@settings(max_examples=40, deadline=None)
def test_norms_within_a_factor_of_ten_are_no_spikes(norms: list[float]) -> None:
    lines = [_line(step, grad_norm=norm) for step, norm in enumerate(norms, 1)]
    assert list(gradient_spikes(lines)) == []


@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_whatever_the_curves_are_what_is_found_stays_found_as_the_run_goes_on(
    seed: int, steps: int, looks: int
) -> None:
    draw = random.Random(seed)
    lines = [
        _line(s, normalized_margins=draw.uniform(0, 2), grad_norm=math.exp(draw.gauss(0, 2)))
        for s in range(1, steps + 1)
    ]
    seen = [
        _look(
            10 * n, kl=draw.uniform(0, 1), length_ratio=math.exp(draw.gauss(0, 1)),
            held_out_token_logps_chosen=draw.uniform(-2, 0), held_out_accuracies=draw.random(),
        )
        for n in range(looks)
    ]  # fmt: skip
    whole = find_drift(lines, seen)
    assert _kinds(whole) == list(dict.fromkeys(_kinds(whole)))
    assert [one.step for one in whole] == sorted(one.step for one in whole)
    assert all(one.step <= one.last and one.text.endswith(".") and one.advice for one in whole)
    before = {one.kind: one.step for one in find_drift(lines, seen[:-1])}
    after = {one.kind: one.step for one in whole}
    assert before == {kind: after[kind] for kind in before}


def test_curves_of_sft_have_no_pairs_and_may_drift_all_the_same() -> None:
    lines = [{"step": s, "loss": 1.0, "grad_norm": 1.0} for s in range(1, 30)]
    curve = [-1.0, -1.3, -1.9]
    looks = [
        {"step": 10 * n, "held_out_rows": 50, "held_out_token_logps_response": value}
        for n, value in enumerate(curve)
    ]
    assert _kinds(find_drift(lines, looks)) == ["chosen_falls"]


def test_a_drift_is_plain_json_in_a_manifest() -> None:
    drift = Drift("kl_is_large", 3, 9, "It is.", ("less", "more"))
    assert drift.plain() == {
        "kind": "kl_is_large", "step": 3, "last": 9, "text": "It is.", "advice": ["less", "more"],
    }  # fmt: skip
