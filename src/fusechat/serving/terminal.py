"""Chatting in a terminal, or by lines of a pipe, with one model or several beside each other."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import IO

from fusechat.serving.contract import Refused
from fusechat.serving.conversation import Conversation, note_of_dropped

HELP = """/reset           begin a new conversation
/system TEXT     begin a new one under this system message; without TEXT under none
/quit            leave (so does Ctrl-D)
/help            this
Ctrl-C stops an answer, and the chat goes on. A line that ends with \\ goes on in the next one.
A message that begins with a slash: write two, //like this."""
_COMMAND = re.compile(r"/[a-z]+")
_BOLD, _DIM, _END = "\033[1m", "\033[2m", "\033[0m"


@dataclass(frozen=True)
class Screen:
    """Where answers and notes go."""

    out: IO[str]
    notes: IO[str]
    """Everything that is no answer."""
    interactive: bool
    """A person types; else each line of the input is a message."""
    colours: bool = False

    @classmethod
    def of_process(cls, no_colour: bool) -> Screen:
        """Standard streams: colours only in a terminal, notes apart where the output is piped."""
        terminal = sys.stdout.isatty()
        interactive = sys.stdin.isatty() and terminal
        notes = sys.stdout if interactive else sys.stderr
        return cls(sys.stdout, notes, interactive, terminal and not no_colour)

    def note(self, text: str) -> None:
        """A line of ours."""
        begin, end = (_DIM, _END) if self.colours and self.notes is self.out else ("", "")
        print(f"{begin}{text}{end}", file=self.notes, flush=True)

    def name(self, text: str) -> None:
        """Whose answer follows."""
        begin, end = (_BOLD, _END) if self.colours else ("", "")
        print(f"{begin}{text}:{end}", file=self.out, flush=True)

    def answer(self, text: str) -> None:
        """A piece of an answer; a terminal gets no control characters from a model."""
        self.out.write(shown(text) if self.out.isatty() else text)
        self.out.flush()


def shown(text: str) -> str:
    """`text` with every control character but line break and tab made visible."""
    return "".join(
        one if one in "\n\t" or unicodedata.category(one) != "Cc" else "\ufffd" for one in text
    )


def talk(conversations: Sequence[Conversation], screen: Screen, read: Callable[[], str]) -> None:
    """Answer message after message until `/quit` or the end of the input.

    `read` gives the next message and raises `EOFError` at the end. Where a person types, Ctrl-C
    ends the answer that is being written; else it ends all.
    """
    while True:
        try:
            text = read()
        except EOFError:
            return
        except KeyboardInterrupt:
            if not screen.interactive:
                raise
            screen.note("\n(Ctrl-D or /quit leaves)")
            continue
        if not text.strip():
            continue
        word = text.split(maxsplit=1)[0]
        if not _COMMAND.fullmatch(word):
            _turn(conversations, screen, text[1:] if text.startswith("//") else text)
        elif word in ("/quit", "/exit"):
            return
        else:
            _command(conversations, screen, word, text.removeprefix(word).strip())


def _command(conversations: Sequence[Conversation], screen: Screen, word: str, rest: str) -> None:
    if word == "/help":
        screen.note(HELP)
    elif word in ("/reset", "/system"):
        for one in conversations:
            one.reset()
            one.system = one.system if word == "/reset" else rest or None
        screen.note("(a new conversation)")
    else:
        screen.note(f"(there is no command {word}; /help lists them, //{word[1:]} says it)")


def _turn(conversations: Sequence[Conversation], screen: Screen, text: str) -> None:
    """One message to each model, their answers one after the other."""
    for one in conversations:
        if len(conversations) > 1:
            screen.name(one.engine.name)
        with _stoppable(screen):
            _answer(one, screen, text)
        if screen.interactive:
            screen.answer("\n")


def _stoppable(screen: Screen) -> suppress:
    """Ctrl-C is passed over where a person types."""
    return suppress(*([KeyboardInterrupt] if screen.interactive else []))


def _answer(one: Conversation, screen: Screen, text: str) -> None:
    try:
        turn = one.ask(text)
    except Refused as refused:
        screen.note(f"({refused.message})")
        return
    if turn.fit.dropped:
        screen.note(
            f"({note_of_dropped(turn.fit.dropped, one.engine.context)}; /reset begins anew)"
        )
    try:
        with closing(turn.pieces()) as pieces:
            for piece in pieces:
                screen.answer(piece)
    except Refused as refused:
        screen.note(f"({refused.message})")
    finally:
        if not turn.text.endswith("\n"):
            screen.answer("\n")
        if turn.finish == "length":
            screen.note(f"(cut at {turn.tokens} tokens; --max-new-tokens, or the context's end)")
        elif turn.finish == "stopped":
            screen.note("(stopped)")


def lines_of(stream: IO[str]) -> Callable[[], str]:
    """Each line of a stream is a message."""

    def read() -> str:
        line = stream.readline()
        if not line:
            raise EOFError
        return line.rstrip("\r\n")

    return read


def typed() -> str:
    """What a person types: a line, or several where each but the last ends with a backslash."""
    with suppress(ImportError):
        import readline  # noqa: F401 - gives input() history and editing
    lines = [input("> ")]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(input("… "))
    return "\n".join(lines)
