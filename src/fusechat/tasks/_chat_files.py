"""Files of the judged chat benchmarks: rows by their id, judge prompts with places for texts."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from fusechat.columns import read_rows
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt


def prompts_in(
    path: Path, prompt_of: Callable[[Mapping[str, Any]], Prompt]
) -> Iterator[Prompt | UnreadableRow]:
    """A prompt for each row of a file; `prompt_of` raises `ValueError` with the reason of none."""
    for place, row in read_rows(path):
        if not isinstance(row, Mapping):
            yield UnreadableRow(
                place, f"no JSON: {row}" if isinstance(row, ValueError) else "no row"
            )
            continue
        try:
            yield prompt_of(row)
        except ValueError as error:
            yield UnreadableRow(place, str(error))


def text_of(row: Mapping[str, Any], name: str) -> str:
    """A column that must hold a text; raises `ValueError` where it does not."""
    found = row.get(name)
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"no text in '{name}'")
    return found


def by_id(path: Path, name: str) -> dict[str, Mapping[str, Any]]:
    """Rows of a file by what their column `name` says, as text; of two of one id the last."""
    return _by_id(path, name, path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _by_id(path: Path, name: str, written: int) -> dict[str, Mapping[str, Any]]:
    rows = (row for _, row in read_rows(path) if isinstance(row, Mapping) and name in row)
    return {str(row[name]): row for row in rows}


def turns_of(answer: Mapping[str, Any]) -> list[str]:
    """The texts of an answer in one of the layouts of FastChat and Arena-Hard; none of another.

    `choices[0].turns` (texts, or objects with `content`), or `messages` whose assistant's content
    is a text or an object with `answer`.
    """
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        told = [t.get("content") if isinstance(t, Mapping) else t for t in choices[0]["turns"]]
    else:
        said = [m for m in answer.get("messages") or () if m.get("role") == "assistant"]
        contents = [m.get("content") for m in said]
        told = [c.get("answer") if isinstance(c, Mapping) else c for c in contents]
    return [text for text in told if isinstance(text, str)]


def answer_texts(path: Path) -> dict[str, str]:
    """Item -> first answer, of a file of Arena-Hard's answers in either of its layouts."""
    rows = {**by_id(path, "question_id"), **by_id(path, "uid")}
    return {name: turns[0] for name, row in rows.items() if (turns := turns_of(row))}


def places_of(template: str) -> set[str]:
    """Names of the places for texts in a template; raises `ValueError` where it is malformed."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def template_fault(template: Any, needed: set[str], allowed: set[str]) -> str | None:
    """Why a template cannot be filled; None where it can."""
    if not isinstance(template, str):
        return "it is no text"
    try:
        there = places_of(template)
    except ValueError as error:
        return f"its braces do not fit ({error})"
    if lacking := needed - there:
        return f"it has no place for {', '.join(sorted(lacking))}"
    if unknown := there - allowed:
        return f"it has a place for {', '.join(sorted(unknown))}, which nothing fills"
    return None
