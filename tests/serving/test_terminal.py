"""Chatting by typed lines: commands, names, notes, and where each of them is written."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest
from tests.serving.talking import TalkingEngine

from fusechat.serving.conversation import Conversation, Sampling
from fusechat.serving.terminal import Screen, lines_of, shown, talk


def talked(
    lines: str, *engines: TalkingEngine, sampling: Sampling | None = None
) -> tuple[str, str]:
    """Answers and notes of a piped chat."""
    out, notes = io.StringIO(), io.StringIO()
    chats = [Conversation(one, sampling or Sampling()) for one in engines]
    talk(chats, Screen(out, notes, interactive=False), lines_of(io.StringIO(lines)))
    return out.getvalue(), notes.getvalue()


def test_each_line_is_a_message_and_only_answers_are_on_the_output() -> None:
    engine = TalkingEngine("m", "one answer", "two\nlines\n", "three")
    out, notes = talked("a\n\n  \nb\nc", engine)
    assert out == "one answer\ntwo\nlines\nthree\n"
    assert notes == ""
    assert len(engine.seen[-1]) == 5


def test_models_beside_each_other_are_named_and_keep_their_own_answers() -> None:
    sft, base = TalkingEngine("train.sft", "yes"), TalkingEngine("target", "no")
    out, _ = talked("a\nb\n", sft, base)
    assert out == "train.sft:\nyes\ntarget:\nno\n" * 2
    assert [one["content"] for one in base.seen[-1]] == ["a", "no", "b"]


def test_reset_and_system_begin_anew_and_quit_ends() -> None:
    engine = TalkingEngine("m", "yes")
    out, notes = talked("a\n/reset\nb\n/system be kind\nc\n/system\nd\n/quit\ne\n", engine)
    assert out == "yes\n" * 4
    assert notes.count("a new conversation") == 3
    last = [[one["content"] for one in seen] for seen in engine.seen]
    assert last == [["a"], ["b"], ["be kind", "c"], ["d"]]


def test_unknown_commands_are_said_and_two_slashes_say_a_slash() -> None:
    engine = TalkingEngine("m", "yes")
    out, notes = talked("/retry\n//retry it\n/usr/bin is a folder\n/help\n", engine)
    assert "no command /retry" in notes
    assert "/reset" in notes
    assert out == "yes\n" * 2
    asked = [one["content"] for one in engine.seen[-1] if one["role"] == "user"]
    assert asked == ["/retry it", "/usr/bin is a folder"]


def test_what_does_not_fit_and_what_is_cut_is_said() -> None:
    engine = TalkingEngine("m", "a b c d e f g h", context=20)
    few = Sampling(max_new_tokens=5)
    out, notes = talked("v w x y z\nv w x y z\nv w x y z\n" + "w " * 30, engine, sampling=few)
    assert out == "a b c d e\n" * 3
    assert notes.count("cut at 5 tokens") == 3
    assert notes.count("the oldest turn is left out") == 1
    assert "the context of m is 20" in notes


def test_ctrl_c_stops_an_answer_and_the_chat_goes_on() -> None:
    screen, typed = Interrupting("on", interactive=True), iter(["a", "b"])
    engine = TalkingEngine("m", "on and on...", "second")
    chat = Conversation(engine)
    talk([chat], screen, reader(typed))
    assert engine.jobs[0].cancelled
    assert [one["content"] for one in chat.turns[:1]] == ["a"]
    assert chat.turns[1]["content"].startswith("on")
    assert chat.turns[2:] == [
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "second"},
    ]
    assert "(stopped)" in screen.written()


def test_ctrl_c_ends_a_piped_chat() -> None:
    screen = Interrupting("on", interactive=False)
    with pytest.raises(KeyboardInterrupt):
        talk([Conversation(TalkingEngine("m", "on and on..."))], screen, reader(iter(["a"])))


def test_control_characters_of_a_model_do_not_reach_a_terminal() -> None:
    assert shown("a\x1b[31mb\x07\n\tc\x9b") == "a\ufffd[31mb\ufffd\n\tc\ufffd"


def reader(lines: Iterator[str]) -> Callable[[], str]:
    def read() -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    return read


class Interrupting(Screen):
    """Ctrl-C is pressed once, where a piece begins with a word."""

    def __init__(self, word: str, interactive: bool) -> None:
        out = io.StringIO()
        super().__init__(out, out, interactive)
        self.left = [word]

    def answer(self, text: str) -> None:
        """Write, and perhaps interrupt."""
        super().answer(text)
        if self.left and text.startswith(self.left[0]):
            self.left.clear()
            raise KeyboardInterrupt

    def written(self) -> str:
        """All that was written."""
        assert isinstance(self.out, io.StringIO)
        return self.out.getvalue()
