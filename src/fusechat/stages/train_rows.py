"""From table rows to token ids, through the target's chat template; what does not fit is kept
as dropped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from fusechat.chat import ChatTemplateError, Encoded, encode_chat
from fusechat.parts import SIDES, RowType
from fusechat.records import Demonstration, Dropped, Pair, Triple
from fusechat.training.examples import Example, Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TrainingRow = Demonstration | Pair | Triple


def encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[TrainingRow],
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
        sides = SIDES[row_type_name(row)]
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


def row_type_name(row: TrainingRow) -> RowType:
    """The name under which losses ask for such rows."""
    name: RowType = type(row).__name__  # type: ignore[assignment]
    return name


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


def _too_long(row: TrainingRow, lengths: dict[str, int], max_length: int) -> Dropped:
    return _dropped(
        row, "length", "longer than max_length", {"tokens": lengths, "max_length": max_length}
    )


def _dropped(row: TrainingRow, stage: str, reason: str, details: dict[str, object]) -> Dropped:
    return Dropped(
        prompt_id=row.prompt_id, origin=row.origin, domain=row.domain, stage=stage,
        reason=reason, details=json.dumps(details, ensure_ascii=False),
    )  # fmt: skip
