"""Reading users' own files: rows of JSONL, JSON or Parquet, and their columns by dotted paths.

A column is `name`, `outer.inner`, or `list[].inner` (every element of a list). A mapping
`{column: solution, after: "A:"}` takes the text behind the last `A:`.
"""

from __future__ import annotations

import difflib
import gzip
import json
import zlib
from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from pyarrow.lib import ArrowException
from pydantic import BaseModel, ConfigDict

from fusechat.errors import FusechatError

PROMPT_COLUMNS = ("messages", "conversations", "prompt", "question", "problem", "instruction")
"""Where published sets keep their prompts, looked for in this order where a recipe maps none."""
LOOKED_AT = 100
"""Rows whose columns are looked at before anything runs; a column may be missing in some."""
ANSWER_COLUMNS = ("answer", "expected_answer", "final_answer")


class FileReadError(FusechatError):
    """A data file cannot be read; says which line and how its format is told."""


class Column(BaseModel):
    """One column of a row, and what is taken of its text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str
    after: str | None = None
    """Only the text behind the last occurrence of this; a text without it counts as missing."""

    def of(self, row: Mapping[str, Any]) -> Any:
        """The value in `row`; None where it is missing."""
        value = lookup(row, self.column)
        if self.after is None or not isinstance(value, str):
            return value
        _, found, rest = value.rpartition(self.after)
        return rest.strip() if found else None


ColumnSpec = str | Column


def column(spec: ColumnSpec) -> Column:
    """The column that a recipe's text or mapping means."""
    return spec if isinstance(spec, Column) else Column(column=spec)


def lookup(row: Any, path: str) -> Any:
    """Follow a dotted path; `name[]` gives the list of what the rest finds in each element."""
    head, _, rest = path.partition(".")
    if isinstance(row, Mapping) and path in row:
        return row[path]
    each = head.endswith("[]")
    value = row.get(head.removesuffix("[]")) if isinstance(row, Mapping) else None
    if value is None or not (rest or each):
        return value
    if each:
        return [lookup(inner, rest) if rest else inner for inner in value]
    return lookup(value, rest)


def read_rows(path: Path) -> Generator[tuple[str, Any], None, None]:
    """Rows of a file with their places (`file:line`); a line that is no JSON comes as the error.

    Raises `FileReadError` where the file as a whole cannot be read.
    """
    try:
        yield from _rows_of(path)
    except (OSError, EOFError, zlib.error, ArrowException) as error:
        told = getattr(error, "strerror", None) or str(error).rstrip(".") or "not whole"
        raise FileReadError(
            f"{path} cannot be read: {told}. It is damaged, or not what its name says."
        ) from error


def _rows_of(path: Path) -> Iterator[tuple[str, Any]]:
    if path.is_dir():
        raise FileReadError(f"{path} is a folder; give one file.")
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        yield from _read_parquet(path)
    elif name.endswith(".json"):
        yield from _read_json(path)
    elif name.endswith((".jsonl", ".ndjson")):
        yield from _read_jsonl(path)
    else:
        raise FileReadError(
            f"{path}: files end in .jsonl, .json or .parquet (.gz may follow the first two)."
        )


def _open(path: Path) -> IO[bytes]:
    opener = gzip.open if path.name.endswith(".gz") else open
    return cast("IO[bytes]", opener(path, "rb"))


def _read_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    with _open(path) as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                yield f"{path.name}:{number}", json.loads(line)
            except ValueError as error:
                yield f"{path.name}:{number}", error


def _read_json(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        with _open(path) as handle:
            rows = json.loads(handle.read())
    except ValueError as error:
        raise FileReadError(f"{path} is not JSON: {error}") from error
    if not isinstance(rows, list):
        raise FileReadError(f"{path} must hold a list of rows; it holds a {type(rows).__name__}.")
    for number, row in enumerate(rows):
        yield f"{path.name}[{number}]", row


def _read_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow.parquet as pq

    number = 0
    for batch in pq.ParquetFile(path).iter_batches():
        for row in batch.to_pylist():
            yield f"{path.name}[{number}]", row
            number += 1


def first_columns(path: Path) -> Mapping[str, Any] | str:
    """The columns of the first rows, each with its first value; or why there are none."""
    rows = read_rows(path)
    objects = (row for _, row in rows if isinstance(row, Mapping))
    first: dict[str, Any] = {}
    try:
        for row in islice(objects, LOOKED_AT):
            first = {**row, **first}
    except FileReadError as error:
        return str(error)
    finally:
        rows.close()
    if not first:
        return f'{path} has no rows: each is a JSON object, such as {{"prompt": "..."}}.'
    return first


def prompt_fault(path: Path) -> str | None:
    """Why no column can be taken for the prompt where none is mapped."""
    first = first_columns(path)
    if isinstance(first, str) or any(name in first for name in PROMPT_COLUMNS):
        return first if isinstance(first, str) else None
    return (
        f"{path.name} has none of the columns {', '.join(PROMPT_COLUMNS)}. It has: "
        f"{', '.join(first)}. Say which holds the prompt: 'columns: {{prompt: ...}}'."
    )


def column_fault(path: Path, spec: ColumnSpec) -> str | None:
    """Why a mapped column cannot be right, from the first rows; None where it is there."""
    first = first_columns(path)
    if isinstance(first, str):
        return first
    wanted = column(spec).column
    head = wanted.split(".")[0].removesuffix("[]")
    if wanted in first or head in first:
        return None
    near = difflib.get_close_matches(wanted, list(first), 1)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return f"{path.name} has no column '{wanted}'. {hint}It has: {', '.join(first)}."


def to_messages(value: Any) -> list[dict[str, str]]:
    """Messages from a text, a list of `{role, content}`, or ShareGPT's `{from, value}`.

    A trailing assistant turn (the answer of a published set) is left out. Raises `ValueError`
    with the reason where the value is no conversation that ends with the user.
    """
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("empty prompt")
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not all(isinstance(turn, Mapping) for turn in value):
        raise ValueError("prompt is neither text nor a list of messages")
    roles = {"human": "user", "gpt": "assistant"}
    turns = [
        {
            "role": roles.get(str(t.get("role", t.get("from"))), str(t.get("role", t.get("from")))),
            "content": str(t.get("content", t.get("value", ""))),
        }
        for t in value
    ]
    while turns and turns[-1]["role"] == "assistant":
        turns.pop()
    if not turns or turns[-1]["role"] != "user" or not turns[-1]["content"].strip():
        raise ValueError("prompt does not end with a user turn")
    if any(turn["role"] not in ("system", "user", "assistant") for turn in turns):
        raise ValueError("prompt has a role other than system, user and assistant")
    return turns
