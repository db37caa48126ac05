"""One row of another tool's file, in the words of this project: a prompt and its responses."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusechat.columns import to_messages

Turns = list[dict[str, str]]
UNNAMED = ""
"""The model of a response of which the file does not say who made it."""


@dataclass(frozen=True)
class Stored:
    """One stored response; `fault` says why there is none."""

    text: str = ""
    model: str = UNNAMED
    score: float | None = None
    """As the file has it, on its scale."""
    finish: str | None = None
    fault: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other columns that the pool keeps, such as `scores` of single aspects or `label`."""


@dataclass(frozen=True)
class Found:
    """What a row holds."""

    prompt: Turns
    responses: tuple[Stored, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of the prompt: `answer`, `dataset`, `prompt_id`."""


def text_of(value: Any) -> str | None:
    """The text of a response: a string, a message, or a list whose last message is the answer."""
    if isinstance(value, list):
        turns = [turn for turn in value if isinstance(turn, Mapping)]
        return text_of(turns[-1]) if turns and len(turns) == len(value) else None
    if isinstance(value, Mapping):
        role = value.get("role", value.get("from", "assistant"))
        if role not in ("assistant", "gpt"):
            return None
        value = value.get("content", value.get("value", value.get("text")))
    return value if isinstance(value, str) else None


def stored(value: Any, **fields: Any) -> Stored:
    """A response, or the reason why there is none."""
    text = text_of(value)
    if text is None:
        return Stored(fault="no text in the response", **fields)
    if not text.strip():
        return Stored(fault="empty response", **fields)
    return Stored(text, **fields)


def prompt_of(row: Mapping[str, Any], *columns: str, system: Any = None) -> Turns:
    """The messages of the first of these columns that is there; raises `ValueError` with why not.

    The Alpaca column `input` is put behind `instruction`, as its trainers do.
    """
    name = next((name for name in columns if row.get(name) is not None), None)
    if name is None:
        raise ValueError("no prompt in the row")
    value = row[name]
    if isinstance(value, Mapping):
        value = [value]
    if name == "instruction" and isinstance(value, str) and row.get("input"):
        value = f"{value}\n\n{row['input']}"
    turns = to_messages(value)
    if isinstance(system, str) and system.strip() and turns[0]["role"] != "system":
        turns = [{"role": "system", "content": system}, *turns]
    return turns


def number(value: Any) -> float | None:
    """A finite number, also one that is written as text (`"4"`, `"N/A"` is none)."""
    if isinstance(value, bool) or value is None:
        return float(value) if isinstance(value, bool) else None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def at(values: Any, index: int, count: int) -> Any:
    """Element `index` of a list that runs beside `count` responses; None where it does not."""
    if isinstance(values, Sequence) and not isinstance(values, str) and len(values) == count:
        return values[index]
    return None


def source_name(model: str) -> str:
    """A model's name as a recipe and a file can have it; another name for another model only as far
    as letters, digits, `-`, `_` and `.` tell them apart."""
    name = re.sub(r"[^\w.-]+", "-", model.rsplit("/", 1)[-1]).strip("-.")
    return name[:60] or "stored"
