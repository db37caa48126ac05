"""What a look says, worked by hand."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.losses.dpo import Dpo
from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.losses.sft import Sft
from fusechat.training.examples import Example, Text
from fusechat.training.reference import Known
from fusechat.training.watch_numbers import (
    answer_numbers,
    chosen_place,
    held_out_numbers,
    kl_numbers,
)


def _row(lengths: tuple[int, ...], weight: float = 1.0) -> Example:
    texts = tuple(Text(np.zeros(2 + length, dtype=np.int32), 2) for length in lengths)
    return Example("p", texts, weight)


def _tensor(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


ROWS = [_row((2, 4)), _row((10, 5), weight=3.0)]
START = _tensor([[-4.0, -8.0], [-10.0, -5.0]])
NOW = _tensor([[-3.0, -10.0], [-20.0, -7.5]])
# Rises of a token: chosen +0.5 and -1, rejected -0.5 and -0.5. Margins 1 and -0.5.


def test_margins_and_shares_of_a_token_are_there_whatever_the_loss_compares() -> None:
    found = held_out_numbers(Dpo(beta=0.1), ROWS, NOW, START, Known(reference=START), progress=0.5)
    assert found["normalized_margins"] == pytest.approx(0.25)
    assert found["normalized_accuracies"] == 0.5
    # Of whole responses: 0.1 x (1 + 2) and 0.1 x (-10 + 2.5).
    assert found["margins"] == pytest.approx((0.3 - 0.75) / 2)
    assert found["accuracies"] == 0.5
    losses = [math.log(1 + math.exp(-0.3)), math.log(1 + math.exp(0.75))]
    assert found["loss"] == pytest.approx((losses[0] + 3 * losses[1]) / 2)
    assert found["logps_chosen"] == -11.5
    assert found["token_logps_chosen"] == pytest.approx((-1.5 - 2.0) / 2)
    assert found["lengths_rejected"] == 4.5


def test_a_loss_of_sums_and_one_of_tokens_say_the_same_of_a_token() -> None:
    sums, tokens = (
        held_out_numbers(loss, ROWS, NOW, START, Known(reference=START), progress=0.0)
        for loss in (Dpo(), LengthNormalizedDpo(beta=4.0))
    )
    assert tokens["normalized_margins"] == sums["normalized_margins"]
    assert tokens["margins"] == pytest.approx(4 * sums["normalized_margins"])


def test_where_nothing_has_moved_no_share_is_said() -> None:
    found = held_out_numbers(Dpo(), ROWS, START, START, Known(reference=START), progress=0.0)
    assert found["loss"] == pytest.approx(2 * math.log(2))  # weights 1 and 3, by 2 rows
    assert found["margins"] == 0.0
    assert not {"accuracies", "normalized_accuracies"} & set(found)


def test_sft_divides_by_all_tokens_and_has_no_margins() -> None:
    rows = [_row((2,)), _row((8,))]
    found = held_out_numbers(
        Sft(), rows, _tensor([[-1.0], [-9.0]]), _tensor([[-2.0], [-9.0]]), Known(), progress=0.0
    )
    assert found["loss"] == pytest.approx(1.0)
    assert found["token_logps_response"] == pytest.approx((-0.5 - 9 / 8) / 2)
    assert not any("margins" in name for name in found)


def test_of_several_chosen_sides_the_targets_own_is_compared() -> None:
    assert chosen_place(("chosen", "rejected")) == 0
    assert chosen_place(("source_chosen", "target_chosen", "rejected")) == 1


def test_one_runaway_answer_does_not_stand_for_all() -> None:
    found = answer_numbers([10, 10, 10, 160], [False, False, False, True], [10, 10, 10, 10])
    assert found["lengths_answer"] == 47.5
    assert found["length_ratio"] == pytest.approx(2.0)
    assert found["cut_answers"] == 0.25
    # log ratios 0, 0, 0, ln 16: deviation (ln 16) / 2, over the root of 4.
    assert found["log_length_ratio_error"] == pytest.approx(math.log(16) / 4)
    assert "log_length_ratio_error" not in answer_numbers([3], [False], [6])


def test_kl_is_what_the_first_answers_lost_for_each_of_their_tokens() -> None:
    found = kl_numbers([-10.0, -6.0], [-13.0, -7.0], [10, 6])
    assert found["kl"] == pytest.approx(4 / 16)
    assert found["kl_tokens"] == 16
    # Left over: 3 - 2.5 and 1 - 1.5; their squares sum to 0.5, times 2, root 1, over 16.
    assert found["kl_error"] == pytest.approx(1 / 16)
    assert "kl_error" not in kl_numbers([-1.0], [-2.0], [3])


def test_kl_of_many_drawn_answers_comes_near_the_exact_value_and_is_above_zero() -> None:
    """Two Markov-free models of two tokens a response: all 9 responses can be listed."""
    start, now = (0.5, 0.3, 0.2), (0.2, 0.3, 0.5)
    exact = sum(p * math.log(p / q) for p, q in zip(start, now, strict=True))
    listed = list(itertools.product(range(3), repeat=2))
    draw = random.Random(0)
    drawn = draw.choices(listed, [start[a] * start[b] for a, b in listed], k=4000)
    logs = [[math.log(model[a] * model[b]) for a, b in drawn] for model in (start, now)]
    found = kl_numbers(logs[0], logs[1], [2] * 4000)
    assert abs(found["kl"] - exact) < 3 * found["kl_error"] < 0.1 * exact


@given(st.lists(st.tuples(st.floats(-50, 0), st.integers(1, 30)), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_a_model_that_has_not_moved_has_no_divergence(rows: list[tuple[float, int]]) -> None:
    nats, tokens = [row[0] for row in rows], [row[1] for row in rows]
    found = kl_numbers(nats, nats, tokens)
    assert found["kl"] == 0.0
    assert found.get("kl_error", 0.0) == 0.0
