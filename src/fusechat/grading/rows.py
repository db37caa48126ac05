"""Rows of a user's JSON-lines file, all looked at before any is graded."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from fusechat.errors import Fault, RecipeError

Row = TypeVar("Row", bound=BaseModel)

LISTED = 20
"""Faults that are printed; the rest are counted."""
_LONE = re.compile("[\ud800-\udfff]")


def read_rows(path: Path, row_model: type[Row]) -> list[tuple[int, Row]]:
    """Every row with its line number from 1; blank lines are skipped.

    Keys that `row_model` does not have are allowed. A number where it wants a text is taken as
    it is written (`1.50` gives `"1.50"`), and half a surrogate pair, which no UTF-8 can hold,
    becomes U+FFFD. Raises `RecipeError` with each fault's `file:line` and mend (20 at most,
    then their number); then no row was graded.
    """
    rows, faults = [], []
    for number, line in _lines(path):
        try:
            rows.append((number, _row(line, row_model)))
        except ValueError as error:
            faults.append(Fault(f"{path}:{number}", "", _message(error, row_model)))
    if faults:
        more = len(faults) - LISTED
        rest = [Fault(str(path), "", f"and {more} more such lines.")] if more > 0 else []
        raise RecipeError([*faults[:LISTED], *rest])
    return rows


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with open(path, "rb") as handle:
            for number, line in enumerate(handle, start=1):
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if text.strip():
                    yield number, text
    except OSError as error:
        mend = "Give the path of a JSON-lines file."
        raise RecipeError([Fault(str(path), "", f"{error.strerror}. {mend}")]) from error


class _Written(str):
    """A number of the file as its author wrote it."""

    __slots__ = ()


def _row(line: bytes, row_model: type[Row]) -> Row:
    try:
        found = json.loads(
            line.decode(), parse_int=_Written, parse_float=_Written, parse_constant=_no_number
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start}). Save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"not JSON: {error.msg} (character {error.pos}). Write one object a line."
        ) from error
    except RecursionError as error:
        raise ValueError("nested too deeply to be read. Write one flat object a line.") from error
    if not isinstance(found, dict):
        kind = "number" if isinstance(found, _Written) else type(found).__name__
        raise ValueError(f"a {kind}, not an object. {_wanted(row_model)}")
    known = {key: value for key, value in found.items() if key in row_model.model_fields}
    return row_model.model_validate(
        {key: _value(value, row_model.model_fields[key].annotation) for key, value in known.items()}
    )


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON. Write it as a text, in quotes.")


def _value(value: Any, wanted: Any) -> Any:
    if isinstance(value, _Written) and str in _kinds(wanted) and not {int, float} & _kinds(wanted):
        return str(value)
    return _plain(value)


def _kinds(annotation: Any) -> set[Any]:
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return set(typing.get_args(annotation)) if union else {annotation}


def _plain(value: Any) -> Any:
    if isinstance(value, _Written):
        return float(value) if set(".eE") & set(value) else int(value)
    if isinstance(value, str):
        return _LONE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return value


def _message(error: ValueError, row_model: type[BaseModel]) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    told = []
    for fault in error.errors(include_url=False):
        key = ".".join(map(str, fault["loc"]))
        missing = fault["type"] == "missing"
        told.append(f"'{key}' is missing" if missing else f"'{key}': {fault['msg'].lower()}")
    return f"{'; '.join(dict.fromkeys(told))}. {_wanted(row_model)}"


def _wanted(row_model: type[BaseModel]) -> str:
    fields = row_model.model_fields.items()
    needed = [f"'{name}'" for name, info in fields if info.is_required()]
    optional = [f"'{name}'" for name, info in fields if not info.is_required()]
    told = f"Write one object a line with {', '.join(needed)}"
    return f"{told} and, where you like, {', '.join(optional)}." if optional else f"{told}."
