"""Layouts of packed rows: who sees whom, and that the pieces of attention are exactly that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packed_tiny import layouts

from fusechat.packed.layout import Call, Segment, calls, check, positions, runs, sees

PAIR = (Segment(0, 2), Segment(2, 4, (0, 2)), Segment(4, 5, (0, 2)))


def test_a_response_sees_its_prompt_and_itself_and_not_its_sibling() -> None:
    assert sees(PAIR).astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def test_a_window_is_counted_in_places_of_the_text_and_not_of_the_row() -> None:
    assert sees(PAIR, window=2).astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 1, 0, 0, 1],
    ]


def test_positions_go_on_behind_the_prefix() -> None:
    assert positions(PAIR).tolist() == [0, 1, 2, 3, 2]


def test_siblings_meet_their_prompt_in_one_call() -> None:
    assert calls(PAIR).before == (Call(2, 5, 0, 2, causal=False),)


def covered(call: Call, tokens: int) -> np.ndarray:
    """What one call lets see each other."""
    seen = np.zeros((tokens, tokens), dtype=int)
    for i in range(call.start, call.stop):
        for j in range(call.begin, call.end):
            apart = call.gap + (i - call.start) - (j - call.begin)
            if call.window is not None:
                seen[i, j] = 0 <= apart < call.window
            else:
                seen[i, j] = not call.causal or j - call.begin <= i - call.start
    return seen


windows = st.none() | st.integers(1, 12)


@given(layouts(), windows)
def test_calls_hold_every_pair_that_sees_each_other_once_and_no_other(
    segments: tuple[Segment, ...], window: int | None
) -> None:
    tokens, work = segments[-1].stop, calls(segments, window)
    found = sum(covered(call, tokens) for call in (*work.own, *work.before))
    assert np.array_equal(found, sees(segments, window).astype(int))
    queries = [place for call in work.own for place in range(call.start, call.stop)]
    assert queries == list(range(tokens))
    again = [place for call in work.before for place in range(call.start, call.stop)]
    assert len(again) == len(set(again))


@given(layouts(), windows)
def test_no_query_of_a_call_is_left_without_a_key(
    segments: tuple[Segment, ...], window: int | None
) -> None:
    work = calls(segments, window)
    for call in (*work.own, *work.before):
        assert covered(call, segments[-1].stop)[call.start : call.stop].sum(1).min() > 0


@given(layouts(), windows)
def test_the_two_runs_of_a_token_are_all_that_it_sees(
    segments: tuple[Segment, ...], window: int | None
) -> None:
    seen = np.zeros_like(sees(segments))
    for token, (begin, end, own) in enumerate(runs(segments, window).T):
        seen[token, begin:end] = True
        seen[token, own : token + 1] = True
    assert np.array_equal(seen, sees(segments, window))


@pytest.mark.parametrize(
    ("segments", "word"),
    [
        ([Segment(0, 2), Segment(3, 4)], "does not begin"),
        ([Segment(0, 2)], "cover 2 tokens of 4"),
        ([Segment(0, 2), Segment(2, 4, (1, 2))], "beginning of a text"),
        ([Segment(0, 2), Segment(2, 4, (0, 3))], "beginning of a text"),
        ([Segment(0, 1), Segment(1, 2, (0, 1)), Segment(2, 4, (1, 2))], "beginning of a text"),
        ([Segment(0, 3), Segment(3, 2), Segment(2, 4)], "does not begin"),
    ],
)
def test_a_layout_that_is_not_sound_is_refused(segments: list[Segment], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        check(segments, 4)


def test_a_text_can_be_the_prefix_of_others_in_part() -> None:
    check([Segment(0, 5), Segment(5, 7, (0, 3)), Segment(7, 9, (0, 5))], 9)
