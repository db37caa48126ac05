"""Context room, by hand: lengths 10, 100, 200 and 300 against limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.doctor.doctor_tokenizers import checks

from fusechat.doctor import room
from fusechat.doctor.room import Measured

FOUR = Measured([10, 100, 200, 300], 4)


def test_an_answer_as_long_as_the_context_leaves_no_room() -> None:
    assert checks(room.sampling_room(256, 256, None, 0.01)) == {"fault:context-no-room"}
    assert checks(room.sampling_room(256, 255, None, 0.01)) == set()
    assert checks(room.sampling_room(None, 4096, FOUR, 0.01)) == set()


def test_prompts_that_fill_the_context_are_a_fault_above_the_error_share() -> None:
    # 300 alone fills a context of 256: 1 of 4 is 25%
    assert "fault:prompt-over-context" in checks(room.sampling_room(256, 50, FOUR, 0.2))
    assert "warning:prompt-over-context" in checks(room.sampling_room(256, 50, FOUR, 0.25))
    assert checks(room.sampling_room(512, 50, FOUR, 0.01)) == set()


def test_prompts_that_leave_too_little_for_an_answer_are_counted() -> None:
    # 350 - 100 = 250: of the four only 300 leaves less than 100 tokens, and it still fits
    (found,) = room.sampling_room(350, 100, FOUR, 0.01)
    assert checks([found]) == {"warning:answer-cut-by-context"}
    assert "1 of 4 measured prompts (25.0%)" in found.what


def test_a_max_length_over_the_targets_context_is_a_fault() -> None:
    assert checks(room.training_room("sft", 512, 256, None, None)) == {
        "fault:max-length-over-context"
    }
    assert checks(room.training_room("sft", 256, 256, None, None)) == set()


def test_prompts_without_room_for_a_response_are_dropped_by_training() -> None:
    found = list(room.training_room("dpo", 200, 512, None, FOUR))  # 200 and 300 leave none
    assert checks(found) == {"warning:prompt-over-max-length"}
    assert "2 of 4" in found[0].what
    assert "train.dpo.max_length 200" in found[0].what


def test_the_longest_answers_beside_a_prompt_are_a_note_unless_most_rows_are_hit() -> None:
    assert checks(room.training_room("sft", 2048, None, 2048, None)) == {
        "note:answer-over-max-length"
    }
    assert checks(room.training_room("sft", 310, None, 50, FOUR)) == {"note:answer-over-max-length"}
    assert checks(room.training_room("sft", 310, None, 250, FOUR)) == {
        "warning:answer-over-max-length"  # 310 - 250 = 60: three of four
    }
    assert checks(room.training_room("sft", 350, None, 50, FOUR)) == set()


def test_a_reward_model_shorter_than_the_answers_leaves_them_unscorable() -> None:
    assert checks(room.judging_room(2048, 2048, None)) == {"warning:judge-too-short"}
    assert checks(room.judging_room(350, 100, FOUR)) == {"note:judge-too-short"}
    assert checks(room.judging_room(4096, 2048, FOUR)) == set()
    assert checks(room.judging_room(None, 2048, FOUR)) == set()


@given(st.lists(st.integers(1, 5000), min_size=1), st.integers(2, 5000), st.integers(1, 5000))
def test_a_longer_context_never_adds_a_finding(lengths: list[int], context: int, most: int) -> None:
    measured = Measured(lengths, len(lengths))
    here = len(list(room.sampling_room(context, most, measured, 1.0)))
    longer = max(lengths) + most + context
    assert here >= len(list(room.sampling_room(longer, most, measured, 1.0))) == 0


def test_a_vllm_source_has_the_context_that_its_max_model_len_leaves() -> None:
    from types import SimpleNamespace

    from fusechat.doctor.models import Looked, Seat

    config = SimpleNamespace(max_position_embeddings=8192)
    config.get_text_config = lambda: config
    seat = Seat("sources.big", "source", "big", SimpleNamespace(max_model_len=4096))
    assert Looked(seat, config=config).context == 4096
    assert Looked(Seat("target", "target", "big"), config=config).context == 8192
