"""LiveBench's data analysis: cta, tablejoin and tablereformat."""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from fusechat.annotators._live_question import Graded, NotGradedError, Question
from fusechat.annotators._live_table_reading import (
    FORMATS,
    Table,
    UnreadableTableError,
    read_table,
)

_CONVERT = "Please convert the Input Table from "
_PHRASE = re.compile(r"^\s*(?:Here|Input)\b.*?\b(?:format|table)\s*[:)]\s*", re.IGNORECASE)
_TOLERANCE = 1e-6


def cta(question: Question, response: str) -> Graded:
    """Whether the whole response is the class's name, but for case and all that is no letter,
    digit or underscore."""
    return Graded(float(_word(question.answer) == _word(response)), response.strip())


def _word(text: str) -> str:
    return re.sub(r"[^\w]", "", text.lower().strip())


def tablejoin(question: Question, response: str) -> Graded:
    """F1 of the pairs of columns, rounded to two digits.

    The mapping is a Python dictionary between the first ` ```python ` and the last fence, or else
    the whole response. A wrong partner counts as a false pair and as a missing one; a pair of a
    column that has no partner as a false one.
    """
    truth, given = _truth(question), _mapping(response)
    if not given:
        return Graded(0.0)
    hits = sum(bool(truth.get(key)) and truth[key] == value for key, value in given.items())
    false = len(given) - hits
    unmet = sum(bool(truth.get(key)) and truth[key] != value for key, value in given.items())
    unmet += sum(not given.get(key) for key in truth)
    f1 = 2 * hits / (2 * hits + false + unmet)
    return Graded(round(f1 * 100) / 100, json.dumps(given, ensure_ascii=False, default=str))


def _truth(question: Question) -> Mapping[str, Any]:
    found = _literal(question.answer)
    if not isinstance(found, dict):
        raise NotGradedError("gold answer is no mapping")
    return found


def _mapping(response: str) -> Mapping[Any, Any]:
    fenced = re.findall("```python(.*)```", response.replace("\n", ""))
    found = _literal(fenced[-1] if fenced else response)
    return found if isinstance(found, dict) else {}


def _literal(text: str) -> Any:
    """The Python value that a text writes down; None where it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd backslashes in its texts
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def tablereformat(question: Question, response: str) -> Graded:
    """Whether the response is the table of the ground truth in the format asked for.

    Fences are left out, then a phrase like `Here is the table:`. By the rules of autumn 2024 each
    column must hold the same values in whatever order, so that rows may be mixed up, and a table
    with an empty cell is never right, not even the true one (7 of 50). Corrected, as the publisher
    later did: row by row, blanks at the ends of texts left out, numbers equal within 1e-6, empty
    equal to empty, and a column `index` of the response's own left out.
    """
    form = _wanted(question.text)
    same = _same_rows if question.corrected else _same_columns
    try:
        truth = read_table(form, question.answer)
    except UnreadableTableError as error:
        raise NotGradedError("gold answer is no table", str(error)) from error
    text = re.sub(r"^```.*\n", "", response).replace("```", "").strip()
    read = None
    for candidate in dict.fromkeys((text, _PHRASE.sub("", text).strip())):
        try:
            table = read_table(form, candidate)
        except UnreadableTableError:
            continue
        read = f"{form}: {', '.join(map(str, table))}"
        if same(_named(truth), _named(table)):
            return Graded(1.0, read)
    return Graded(0.0, read)


def _wanted(text: str) -> str:
    _, found, rest = text.partition(_CONVERT)
    form = rest.partition("format to ")[2].partition(" format")[0].lower()
    if not found or form not in FORMATS:
        raise NotGradedError("unknown format of tables", form)
    return form


def _named(table: Table) -> Table | None:
    """The table with its columns' names plain; None where two then have the same."""
    names = [str(name).strip().lower() for name in table]
    plain = dict(zip(names, table.values(), strict=True))
    return plain if len(plain) == len(names) else None


def _same_columns(truth: Table | None, table: Table | None) -> bool:
    if truth is None or table is None or truth.keys() != table.keys():
        return False
    return all(_sorted(truth[name], table[name]) for name in truth)


def _sorted(left: Sequence[Any], right: Sequence[Any]) -> bool:
    if None in left or None in right:
        return False
    try:
        return sorted(left) == sorted(right)
    except TypeError:  # numbers and texts in one column
        return False


def _same_rows(truth: Table | None, table: Table | None) -> bool:
    if truth is None or table is None:
        return False
    left, right = ({k: v for k, v in t.items() if k != "index"} for t in (truth, table))
    if left.keys() != right.keys():
        return False
    return all(
        len(left[name]) == len(right[name]) and all(map(_same_cell, left[name], right[name]))
        for name in left
    )


def _same_cell(left: Any, right: Any) -> bool:
    left, right = (
        cell.strip() or None if isinstance(cell, str) else cell for cell in (left, right)
    )
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=0, abs_tol=_TOLERANCE)
    return bool(left == right)
