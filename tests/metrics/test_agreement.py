"""How two judges agree: worked by hand, and what must hold whatever they say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.metrics.agreement import agreement, told

SHARE = st.floats(0, 1)


def test_same_sides_count_whole_and_a_draw_against_a_side_half() -> None:
    found = agreement([0.9, 0.1, 0.5, 0.5, 0.7], [0.6, 0.8, 0.5, 0.2, math.nan])
    assert found is not None
    # Of four pairs: same, other side, both draw, draw against a side.
    assert (found.n, found.same) == (4, (1 + 0 + 1 + 0.5) / 4)
    # Ours: 1/4 below, 2/4 draws, 1/4 above; theirs 1/4, 1/4, 2/4. Same by chance:
    # (1/4)(1/4 + 1/8 + 0) + (2/4)(1/8 + 1/4 + 1/4) + (1/4)(0 + 1/8 + 2/4) = 9/16.
    assert found.by_chance == pytest.approx(9 / 16)


def test_the_correlation_is_pearsons() -> None:
    found = agreement([0.0, 0.5, 1.0], [0.2, 0.2, 0.8])
    assert found is not None
    # Deviations (-.5, 0, .5) and (-.2, -.2, .4): 0.3 / sqrt(0.5 * 0.24) = 0.8660.
    assert found.correlation == pytest.approx(0.8660, abs=1e-4)
    assert found.correlation_interval is not None


def test_a_judge_who_says_the_same_of_all_has_no_correlation_and_no_pair_no_agreement() -> None:
    found = agreement([0.7, 0.7, 0.7], [0.2, 0.6, 0.9])
    assert found is not None
    assert (found.correlation, found.correlation_interval) == (None, None)
    assert agreement([math.nan], [0.4]) is None
    assert told([], [])["n"] == 0


@given(st.lists(st.tuples(SHARE, SHARE), min_size=1, max_size=30))
def test_agreement_is_a_share_blind_to_who_is_who_and_to_the_side(
    pairs: list[tuple[float, float]],
) -> None:
    left, right = [a for a, _ in pairs], [b for _, b in pairs]
    found, back = agreement(left, right), agreement(right, left)
    assert found is not None
    assert back is not None
    assert found.same_interval.low <= found.same <= found.same_interval.high
    assert 0 <= found.by_chance <= 1 + 1e-12
    assert (back.same, back.by_chance) == (found.same, pytest.approx(found.by_chance))
    itself = agreement(left, left)
    assert itself is not None
    assert itself.same == 1.0
    if found.correlation is not None:
        assert -1 <= found.correlation <= 1
