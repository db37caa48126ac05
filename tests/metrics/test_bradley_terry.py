"""Bradley-Terry win rates against one baseline: by hand, against the fit, mirrored."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.metrics import bradley_terry as bt

BATTLES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([1, 3])), min_size=1, max_size=40
)
COUNTS = st.tuples(*[st.integers(0, 50)] * 4)
STYLED = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([1, 3]), COUNTS, COUNTS),
    min_size=2,
    max_size=20,
)


def test_a_strong_win_a_win_a_tie_and_a_loss_are_three_quarters() -> None:
    # (3 * 1 + 1 * 1 + 1 * 0.5 + 1 * 0) / (3 + 1 + 1 + 1) = 4.5 / 6
    assert bt.win_rate([1, 1, 0.5, 0], [3, 1, 1, 1]) == 0.75


def test_the_closed_form_is_the_maximum_of_the_likelihood_that_arena_hard_fits() -> None:
    # As published: battles twice, +log 10 in the baseline's column, -log 10 in the model's, and a
    # tie once won and once lost. Baseline's wins: 1 of weight 3, 2 of weight 1; 1 tie; model's: 2.
    baseline_won = [1, 1, 1, 1, 1, 0, 0]
    y = np.array([*baseline_won, 1.0, *baseline_won, 0.0])
    x = np.tile([math.log(10), -math.log(10)], (len(y), 1))
    found = bt.logistic_fit(x, y, np.ones(len(y)), np.full(2, 1e-12))
    against = 1 / (1 + 10 ** (found[0] - found[1]))
    assert against == pytest.approx(2.5 / 8, abs=1e-9)
    assert bt.win_rate([0, 0, 0, 0.5, 1, 1], [3, 1, 1, 1, 1, 1]) == pytest.approx(against, abs=1e-9)


def test_no_battle_is_no_win_rate() -> None:
    with pytest.raises(ValueError, match="one battle at least"):
        bt.win_rate([], [])
    with pytest.raises(ValueError, match="one weight for each"):
        bt.win_rate([1.0, 0.0], [1.0])


@given(BATTLES)
def test_the_other_side_has_the_rest_and_weights_are_copies(
    battles: list[tuple[float, int]],
) -> None:
    shares, weights = [share for share, _ in battles], [weight for _, weight in battles]
    found = bt.win_rate(shares, weights)
    assert min(shares) - 1e-12 <= found <= max(shares) + 1e-12
    assert bt.win_rate([1 - share for share in shares], weights) == pytest.approx(1 - found)
    copies = [share for share, weight in battles for _ in range(weight)]
    assert bt.win_rate(copies, [1] * len(copies)) == pytest.approx(found)
    one, other = bt.interval(shares, weights), bt.interval(copies[::-1], [1] * len(copies))
    assert (one.low, one.high) == (other.low, other.high)


def test_the_interval_is_about_two_standard_errors_wide_and_empty_where_all_agree() -> None:
    # 300 of 600 single battles won: a standard error of sqrt(0.25 / 600) = 0.0204.
    found = bt.interval([1.0] * 300 + [0.0] * 300, [1] * 600)
    assert found.low == pytest.approx(0.5 - 1.96 * 0.0204, abs=0.012)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.0204, abs=0.012)
    same = bt.interval([1.0, 1.0], [3, 1])
    assert (same.low, same.high) == (1.0, 1.0)


def test_where_nothing_differs_in_style_the_controlled_win_rate_is_the_plain_one() -> None:
    shares, weights = [1.0] * 90 + [0.0] * 30, [1] * 120
    style = [(100, 2, 3, 4)] * 120
    found = bt.style_controlled(shares, weights, style, style)
    # theta = log 3 but for the tiny penalty on it; the four weights have nothing to weigh.
    assert found.value == pytest.approx(0.75, abs=1e-3)
    assert found.weights == (0, 0, 0, 0)
    assert found.interval is not None
    assert found.interval.low < 0.75 < found.interval.high


def test_a_model_that_wins_only_where_it_is_longer_loses_its_lead_at_equal_length() -> None:
    # Longer (3 to 1): 80 of 100 won. As long as the baseline: 20 of 100. 50 per cent in all.
    long, same = (299, 0, 0, 0), (99, 0, 0, 0)
    shares = [1.0] * 80 + [0.0] * 20 + [1.0] * 20 + [0.0] * 80
    found = bt.style_controlled(shares, [1] * 200, [long] * 100 + [same] * 100, [same] * 200)
    assert found.value == pytest.approx(0.2, abs=0.01)
    # log(4) - log(1 / 4) = 4 log 2 over two standard deviations of the term (0 or 0.5012).
    assert found.weights[0] == pytest.approx(2 * math.log(2), rel=0.02)
    assert found.weights[1:] == (0, 0, 0)


def test_a_model_that_is_always_as_much_longer_has_no_controlled_win_rate() -> None:
    found = bt.style_controlled(
        [1.0, 0.0] * 10, [1] * 20, [(200, 0, 0, 0)] * 20, [(100, 0, 0, 0)] * 20
    )
    assert found.value is None
    assert found.interval is None
    assert found.why == "the responses differ much the same everywhere: length"


def test_style_is_weighed_as_scikit_learn_weighs_it_in_arena_hards_own_form() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    draw = np.random.default_rng(0)
    most = [3000, 8, 20, 15]
    mine, theirs = draw.integers(0, most, (150, 4)), draw.integers(0, most, (150, 4))
    shares, weights = draw.choice([0.0, 0.5, 1.0], 150, p=[0.3, 0.1, 0.6]), draw.choice([1, 3], 150)
    found = bt.style_controlled(shares, weights, mine.tolist(), theirs.tolist())
    # The baseline is player A; strong battles stand there three times, and all of them twice.
    each = np.repeat(np.arange(150), weights)
    terms = ((theirs - mine) / (mine + theirs + 1))[each]
    players = np.tile([math.log(10), -math.log(10)], (len(each), 1))
    x = np.tile(np.column_stack([players, terms / terms.std(axis=0)]), (2, 1))
    lost = 1 - shares[each]
    y = np.concatenate([lost >= 0.5, lost > 0.5])
    fit = linear_model.LogisticRegression(fit_intercept=False, tol=1e-10, max_iter=10_000)
    strengths = fit.fit(x, y).coef_[0]
    theirs_won = 1 / (1 + 10 ** (strengths[1] - strengths[0]))
    assert found.value == pytest.approx(1 - theirs_won, abs=1e-5)
    assert found.weights == pytest.approx(strengths[2:].tolist(), abs=1e-4)


@settings(deadline=None, max_examples=25)
@given(STYLED)
def test_swapping_the_sides_mirrors_the_controlled_win_rate(
    rows: list[tuple[float, int, tuple[int, ...], tuple[int, ...]]],
) -> None:
    shares, weights, mine, theirs = map(list, zip(*rows, strict=True))
    found = bt.style_controlled(shares, weights, mine, theirs)
    mirror = bt.style_controlled([1 - share for share in shares], weights, theirs, mine)
    assert (found.value is None) == (mirror.value is None)
    if found.value is not None and mirror.value is not None:
        assert found.value + mirror.value == pytest.approx(1, abs=1e-6)
        assert found.weights == pytest.approx(mirror.weights, abs=1e-5)


@settings(deadline=None, max_examples=40)
@given(STYLED)
def test_the_fit_is_where_the_penalized_loss_is_flat(
    rows: list[tuple[float, int, tuple[int, ...], tuple[int, ...]]],
) -> None:
    shares, weights, mine, _ = zip(*rows, strict=True)
    y, w = np.array(shares), np.array(weights, float)
    x = np.column_stack([np.ones(len(y)), np.array(mine, float) / 50])
    penalty = np.array([0.05, 0.5, 0.5, 0.5, 0.5])
    found = bt.logistic_fit(x, y, w, penalty)
    expected = 1 / (1 + np.exp(-x @ found))
    assert np.abs(x.T @ (w * (expected - y)) + penalty * found).max() < 1e-6
