"""From table rows to token ids: what a training run keeps in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fusechat.chat import ChatTemplateError, Encoded, encode_chat
from fusechat.records import Demonstration, Dropped, Pair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIDES = {"Demonstration": ("response",), "Pair": ("chosen", "rejected")}
"""Names of the responses of a row, in the order in which everything here keeps them."""


@dataclass(frozen=True)
class Text:
    """Prompt and response as ids; `ids[start:]` is the response and its end-of-turn token."""

    ids: NDArray[np.int32]
    start: int

    @property
    def length(self) -> int:
        """Response tokens, the end-of-turn token included."""
        return len(self.ids) - self.start


@dataclass(frozen=True)
class Example:
    """One row to train on: a response, or a chosen and a rejected one."""

    prompt_id: str
    texts: tuple[Text, ...]
    weight: float
    truncated: bool = False
    """Whether the end of a response was cut off."""

    @property
    def longest(self) -> int:
        """Tokens of the longest text; decides how far its batch is padded."""
        return max(len(text.ids) for text in self.texts)

    @property
    def response_tokens(self) -> int:
        """Tokens that a loss over this row sums, all sides together."""
        return sum(text.length for text in self.texts)


def encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[Demonstration | Pair],
    max_length: int,
    over_length: Literal["drop", "truncate"] = "drop",
    max_prompt_length: int | None = None,
) -> Iterator[Example | Dropped]:
    """Each row as an `Example`, or as `Dropped` with the reason.

    Dropped are rows with a text of more than `max_length` tokens (with `truncate` only those
    whose prompt leaves no room for a response), rows whose prompt has more than
    `max_prompt_length`, and rows that the target's chat template refuses (a system role that it
    does not know).
    """
    for row in rows:
        messages = [{"role": turn.role, "content": turn.content} for turn in row.messages]
        sides = SIDES[type(row).__name__]
        try:
            encoded = [encode_chat(tokenizer, messages, getattr(row, side)) for side in sides]
        except ChatTemplateError as error:
            reason = "refused by the target's chat template"
            yield _dropped(row, "template", reason, {"error": str(error)})
            continue
        lengths = {side: len(one.ids) for side, one in zip(sides, encoded, strict=True)}
        longest = max(lengths.values())
        room = all(one.response_start < max_length for one in encoded)
        asked = encoded[0].response_start
        if max_prompt_length is not None and asked > max_prompt_length:
            numbers: dict[str, object] = {"tokens": asked, "max_prompt_length": max_prompt_length}
            yield _dropped(row, "length", "prompt longer than max_prompt_length", numbers)
        elif longest > max_length and not (room and over_length == "truncate"):
            yield _too_long(row, lengths, max_length)
        else:
            texts = tuple(_text(one, max_length) for one in encoded)
            yield Example(row.prompt_id, texts, row.weight, truncated=longest > max_length)


def keep(encoded: Iterable[Example | Dropped], drop: Callable[[Dropped], None]) -> list[Example]:
    """The examples; each dropped row goes to `drop`."""
    kept: list[Example] = []
    for one in encoded:
        if isinstance(one, Dropped):
            drop(one)
        else:
            kept.append(one)
    return kept


def _text(encoded: Encoded, max_length: int) -> Text:
    return Text(np.asarray(encoded.ids[:max_length], dtype=np.int32), encoded.response_start)


def _too_long(row: Demonstration | Pair, lengths: dict[str, int], max_length: int) -> Dropped:
    return _dropped(
        row, "length", "longer than max_length", {"tokens": lengths, "max_length": max_length}
    )


def _dropped(
    row: Demonstration | Pair, stage: str, reason: str, details: dict[str, object]
) -> Dropped:
    return Dropped(
        prompt_id=row.prompt_id, origin=row.origin, domain=row.domain, stage=stage,
        reason=reason, details=json.dumps(details, ensure_ascii=False),
    )  # fmt: skip
