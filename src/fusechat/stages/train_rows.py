"""From table rows to token ids, through the target's chat template; what does not fit is kept
as dropped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    `max_prompt_length`, rows whose rejected response is, token by token, also a chosen one (from
    which a loss can learn nothing; cutting can make them so), rows with a response of no tokens,
    and rows that the target's chat template refuses (a system role that it does not know).
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
        fault = _too_long(row, encoded, max_length, over_length, max_prompt_length)
        yield fault or _example(row, encoded, max_length)


def _too_long(
    row: TrainingRow,
    encoded: Sequence[Encoded],
    max_length: int,
    over_length: Literal["drop", "truncate"],
    max_prompt_length: int | None,
) -> Dropped | None:
    lengths = [len(one.ids) for one in encoded]
    asked = encoded[0].response_start
    if max_prompt_length is not None and asked > max_prompt_length:
        numbers: dict[str, object] = {"tokens": asked, "max_prompt_length": max_prompt_length}
        return _dropped(row, "length", "prompt longer than max_prompt_length", numbers)
    if max(lengths) <= max_length:
        return None
    tokens = dict(zip(SIDES[row_type_name(row)], lengths, strict=True))
    numbers = {"tokens": tokens, "max_length": max_length}
    if over_length == "drop":
        return _dropped(row, "length", "longer than max_length", numbers)
    if any(one.response_start >= max_length for one in encoded):
        numbers["prompt_tokens"] = max(one.response_start for one in encoded)
        return _dropped(row, "length", "nothing of a response is left within max_length", numbers)
    return None


def _example(row: TrainingRow, encoded: Sequence[Encoded], max_length: int) -> Example | Dropped:
    """The row cut to `max_length`; dropped where it says nothing: see `encode_rows`."""
    texts = tuple(_text(one, max_length) for one in encoded)
    sides = SIDES[row_type_name(row)]
    empty = [side for side, text in zip(sides, texts, strict=True) if text.length < 1]
    if empty:
        return _dropped(row, "empty", "a response has no tokens", {"sides": empty})
    *others, last = texts
    same = [s for s, text in zip(sides, others, strict=False) if np.array_equal(text.ids, last.ids)]
    if same:
        details = {"sides": [*same, sides[-1]], "tokens": len(last.ids)}
        return _dropped(row, "identical", "both responses are the same tokens", details)
    cut = any(len(one.ids) > max_length for one in encoded)
    return Example(row.prompt_id, texts, row.weight, cut, response_ids(row))


def row_type_name(row: TrainingRow) -> RowType:
    """The name under which losses ask for such rows."""
    name: RowType = type(row).__name__  # type: ignore[assignment]
    return name


def response_ids(row: TrainingRow) -> tuple[str, ...]:
    """Ids of a row's responses, in the order of its sides."""
    return tuple(getattr(row, f"{side}_id") for side in SIDES[row_type_name(row)])


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


def _dropped(row: TrainingRow, stage: str, reason: str, details: dict[str, object]) -> Dropped:
    return Dropped(
        prompt_id=row.prompt_id, origin=row.origin, domain=row.domain, stage=stage,
        reason=reason, details=json.dumps(details, ensure_ascii=False),
    )  # fmt: skip
