"""The length-controlled win rate: worked by hand, by its symmetries, and as published."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.metrics.alpaca_eval import STRENGTHS, USUAL, Gamed, length_controlled, plain

SILENT = Gamed(np.zeros(4), np.zeros(4), np.full(4, 0.5), {0: 0.0})
"""Gamed rows that say nothing: all their features are 0."""


def gamed(pairs: int = 20) -> Gamed:
    """The longer output is preferred; hard and easy instructions in turn."""
    hard = np.tile([0.4, -0.4], pairs)
    lengths = np.where(np.arange(2 * pairs) < pairs, -1.5, 1.5)
    liked = np.where(lengths < 0, 0.8, 0.2) + np.sign(hard) / 10
    return Gamed(lengths, hard, liked, dict(enumerate(hard[:pairs])))


def test_of_lengths_and_difficulties_that_say_nothing_only_the_penalty_moves_the_win_rate() -> None:
    # One weight c is left. Of n rows with mean preference p and strength C the optimum has
    # C n (sigma(c) - p) + sign(c) = 0, so sigma(c) = p - 1 / (C n): 0.8 - 1 / 10 = 0.7.
    liked = [0.8] * 10
    found = length_controlled(liked, [0] * 10, [0.0] * 10, SILENT, strength=1.0)
    assert found.length_controlled == pytest.approx(70.0, abs=0.05)
    assert found.weights[:2] == (0.0, 0.0)
    assert found.weights[2] == pytest.approx(np.log(0.7 / 0.3), abs=0.01)


def test_a_preference_weaker_than_the_penalty_is_none() -> None:
    # |p - 0.5| C n = 0.05 * 10 < 1: the penalty holds c at 0.
    found = length_controlled([0.55] * 10, [0] * 10, [0.0] * 10, SILENT, strength=1.0)
    assert found.length_controlled == 50.0


def test_a_model_that_wins_by_length_alone_wins_nothing() -> None:
    # It is longer by 100 characters or shorter by 100, and preferred as the gamed baselines are.
    shorter_by = np.tile([-100.0, 100.0], 200)
    liked = np.where(shorter_by < 0, 0.9, 0.3)
    found = length_controlled(liked, shorter_by, np.zeros(400), gamed(), USUAL)
    # tanh(+-1) a + c fits log(9) and log(3 / 7), so c = (2.197 - 0.847) / 2 = 0.675 where the
    # gamed rows did not pull; sigma(0.675) = 66.3, and the mean is 60.
    assert found.weights[0] < -1
    assert found.length_controlled == pytest.approx(66.3, abs=1.0)
    always = length_controlled(
        np.full(400, 0.8), np.linspace(-150, -50, 400), np.zeros(400), gamed(), USUAL
    )
    assert always.length_controlled < 80.0


@given(
    liked=st.lists(st.floats(0.02, 0.98), min_size=3, max_size=30),
    seed=st.integers(0, 999),
    strength=st.sampled_from([0.3, USUAL, 20.0]),
)
@settings(max_examples=25, deadline=None)
def test_from_the_other_side_it_is_the_rest_to_100(
    liked: list[float], seed: int, strength: float
) -> None:
    draw = np.random.default_rng(seed)
    length, hard = draw.normal(0, 300, len(liked)), draw.normal(0, 1, len(liked))
    here = gamed()
    there = Gamed(-here.lengths, -here.difficulty, 1 - here.preferences, {})
    one = length_controlled(liked, length, hard, here, strength).length_controlled
    other = length_controlled(1 - np.array(liked), -length, -hard, there, strength)
    assert 0 < one < 100
    assert one + other.length_controlled == pytest.approx(100.0, abs=0.1)


@given(st.permutations(range(12)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_the_items_moves_it_by_less_than_a_tenth(order: list[int]) -> None:
    draw = np.random.default_rng(7)
    liked, length, hard = draw.random(12), draw.normal(0, 99, 12), draw.normal(0, 1, 12)
    one = length_controlled(liked, length, hard, gamed(), USUAL)
    other = length_controlled(liked[order], length[order], hard[order], gamed(), USUAL)
    assert other.length_controlled == pytest.approx(one.length_controlled, abs=0.1)


def test_a_row_without_a_preference_is_not_fitted_but_its_difficulty_counts() -> None:
    liked, hard = [0.9, 0.6, np.nan], [0.0, 0.2, -5.0]
    with_it = length_controlled(liked, [0, 0, 0], hard, gamed(400), USUAL)
    without = length_controlled(liked[:2], [0, 0], hard[:2], gamed(400), USUAL)
    assert with_it.weights == without.weights
    assert with_it.length_controlled < without.length_controlled
    with pytest.raises(ValueError, match="no preference"):
        length_controlled([np.nan], [1], [0.0], gamed())


def test_one_item_and_items_of_one_length_are_no_fault() -> None:
    for n in (1, 5):
        found = length_controlled([0.7] * n, [30] * n, [0.0] * n, gamed())
        assert 0 < found.length_controlled < 100
        assert found.strength in STRENGTHS


def test_the_plain_win_rate_counts_a_draw_as_half() -> None:
    found = plain([1.0, 0.5, 0.0, 0.75])
    assert (found.win_rate, found.discrete) == (56.25, 62.5)
    assert (found.wins, found.losses, found.draws) == (2, 1, 1)
    # Deviations 0.4375, -0.0625, -0.5625, 0.1875: squares sum to 0.546875; / 3 / 4, root: 0.21348.
    assert found.standard_error == pytest.approx(21.348, abs=0.001)
    assert plain([0.3]).standard_error is None


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"index": "0", "std_delta_len": "1"}, "row 1 of it cannot be read"),
        ({"std_delta_len": "x"}, "cannot be read"),
        ({"preference": "2"}, "number that cannot be"),
        ({"std_delta_len": "nan"}, "number that cannot be"),
    ],
)
def test_gamed_rows_that_are_none_are_refused(row: dict[str, str], words: str) -> None:
    whole = {
        "index": "0", "std_delta_len": "1", "instruction_difficulty": "0", "preference": "0.5"
    }  # fmt: skip
    given_row = row if len(row) == 2 else whole | row
    with pytest.raises(ValueError, match=words):
        Gamed.of([given_row])
    with pytest.raises(ValueError, match="no rows"):
        Gamed.of([])


def test_the_published_judgments_give_the_published_figures(shared_data: Path) -> None:
    name = "alpaca_eval_annotations_FuseChat-Llama-3.1-8B-Instruct.json"
    rows = json.loads((shared_data / "judge" / name).read_text(encoding="utf-8"))
    with (shared_data / "judge/alpaca_eval_df_gamed.csv").open() as handle:
        known = Gamed.of(csv.DictReader(handle))
    liked = np.array([row["preference"] for row in rows]) - 1
    shorter_by = np.array([len(row["output_1"]) - len(row["output_2"]) for row in rows])
    hard = np.array([known.of_instruction[at] for at in range(805)])
    found = length_controlled(liked, shorter_by, hard, known)
    assert round(found.length_controlled, 4) == 65.3862
    assert round(plain(liked).win_rate, 4) == 63.3316
    assert found.strength == USUAL
    # A resample with the usual strength in the place of its own choice.
    at = np.random.default_rng(1).integers(0, 805, 805)
    own = length_controlled(liked[at], shorter_by[at], hard[at], known)
    usual = length_controlled(liked[at], shorter_by[at], hard[at], known, USUAL)
    assert usual.length_controlled == pytest.approx(own.length_controlled, abs=0.2)
