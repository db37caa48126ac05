"""What of a conversation a model is shown, and what is kept of an answer."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serving.talking import TalkingEngine
from tests.tiny_models import tiny_model

from fusechat.parts import Where
from fusechat.serving.contract import Refused
from fusechat.serving.conversation import Conversation, Sampling, fitted, note_of_dropped


def turns_of(*lengths: int) -> list[dict[str, str]]:
    """Messages of so many words, the user's first."""
    roles = ("user", "assistant")
    return [{"role": roles[at % 2], "content": "w " * n} for at, n in enumerate(lengths)]


def said(conversation: Conversation, text: str) -> str:
    return "".join(conversation.ask(text).pieces())


def test_the_oldest_turns_go_first_until_a_quarter_of_the_context_is_free() -> None:
    # Context 40: an answer keeps min(100, 10) = 10. 10+10+5+5+6 = 36, 36 + 10 > 40; without the
    # first turn 16, and 40 - 16 = 24 tokens are left for the answer.
    engine = TalkingEngine("m", "a", context=40)
    fit = fitted(engine, None, turns_of(10, 10, 5, 5, 6), most=100)
    assert (fit.dropped, len(fit.ids), fit.room) == (2, 16, 24)


def test_a_short_answer_asks_for_no_more_room_than_it_needs() -> None:
    # 36 + 4 = 40 fits exactly.
    engine = TalkingEngine("m", "a", context=40)
    fit = fitted(engine, None, turns_of(10, 10, 5, 5, 6), most=4)
    assert (fit.dropped, fit.room) == (0, 4)


def test_the_system_message_is_never_left_out() -> None:
    engine = TalkingEngine("m", "a", context=40)
    fit = fitted(engine, "be kind", turns_of(20, 8, 6), most=100)
    assert fit.dropped == 2
    assert [one["role"] for one in engine.seen[-1]] == ["system", "user"]


def test_a_message_that_fills_the_context_alone_is_refused_with_the_numbers() -> None:
    engine = TalkingEngine("m", "a", context=40)
    with pytest.raises(Refused, match=r"40 tokens, and the context of m is 40"):
        fitted(engine, None, turns_of(5, 5, 40), most=10)


def test_a_model_that_says_no_context_is_shown_everything() -> None:
    fit = fitted(TalkingEngine("m", "a", context=None), None, turns_of(999, 9, 9), most=7)
    assert (fit.dropped, fit.room) == (0, 7)


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=9).filter(lambda one: len(one) % 2 == 1),
    st.integers(1, 60),
    st.integers(31, 90),
)
def test_what_is_shown_begins_with_a_question_and_is_as_long_as_can_be(
    lengths: list[int], most: int, context: int
) -> None:
    fit = fitted(TalkingEngine("m", "a", context=context), None, turns_of(*lengths), most)
    assert fit.dropped % 2 == 0
    assert len(fit.ids) == sum(lengths[fit.dropped :])
    assert 1 <= fit.room == min(most, context - len(fit.ids))
    if fit.dropped:  # one turn more would not have fitted
        assert sum(lengths[fit.dropped - 2 :]) + min(most, context // 4) > context


def test_the_note_counts_turns_and_not_messages() -> None:
    assert "the oldest turn is left out" in note_of_dropped(2, 40)
    assert "the oldest 3 turns are left out" in note_of_dropped(6, 40)


def test_each_answer_is_asked_with_all_turns_before_it() -> None:
    engine = TalkingEngine("m", "first answer", "second")
    chat = Conversation(engine, system="be kind")
    assert said(chat, "one") == "first answer"
    assert said(chat, "two") == "second"
    assert [one["content"] for one in engine.seen[-1]] == ["be kind", "one", "first answer", "two"]
    chat.reset()
    said(chat, "three")
    assert [one["content"] for one in engine.seen[-1]] == ["be kind", "three"]


def test_turns_that_were_left_out_stay_out() -> None:
    engine = TalkingEngine("m", "a b c d e", context=20)
    chat = Conversation(engine, Sampling(max_new_tokens=5))
    fits = []
    for _ in range(3):
        turn = chat.ask("v w x y z")
        list(turn.pieces())
        fits.append(turn.fit.dropped)
    # 5+5 | 10+5+5 = 20 fits | 25 + 5 does not: one turn goes.
    assert fits == [0, 0, 2]
    assert len(chat.turns) == 4


def test_an_answer_that_is_stopped_is_kept_as_far_as_it_came_and_the_engine_is_told() -> None:
    engine = TalkingEngine("m", "on and on...")
    chat = Conversation(engine)
    turn = chat.ask("go")
    with closing(turn.pieces()) as pieces:
        begun = [next(pieces), next(pieces)]
    assert begun == ["on ", "and "]
    assert turn.finish == "stopped"
    assert engine.jobs[0].cancelled
    assert chat.turns[-1] == {"role": "assistant", "content": "on and"}


def test_a_question_without_an_answer_is_forgotten() -> None:
    chat = Conversation(TalkingEngine("m", ""))
    assert said(chat, "one") == ""
    assert chat.turns == []
    with pytest.raises(Refused, match="template"):
        chat.ask("refuse")
    assert chat.turns == []


def test_white_space_before_an_answer_is_left_out_while_it_streams() -> None:
    chat = Conversation(TalkingEngine("m", "  answer \n"))
    assert said(chat, "one") == "answer \n"
    assert chat.turns[-1]["content"] == "answer"


def test_a_seed_makes_a_chat_that_can_be_had_again(tmp_path: Path) -> None:
    from fusechat.serving.engine import LocalEngine

    folder = tiny_model(tmp_path / "llama", "llama")
    with closing(LocalEngine(str(folder), "tiny", "float32", Where(device="cpu"), 4)) as engine:

        def chatted(seed: int) -> list[str]:
            chat = Conversation(engine, Sampling(1.0, 1.0, 6, seed))
            return [said(chat, "Tom has apples"), said(chat, "And then?")]

        assert chatted(3) == chatted(3)
        assert chatted(3) != chatted(4)
