"""Stored responses as a source: sampled by someone, sometime, and kept in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fusechat.columns import (
    PROMPT_COLUMNS,
    ColumnSpec,
    column,
    column_fault,
    first_columns,
    read_rows,
    to_messages,
)
from fusechat.digests import digest_path
from fusechat.parts import ContentPath, Source, UnreadableRow, Where
from fusechat.records import Finish, Prompt, Request, Response

FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "STOP": "stop",
}
"""What servers call the end of a response; anything else is `unknown`."""


class Given(Source):
    """Stored responses from JSONL, JSON or Parquet; nested columns are mapped in the recipe."""

    path: ContentPath
    responses: ColumnSpec | tuple[ColumnSpec, ...] = "response"
    """The column(s) of the responses: a text, a list of texts, or one column a sample. Several
    rows with the same prompt are further samples of it."""
    prompt: ColumnSpec | None = None
    """The prompt's column; it must give the very messages of the prompt set."""
    finish: ColumnSpec | None = None
    """Why each response ended (`stop`, `length`); without it that is unknown, and counted so."""
    model: str = "stored"
    """The model that made them, as it is filed."""

    def open(
        self, where: Where
    ) -> AbstractContextManager[Callable[[Iterator[Request]], Iterator[Response]]]:
        """Read the file."""
        return nullcontext(self._work)

    def _work(self, requests: Iterator[Request]) -> Iterator[Response]:
        stored = _stored(self).responses
        for request in requests:
            text, finish = stored[request.prompt.id][request.index]
            yield request.response(text, finish, seed=None)

    def available(self, prompt: Prompt, wanted: int | None) -> int:
        """As many as are stored, at most `wanted`."""
        found = len(_stored(self).responses.get(prompt.id, ()))
        return found if wanted is None else min(found, wanted)

    def unread(self) -> list[UnreadableRow]:
        """Rows without a prompt or a response."""
        return _stored(self).unread

    def sees(self, request: Request) -> Any:
        """The prompt and which of its stored responses; the seed decides nothing."""
        return [request.prompt.chat(), request.index]

    def faults(self) -> Iterator[tuple[str, str]]:
        """Also: columns that the file does not have."""
        yield from super().faults()
        if not Path(self.path).exists():
            return
        if isinstance(first := first_columns(Path(self.path)), str):
            yield "path", first
            return
        specs = {"responses": _columns(self)}
        for name in ("prompt", "finish"):
            if (spec := getattr(self, name)) is not None:
                specs[name] = (spec,)
        for name, columns in specs.items():
            for spec in columns:
                if fault := column_fault(Path(self.path), spec):
                    yield name, fault


def _columns(part: Given) -> tuple[ColumnSpec, ...]:
    return part.responses if isinstance(part.responses, tuple) else (part.responses,)


@dataclass
class _Stored:
    responses: dict[str, list[tuple[str, Finish]]]
    """Prompt id -> its stored (text, finish), in file order."""
    unread: list[UnreadableRow]


def _stored(part: Given) -> _Stored:
    return _read(part, digest_path(Path(part.path)))


@lru_cache(maxsize=8)
def _read(part: Given, content: str) -> _Stored:
    """The file, read once as long as its content stays."""
    out = _Stored({}, [])
    for place, row in read_rows(Path(part.path)):
        try:
            prompt, texts = _row(part, row)
        except ValueError as error:
            out.unread.append(UnreadableRow(place, str(error).splitlines()[0]))
            continue
        ends = _finishes(part, row, len(texts))
        out.responses.setdefault(prompt.id, []).extend(zip(texts, ends, strict=True))
    return out


def _row(part: Given, row: Any) -> tuple[Prompt, list[str]]:
    """The prompt and the stored texts of a row; raises `ValueError` with what it lacks."""
    if not isinstance(row, Mapping):
        raise ValueError("not JSON" if isinstance(row, ValueError) else "row is not an object")
    prompt = Prompt.of(to_messages(_prompt_value(part, row)), domain="")
    texts = [text for spec in _columns(part) for text in _texts(column(spec).of(row))]
    if not texts:
        raise ValueError("no response in the row")
    return prompt, texts


def _prompt_value(part: Given, row: Mapping[str, Any]) -> Any:
    if part.prompt is not None:
        return column(part.prompt).of(row)
    return next((row[name] for name in PROMPT_COLUMNS if row.get(name) is not None), None)


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    if isinstance(value, Mapping):
        return _texts(value.get("content", value.get("text")))
    return [str(value)]


def _finishes(part: Given, row: Mapping[str, Any], count: int) -> list[Finish]:
    value = column(part.finish).of(row) if part.finish is not None else None
    names = value if isinstance(value, list) else [value] * count
    if len(names) != count:
        names = [None] * count
    return [FINISHES.get(str(name), "unknown") for name in names]
