"""One choice of a request while it is drawn: its tokens, its text so far, where it ends."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

from fusechat.serving.contract import Job, Piece, TokenChance

_TORN = "\ufffd"
"""What a decoder writes for the first bytes of a character whose last are not there yet."""


class Row:
    """A choice under way. Its text is that of all its tokens without the end-of-turn token."""

    def __init__(self, job: Job, index: int, seed: int, room: int) -> None:
        self.job, self.index, self.seed, self.room = job, index, seed, room
        ask = job.ask
        self.settings = (
            ask.temperature, ask.top_p, ask.top_k, ask.repetition_penalty,
            ask.presence_penalty, ask.frequency_penalty,
        )  # fmt: skip
        self._growing = ask.stream or bool(ask.stop)
        self._ids: list[int] = []
        self._chances: list[TokenChance] = []
        self._text, self._said, self._told = "", 0, 0
        self._begin, self._read = 0, 0

    def take(
        self,
        token: int,
        chance: float,
        top: Sequence[tuple[int, float]],
        ends: Collection[int],
        tokenizer: Any,
    ) -> bool:
        """Add a token; returns whether the choice ends with it."""
        if self.job.cancelled:
            return True
        ask = self.job.ask
        if ask.logprobs:
            likely = tuple((_spelt(tokenizer, one), value) for one, value in top)
            self._chances.append(TokenChance(_spelt(tokenizer, token), chance, likely))
        self._ids.append(token)
        ended = token in ends and not ask.ignore_eos
        if self._growing and not ended:
            self._grow(tokenizer)
        stop = self._stop_string()
        finish: Literal["stop", "length"] | None = None
        if ended or stop is not None:
            finish = "stop"
        elif len(self._ids) >= self.room:
            finish = "length"
        if finish is not None and stop is None:
            whole = _decoded(tokenizer, self._ids[:-1] if ended else self._ids)
            self._text = whole if whole.startswith(self._text[: self._said]) else self._text
            stop = self._stop_string()
            finish = finish if stop is None else "stop"
        self._tell(finish, stop)
        return finish is not None

    def _grow(self, tokenizer: Any) -> None:
        """Add the text of new tokens, once it is whole characters.

        Decoded with the tokens of the last step before it, since a token's text may depend on
        what stands before.
        """
        before = _decoded(tokenizer, self._ids[self._begin : self._read])
        now = _decoded(tokenizer, self._ids[self._begin :])
        if len(now) > len(before) and not now.endswith(_TORN):
            self._text += now[len(before) :]
            self._begin, self._read = self._read, len(self._ids)

    def _stop_string(self) -> str | None:
        """The stop string that comes first in the text, which is then cut there."""
        found = [(at, stop) for stop in self.job.ask.stop if (at := self._text.find(stop)) >= 0]
        if not found:
            return None
        at, stop = min(found)
        self._text = self._text[:at]
        return stop

    def _tell(self, finish: Literal["stop", "length"] | None, stop: str | None) -> None:
        ask = self.job.ask
        if finish is None and not ask.stream:
            return
        held = 0 if finish else max((len(stop) - 1 for stop in ask.stop), default=0)
        upto = max(self._said, len(self._text) - held)
        text, tokens = self._text[self._said : upto], len(self._ids) - self._told
        if finish is None and not text:
            return
        self._said, self._told = upto, len(self._ids)
        chances, self._chances = tuple(self._chances), []
        self.job.say(Piece(self.index, text, chances, tokens, finish, stop))


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def _spelt(tokenizer: Any, token: int) -> str:
    text: str = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    return text
