"""Tables in CSV, TSV, JSON, JSON lines and HTML -> columns of cells, typed as pandas types them.

Upstream reads the ground truth and the response with pandas, which is not needed here: of its
rules those that decide a comparison are followed. A column is numbers where all its cells are that
have something in them; in CSV, TSV and HTML some words mean that a cell is empty (`NA`, `null`).
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

Table = Mapping[str, Sequence[Any]]
"""Column -> its cells: a number, a truth value, a text, None (empty), or other JSON."""
FORMATS = ("csv", "tsv", "json", "jsonl", "html")
_EMPTY = frozenset(
    ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
     "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]
)  # fmt: skip
_TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_NUMBER = re.compile(
    r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*|\s*[+-]?inf(?:inity)?\s*", re.I
)


class UnreadableTableError(ValueError):
    """A text that is no table of its format."""


def read_table(form: str, text: str) -> Table:
    """The table that a text is. Raises `UnreadableTableError`."""
    if form in ("csv", "tsv"):
        return _from_lines(text, "," if form == "csv" else "\t")
    if form in ("json", "jsonl"):
        return _from_json(form, text)
    if form == "html":
        return _from_html(text)
    raise UnreadableTableError(f"tables as {form} are not known")


def _from_lines(text: str, between: str) -> Table:
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=between) if row]
    except csv.Error as error:
        raise UnreadableTableError(str(error)) from error
    if not rows:
        raise UnreadableTableError("no rows")
    return _typed_texts(rows[0], rows[1:])


def _typed_texts(header: Sequence[str], rows: Sequence[Sequence[str]], comma: str = "") -> Table:
    """Columns of texts, numbers where all are; `comma` is left out of numbers."""
    if any(len(row) > len(header) for row in rows):
        raise UnreadableTableError("a row has more cells than the header")
    columns: dict[str, list[Any]] = {}
    for place, name in enumerate(header):
        cells = [row[place] if place < len(row) else "" for row in rows]
        known = [None if cell in _EMPTY else cell for cell in cells]
        columns[_free(name or f"Unnamed: {place}", columns)] = _typed(known, comma)
    return columns


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """The name of a column, with a number behind it where another has the same."""
    numbered = (f"{name}.{k}" if k else name for k in range(len(taken) + 1))
    return next(one for one in numbered if one not in taken)


def _typed(cells: Sequence[str | None], comma: str) -> list[Any]:
    known = [cell for cell in cells if cell is not None]
    plain = [cell.replace(comma, "") if comma else cell for cell in known]
    if all(map(_NUMBER.fullmatch, plain)):
        numbers = iter(map(float, plain))
        return [None if cell is None else next(numbers) for cell in cells]
    if len(known) == len(cells) and all(cell in _TRUTH for cell in known):
        return [_TRUTH[cell] for cell in known]
    return list(cells)


def _from_json(form: str, text: str) -> Table:
    try:
        found = _lines(text) if form == "jsonl" else json.loads(text)
    except (ValueError, RecursionError):
        try:
            found = _lines(text)
        except (ValueError, RecursionError) as error:
            raise UnreadableTableError(str(error)) from error
    rows = list(found.values()) if isinstance(found, dict) else found
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UnreadableTableError("neither a list nor an object of rows that are objects")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _numbers([row.get(name) for row in rows]) for name in names}


def _lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _numbers(cells: list[Any]) -> list[Any]:
    """A JSON column; texts become numbers where every cell can."""
    cells = [None if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells]
    known = [cell for cell in cells if cell is not None]
    if not all(isinstance(cell, int | float) or _is_number(cell) for cell in known):
        return cells
    if all(isinstance(cell, bool) for cell in known):
        return cells
    try:
        return [None if cell is None else float(cell) for cell in cells]
    except OverflowError:
        return cells


def _is_number(cell: Any) -> bool:
    return isinstance(cell, str) and _NUMBER.fullmatch(cell) is not None


class _Tables(HTMLParser):
    """Collects the rows of all tables of a page; of each cell, whether it is a head, its text."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[tuple[bool, str]]] = []
        self._cell: list[str] | None = None
        self._head = self._above = False

    def handle_starttag(self, tag: str, attrs: Iterable[tuple[str, str | None]]) -> None:
        if tag in ("thead", "tbody"):
            self._above = tag == "thead"
        elif tag == "tr":
            self._end()
            self.rows.append([])
        elif tag in ("td", "th"):
            self._end()
            self._cell, self._head = [], self._above or tag == "th"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "tr", "table"):
            self._end()

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def close(self) -> None:
        super().close()
        self._end()

    def _end(self) -> None:
        if self._cell is not None and self.rows:
            self.rows[-1].append((self._head, " ".join("".join(self._cell).split())))
        self._cell = None


def _from_html(text: str) -> Table:
    page = _Tables()
    try:
        page.feed(text)
        page.close()
    except AssertionError as error:  # what the parser says of a broken declaration
        raise UnreadableTableError(str(error)) from error
    rows = [row for row in page.rows if row]
    if not rows or not all(head for head, _ in rows[0]):
        raise UnreadableTableError("no table with a header")
    header = [cell for _, cell in rows[0]]
    body = [[cell for _, cell in row] for row in rows[1:]]
    again = [row for row in body if row != header]
    return _typed_texts(header, again, ",")
