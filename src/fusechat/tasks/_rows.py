"""Rows of published data sets -> prompts; shared by the tasks that read files and the hub."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from fusechat.columns import ANSWER_COLUMNS, PROMPT_COLUMNS, ColumnSpec, column, to_messages
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt

TEXT_FIELDS = ("answer", "tests", "reference", "checker")


class PromptColumns(BaseModel):
    """Which column holds what. Without `prompt`, the usual names are looked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: ColumnSpec | None = None
    """A text (one user turn) or a list of messages."""
    system: ColumnSpec | None = None
    answer: ColumnSpec | None = None
    tests: ColumnSpec | None = None
    reference: ColumnSpec | None = None
    choices: ColumnSpec | None = None
    checker: ColumnSpec | None = None

    def mapped(self) -> Iterator[tuple[str, ColumnSpec]]:
        """The fields that a recipe mapped."""
        for name in type(self).model_fields:
            spec = getattr(self, name)
            if spec is not None:
                yield name, spec


def prompts_of(
    rows: Iterable[tuple[str, Any]], columns: PromptColumns, domain: str, licence: str
) -> Iterator[Prompt | UnreadableRow]:
    """A prompt of every row, or why there is none."""
    for place, row in rows:
        try:
            yield _prompt(row, columns, domain, licence)
        except ValueError as error:
            yield UnreadableRow(place, _short(error))


def _prompt(row: Any, columns: PromptColumns, domain: str, licence: str) -> Prompt:
    if isinstance(row, ValueError):
        raise ValueError("not JSON")
    if not isinstance(row, Mapping):
        raise ValueError("row is not an object")
    messages = to_messages(_value(row, columns.prompt, PROMPT_COLUMNS))
    if columns.system is not None and (system := column(columns.system).of(row)):
        messages = [{"role": "system", "content": str(system)}, *messages]
    fields: dict[str, Any] = {"domain": domain, "licence": licence}
    for name in TEXT_FIELDS:
        spec = getattr(columns, name)
        usual = ANSWER_COLUMNS if name == "answer" and spec is None else ()
        fields[name] = _text(_value(row, spec, usual, required=False))
    choices = _value(row, columns.choices, (), required=False)
    if choices is not None and not isinstance(choices, list):
        raise ValueError("choices are not a list")
    fields["choices"] = tuple(str(choice) for choice in choices) if choices else None
    return Prompt.of(messages, **fields)


def _value(
    row: Mapping[str, Any], spec: ColumnSpec | None, usual: Iterable[str], required: bool = True
) -> Any:
    if spec is not None:
        value = column(spec).of(row)
    else:
        value = next((row[name] for name in usual if row.get(name) is not None), None)
        if value == row.get("instruction") and isinstance(value, str) and row.get("input"):
            value = f"{value}\n\n{row['input']}"
    if value is None and required:
        raise ValueError("no prompt in the row")
    return value


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value) if isinstance(value, (int, float)) else json.dumps(value, ensure_ascii=False)


def _short(error: ValueError) -> str:
    return str(error).splitlines()[0]
