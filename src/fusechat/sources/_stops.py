"""Stop strings of answers that are drawn here: where the text holds one, the answer ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MORE = 8
"""Tokens looked at beyond the bytes of the longest stop string; a token may be an empty text."""


class StopWatch:
    """Watches rows while they are drawn; ends those whose last tokens hold a stop string."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], rows: int) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._window = max(len(one.encode()) for one in self._stop) + _MORE
        self._last: list[list[int]] = [[] for _ in range(rows)]

    def __call__(
        self, live: list[int], tokens: list[int], chances: list[float], logits: Any
    ) -> list[bool]:
        """Of each live row whether it ends with the token that it just got."""
        return [self._ends(at, token) for at, token in zip(live, tokens, strict=True)]

    def _ends(self, row: int, token: int) -> bool:
        last = self._last[row]
        last.append(token)
        del last[: -self._window]
        text = self._tokenizer.decode(
            last, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return any(stop in text for stop in self._stop)


def cut_at(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text before the stop string that comes first, and whether there is one."""
    ends = [at for one in stop if (at := text.find(one)) >= 0]
    return (text[: min(ends)], True) if ends else (text, False)
