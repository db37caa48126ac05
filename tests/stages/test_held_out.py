"""Which rows are held out: by prompt, by seed, about the share that was asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.records import Demonstration, Pair
from fusechat.stages.held_out import (
    LEAST_ROWS,
    choose_held_out,
    read_held_out,
    split_places,
    write_held_out,
)

ROWS = st.lists(st.integers(0, 60).map(lambda number: f"p{number}"), max_size=300)
SHARES = st.floats(0, 0.95)


@given(rows=ROWS, share=SHARES, seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_rows_of_a_prompt_stay_together_and_at_least_one_row_is_trained_on(
    rows: list[str], share: float, seed: int
) -> None:
    held = choose_held_out(rows, share, seed)
    trained, looked_at = split_places(rows, held)
    assert sorted(trained + looked_at) == list(range(len(rows)))
    assert not {rows[place] for place in trained} & {rows[place] for place in looked_at}
    assert trained or not rows
    assert not looked_at or LEAST_ROWS <= len(looked_at) <= round(share * len(rows))


@given(rows=ROWS, share=SHARES, seed=st.integers(0, 9), order=st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_rows_decides_nothing(
    rows: list[str], share: float, seed: int, order: object
) -> None:
    shuffled = list(rows)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose_held_out(shuffled, share, seed) == choose_held_out(rows, share, seed)


def test_of_single_rows_just_the_share_is_held_out() -> None:
    rows = [f"p{number}" for number in range(500)]
    for share, wanted in ((0.02, 10), (0.1, 50), (0.5, 250)):
        assert len(choose_held_out(rows, share, 3)) == wanted


def test_of_prompts_with_several_rows_about_the_share_is_held_out() -> None:
    rows = [f"p{number % 200}" for number in range(1000)]
    held = choose_held_out(rows, 0.1, 0)
    assert Counter(row in held for row in rows) == {True: 100, False: 900}


def test_the_seed_decides_which() -> None:
    rows = [f"p{number}" for number in range(400)]
    one, same, other = (choose_held_out(rows, 0.1, seed) for seed in (1, 1, 2))
    assert one == same
    assert len(one & other) < 15  # 4 of 40 by chance


def test_more_prompts_move_only_few_rows_to_the_other_side() -> None:
    rows = [f"p{number}" for number in range(400)]
    before, after = (choose_held_out(rows[:count], 0.1, 1) for count in (360, 400))
    assert len(before) == 36
    assert len(before - after) <= 8


def test_too_few_rows_are_not_held_out_at_all() -> None:
    rows = [f"p{number}" for number in range(100)]
    assert choose_held_out(rows, 0.03, 0) == frozenset()
    assert len(choose_held_out(rows, 0.04, 0)) == 4
    assert choose_held_out(["p0"] * 100, 0.9, 0) == frozenset()
    assert choose_held_out([], 0.5, 0) == frozenset()
    assert choose_held_out(rows, 0.0, 0) == frozenset()


def test_a_prompt_of_too_many_rows_is_passed_over() -> None:
    rows = ["big"] * 50 + [f"p{number}" for number in range(50)]
    for seed in range(5):
        held = choose_held_out(rows, 0.1, seed)
        assert "big" not in held
        assert len(held) == 10


def test_the_kept_table_gives_its_rows_back_and_a_folder_without_one_gives_none(
    tmp_path: Path,
) -> None:
    row = Pair(
        prompt_id="p", messages=(), chosen="a", rejected="b", chosen_id="c", rejected_id="d",
        source="s", origin="o", domain="chat",
    )  # fmt: skip
    write_held_out(tmp_path / "some", [row], Pair)
    write_held_out(tmp_path / "none", [], Pair)
    assert list(read_held_out(tmp_path / "some", Pair)) == [row]
    assert list(read_held_out(tmp_path / "none", Pair)) == []
    assert list(read_held_out(tmp_path / "other", Demonstration)) == []
