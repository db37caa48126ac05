"""Which state is taken, on numbers made by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.stages.select_candidates import candidate_steps
from fusechat.stages.select_rules import Ranked, choose_by_pairs, choose_by_tasks, mcnemar
from fusechat.stages.train_settings import SelectSettings


def ranked(right: list[bool], loss: float | list[float] = 0.5) -> Ranked:
    losses = loss if isinstance(loss, list) else [loss] * len(right)
    return Ranked([0.1 if one else -0.1 for one in right], losses)


def first(n: int, total: int) -> list[bool]:
    return [place < n for place in range(total)]


# --- Which states there are to choose from


def test_of_501_steps_the_last_two_multiples_are_compared_as_in_the_paper() -> None:
    assert candidate_steps(501, 100, SelectSettings()) == [500, 400]


def test_the_final_state_can_be_asked_for_in_place_of_the_older_checkpoint() -> None:
    assert candidate_steps(501, 100, SelectSettings(final_state="always")) == [501, 500]
    assert candidate_steps(501, 100, SelectSettings(final_state="never")) == [500, 400]


@pytest.mark.parametrize(
    ("total", "steps"),
    [
        (550, [550, 500]),  # half of save_steps later: another model
        (549, [500, 400]),
        (500, [500, 400]),  # the last step is a checkpoint
        (150, [150, 100]),
        (110, [110, 100]),  # one checkpoint is fewer than two
        (100, [100]),
        (60, [60]),
    ],
)
def test_short_runs_and_late_ends_bring_the_final_state_in(total: int, steps: list[int]) -> None:
    assert candidate_steps(total, 100, SelectSettings()) == steps


def test_last_and_a_run_without_a_checkpoint_leave_one_state() -> None:
    assert candidate_steps(501, 100, SelectSettings(by="last")) == [501]
    assert candidate_steps(60, 100, SelectSettings(final_state="never")) == [60]


@given(
    st.integers(1, 2000), st.integers(1, 300), st.integers(1, 5),
    st.sampled_from(["auto", "always", "never"]),
)  # fmt: skip
def test_there_is_always_one_and_never_more_than_asked(
    total: int, every: int, asked: int, final: str
) -> None:
    rule = SelectSettings(checkpoints=asked, final_state=final)  # type: ignore[arg-type]
    found = candidate_steps(total, every, rule)
    assert 1 <= len(found) <= asked
    assert found == sorted(set(found), reverse=True)
    assert all(step == total or step % every == 0 for step in found)


# --- McNemar's test


def test_mcnemar_is_the_two_sided_binomial() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(8, 1) == pytest.approx(2 * (1 + 9) / 512)
    assert mcnemar(3, 3) == 1.0


def test_mcnemar_holds_for_thousands_of_pairs() -> None:
    assert mcnemar(5000, 5000) == 1.0
    assert 0 <= mcnemar(0, 5000) < 1e-300


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_a_probability_and_takes_no_side(one: int, other: int) -> None:
    assert 0 < mcnemar(one, other) <= 1
    assert mcnemar(one, other) == mcnemar(other, one)


# --- By held-out pairs


def test_an_earlier_state_that_ranks_far_more_pairs_right_is_taken() -> None:
    found = choose_by_pairs([500, 400], [ranked(first(60, 100)), ranked(first(75, 100))])
    assert found.step == 400
    (one,) = found.comparisons
    assert (one.details["earlier_only"], one.details["later_only"]) == (15, 0)
    assert one.difference == pytest.approx(0.15)
    assert one.details["by"] == "share"
    assert "step 400 is taken" in one.words


def test_a_few_pairs_cannot_tell_and_the_later_is_taken_with_the_numbers_said() -> None:
    # 4 of 20 pairs go one way and 1 the other: p = 2 (1 + 5) / 32 = 0.375
    later = ranked(first(10, 20), [0.6, 0.4] * 10)
    earlier = ranked([*first(14, 19), False], [0.4, 0.6] * 10)
    found = choose_by_pairs([500, 400], [later, earlier])
    assert found.step == 500
    assert not found.comparisons[0].told
    assert "20 held-out pairs cannot tell steps 400 and 500 apart" in found.words
    assert "McNemar's exact test: p 0.12" in found.words
    assert "The later is taken." in found.words


def test_where_the_shares_do_not_tell_the_loss_does() -> None:
    right = first(50, 100)
    losses = [0.5 + 0.01 * (place % 7) for place in range(100)]
    lower = [loss - 0.05 - 0.001 * (place % 3) for place, loss in enumerate(losses)]
    found = choose_by_pairs([500, 400], [ranked(right, losses), ranked(right, lower)])
    assert found.step == 400
    assert found.comparisons[0].details["by"] == "loss"
    other = choose_by_pairs([500, 400], [ranked(right, lower), ranked(right, losses)])
    assert other.step == 500
    assert other.comparisons[0].told


def test_the_share_goes_before_the_loss() -> None:
    better = ranked(first(80, 100), [0.9 + 0.001 * (n % 5) for n in range(100)])
    cheaper = ranked(first(50, 100), [0.1 + 0.001 * (n % 5) for n in range(100)])
    assert choose_by_pairs([500, 400], [cheaper, better]).step == 400


def test_without_beyond_chance_the_better_number_wins_then_the_loss_then_the_later() -> None:
    one, two = ranked(first(10, 20)), ranked(first(11, 20), 0.9)
    assert choose_by_pairs([500, 400], [one, two], beyond_chance=False).step == 400
    tied = ranked(first(10, 20), 0.4)
    assert choose_by_pairs([500, 400], [one, tied], beyond_chance=False).step == 400
    assert choose_by_pairs([500, 400], [one, one], beyond_chance=False).step == 500


def test_without_any_held_out_pair_the_later_is_taken_and_it_is_said() -> None:
    found = choose_by_pairs([500, 400], [Ranked((), ()), Ranked((), ())])
    assert (found.step, found.comparisons[0].n) == (500, 0)
    assert "No held-out pairs are there" in found.words


def test_each_of_three_states_must_beat_the_one_that_was_kept() -> None:
    states = [ranked(first(n, 200)) for n in (100, 130, 140)]
    found = choose_by_pairs([300, 200, 100], states)
    assert [(c.later, c.earlier, c.better) for c in found.comparisons] == [
        (300, 200, 200), (200, 100, 100),
    ]  # fmt: skip
    assert found.step == 100
    falling = choose_by_pairs([300, 200, 100], states[::-1])
    assert falling.step == 300
    assert [c.later for c in falling.comparisons] == [300, 300]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_a_state_is_never_taken_that_ranks_fewer_pairs_right_beyond_chance(
    rows: list[tuple[bool, bool]],
) -> None:
    later, earlier = ([row[side] for row in rows] for side in (0, 1))
    found = choose_by_pairs([2, 1], [ranked(later), ranked(earlier)])
    gained = sum(b and not a for a, b in rows)
    lost = sum(a and not b for a, b in rows)
    assert (found.step == 1) == (gained > lost and mcnemar(gained, lost) < 0.05)


def test_the_numbers_of_a_state_are_means_over_its_pairs() -> None:
    numbers = Ranked([0.5, -0.1, 0.2], [0.3, 0.9, 0.6]).numbers()
    assert numbers == {
        "pairs": 3, "right": 2, "accuracy": pytest.approx(2 / 3), "loss": pytest.approx(0.6),
        "margin": pytest.approx(0.2),
    }  # fmt: skip


def test_a_margin_of_nothing_ranks_no_pair_right() -> None:
    assert Ranked([0.0], [0.7]).numbers()["right"] == 0


# --- By tasks


def test_a_task_that_tells_takes_the_earlier_state() -> None:
    items = [f"p{n:03}" for n in range(100)]
    later = {"math": {item: float(n < 40) for n, item in enumerate(items)}}
    earlier = {"math": {item: float(n < 60) for n, item in enumerate(items)}}
    found = choose_by_tasks([500, 400], [later, earlier])
    assert found.step == 400
    assert found.comparisons[0].difference == pytest.approx(0.2)
    assert "+20.0 points" in found.words


def test_a_task_that_does_not_tell_takes_the_later_state() -> None:
    items = [f"p{n}" for n in range(20)]
    later = {"math": {item: float(n % 2) for n, item in enumerate(items)}}
    earlier = {"math": {item: float(n % 2 or n == 0) for n, item in enumerate(items)}}
    found = choose_by_tasks([500, 400], [later, earlier])
    assert (found.step, found.comparisons[0].told) == (500, False)
    assert "20 dev items cannot tell steps 400 and 500 apart" in found.words
    assert choose_by_tasks([500, 400], [later, earlier], beyond_chance=False).step == 400


def test_only_items_that_both_were_judged_at_count_and_tasks_weigh_the_same() -> None:
    later = {"a": {"1": 0.0, "2": 0.0}, "b": {"9": 1.0}}
    earlier = {"a": {"1": 1.0, "3": 1.0}, "b": {"9": 0.0}}
    found = choose_by_tasks([2, 1], [later, earlier], beyond_chance=False)
    assert found.comparisons[0].n == 2
    assert found.comparisons[0].difference == pytest.approx(0.0)
    assert found.step == 2


def test_a_task_without_a_common_item_compares_nothing() -> None:
    found = choose_by_tasks([2, 1], [{"a": {"1": 0.0}}, {"a": {"2": 1.0}}])
    assert (found.step, found.comparisons[0].difference) == (2, None)
    assert "cannot be compared" in found.words
