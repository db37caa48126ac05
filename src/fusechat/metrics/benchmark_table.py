"""The benchmarks' table (benchmarks.json) for terminals. Pure.

The paper's rows in the paper's order, our columns with the published ones beside them, the other
profile below where it differs, the average over k of 14, then what must be known of single rows. No
row is left out: one without numbers says why.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusechat.metrics.benchmark_pairs import NOT_ASKED, headline_pair, role
from fusechat.metrics.text import MARKS, _columns, _grid, direction, title

Row = Mapping[str, Any]
PUBLISHED = {"base": "base", "sft": "SFT", "fused": "fused", "tulu3_8b": "Tulu 3"}
"""Published column -> its head."""
LEGEND = (
    "95% intervals; difference paired on the same items: ▲ above zero, ▼ below, · across it; "
    "≠: not comparable with the published number"
)


def number(value: float | None, scale: float = 100.0, digits: int | None = None) -> str:
    """A number in the table's units: per cent with one decimal, ratings with two."""
    if value is None:
        return "–"
    return f"{value:.{places(scale) if digits is None else digits}f}".replace("-", "−")


def gap(value: float | None, scale: float = 100.0) -> str:
    """A difference in the table's units, always signed."""
    if value is None:
        return "–"
    text = f"{value:+.{places(scale)}f}"
    return text[1:] if not text.strip("+-0.") else text.replace("-", "−")


def places(scale: float) -> int:
    """Decimals of a row of this scale."""
    return 1 if scale >= 100 else 2


def profiles_differ(row: Row) -> bool:
    """Whether the other profile says another number of any model."""
    other = row.get("other")
    return other is not None and any(cell["minus_headline"] for cell in other["models"].values())


def rows_shown(found: Row) -> list[Row]:
    """All rows with something to say: those of the paper, and others that were asked for."""
    return [row for row in found["rows"] if row["counted"] or row["status"] != "skipped"] + [
        row for row in found["rows"] if not row["counted"] and row["status"] == "skipped"
    ]


@dataclass(frozen=True)
class Layout:
    """What a width has room for."""

    digits: int | None
    """Decimals of interval bounds (2 is a row's own); None: no intervals."""
    published: bool
    difference: bool


LAYOUTS = (
    Layout(2, True, True), Layout(0, True, True), Layout(None, True, True),
    Layout(0, False, True), Layout(None, False, True), Layout(None, False, False),
)  # fmt: skip


def format_benchmarks(found: Row, width: int = 80) -> str:
    """The table for a terminal of `width` columns.

    Where the width is short, intervals are rounded, then left out, then published columns, then the
    difference; `comparison.md` and the report have everything.
    """
    lines: list[str] = []
    for layout in LAYOUTS:
        lines = _grid(_cells(found, layout))
        if max(map(_columns, lines)) <= width:
            break
    lines += ["", *average_lines(found, width), *_notes(found, width), ""]
    lines += textwrap.wrap(LEGEND, width)
    return "\n".join(line.rstrip() for line in lines)


def _cells(found: Row, layout: Layout) -> list[list[str]]:
    models = [one["name"] for one in found["models"]]
    pair = headline_pair(models) if layout.difference else None
    columns = published_columns(found) if layout.published else []
    heads = [f"{found['profile']} profile", "n", *map(title, models)]
    heads += [f"{title(pair[0])} − {title(pair[1])}"] if pair else []
    heads += [f"paper {PUBLISHED[column]}" for column in columns] + ["status"]
    out, beyond = [heads], False
    for row in rows_shown(found):
        if not row["counted"] and not beyond:
            beyond = True
            out += [average_cells(found, models, pair, columns, layout)]
        out.append(_row_cells(row, models, pair, columns, layout))
        if profiles_differ(row):
            out.append(_other_cells(row, models, pair, columns))
    return out if beyond else [*out, average_cells(found, models, pair, columns, layout)]


def published_columns(found: Row) -> list[str]:
    """The published columns: those of our models, and Tulu 3 where the paper has it."""
    there = found["published"]
    if there is None:
        return []
    ours = {role(one["name"]) for one in found["models"]}
    return [c for c in PUBLISHED if c in there["columns"] and (c in ours or c == "tulu3_8b")]


def _row_cells(
    row: Row,
    models: Sequence[str],
    pair: tuple[str, str] | None,
    columns: Sequence[str],
    layout: Layout,
) -> list[str]:
    cells, scale = row.get("models", {}), row["scale"]
    out = [
        row["title"],
        items_of(row),
        *(_cell(cells.get(m), scale, layout.digits) for m in models),
    ]
    out += [difference_cell(_between(row, pair), scale)] if pair else []
    figures = row["published"] or {}
    return [*out, *(number(figures.get(c), scale, 1) for c in columns), status_of(row)]


def items_of(row: Row) -> str:
    """How many items were asked, of how many."""
    if row["status"] == "skipped":
        return "–"
    least = min((cell["n"] for cell in row["models"].values()), default=0)
    most = max((cell["expected"] for cell in row["models"].values()), default=0)
    return f"{most:,}" if least == most else f"{least:,}/{most:,}"


def status_of(row: Row) -> str:
    """`ok`, `partial` or `skipped`, with ≠ where the number is not comparable with the paper's."""
    unlike = row["status"] != "skipped" and row["published"] and not row["comparable"]
    taken = " (taken)" if row.get("sampled") else ""
    return f"{row['status']}{taken}{' ≠' if unlike else ''}"


def _cell(cell: Row | None, scale: float, digits: int | None) -> str:
    if cell is None or cell["score"] is None:
        return "–"
    text = number(cell["score"], scale)
    if digits is None or cell["low"] is None:
        return text
    shown = min(digits, places(scale)) if scale >= 100 else max(1, min(digits, places(scale)))
    return f"{text} [{number(cell['low'], scale, shown)}, {number(cell['high'], scale, shown)}]"


def difference_cell(found: Row | None, scale: float) -> str:
    """A difference with its mark and interval."""
    if found is None or found["difference"] is None:
        return "–"
    text = f"{MARKS[direction(found)]} {gap(found['difference'], scale)}"
    if found["low"] is None:
        return text
    return f"{text} [{gap(found['low'], scale)}, {gap(found['high'], scale)}]"


def _between(row: Row, pair: tuple[str, str] | None) -> Row | None:
    found = row.get("differences", ())
    return next((d for d in found if (d["model"], d["against"]) == pair), None)


def _other_cells(
    row: Row, models: Sequence[str], pair: tuple[str, str] | None, columns: Sequence[str]
) -> list[str]:
    """The same row as the other profile grades it, with what it differs by."""
    other, scale = row["other"], row["scale"]
    cells = [
        f"{number(cell['score'], scale)} ({gap(cell['minus_headline'], scale)})" if cell else "–"
        for cell in (other["models"].get(model) for model in models)
    ]
    difference = [difference_cell(_between(other, pair), scale)] if pair else []
    return [f"  {other['profile']}", "", *cells, *difference, *("" for _ in columns), ""]


def average_cells(
    found: Row,
    models: Sequence[str],
    pair: tuple[str, str] | None,
    columns: Sequence[str],
    layout: Layout,
) -> list[str]:
    """The average over the rows that are ok, and the published one over the same rows."""
    average = found["average"]
    out = [f"average ({average['rows']}/{average['of']})", ""]
    out += [_cell(average["models"].get(model), 100.0, layout.digits) for model in models]
    out += [difference_cell(_between(average, pair), 100.0)] if pair else []
    figures = average["published"] or {}
    return [*out, *(number(figures.get(column)) for column in columns), ""]


def average_lines(found: Row, width: int = 10_000) -> list[str]:
    """What the average is over, and the published one as printed."""
    average, there = found["average"], found["published"]
    k, of = average["rows"], average["of"]
    text = f"Average over {k} of {of} rows: {', '.join(average['over'])}." if k else (
        f"No average: none of the {of} rows is ok."
    )  # fmt: skip
    if average["sampled"]:
        text += " Of some of them only a part of the items was asked (take)."
    if there is not None:
        printed = ", ".join(
            f"{PUBLISHED[column]} {value}" for column, value in there["average"].items()
        )
        if average["published"]:
            text += " The paper's columns beside it are averaged over the same rows."
        text += f" Published for {there['target']} over its {there['rows']} rows: {printed}."
    return textwrap.wrap(text, width)


def remarks(row: Row) -> list[str]:
    """What must be known of a row beside its numbers, in sentences."""
    out = []
    if row["status"] != "ok":
        out.append(f"{row['status']}: {row['reason']}")
    if row["status"] != "skipped" and row["published"] and row["why_not"]:
        out.append(f"not comparable with the paper: {_listed(row['why_not'])}")
    elif row["status"] != "skipped" and row["why_not"]:
        out.append(_listed(row["why_not"]))
    told = [_sentence(text) for text in (*out, *_counted(row))]
    return told + [text if text.endswith((".", "!", "?")) else f"{text}." for text in row["notes"]]


def _listed(texts: Sequence[str]) -> str:
    return "; ".join(text.rstrip(".") for text in texts)


COUNTS = (
    ("parse_failed", "no answer could be read in"), ("cut", "cut at the token limit:"),
    ("empty", "without text:"),
)  # fmt: skip


def _counted(row: Row) -> list[str]:
    """Responses that count as they are, but that a reader should know of."""
    out = []
    for key, what in COUNTS:
        counts = {model: cell[key] for model, cell in row.get("models", {}).items() if cell[key]}
        if counts:
            named = ", ".join(f"{count:,} ({title(model)})" for model, count in counts.items())
            out.append(f"{what} {named}")
    return out


def _sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _notes(found: Row, width: int) -> list[str]:
    """Remarks of the rows; those that nobody asked for in one line."""
    lines: list[str] = []
    unasked = [row["title"] for row in found["rows"] if row.get("reason") == NOT_ASKED]
    for row in rows_shown(found):
        told = remarks(row)
        if told and row["title"] not in unasked:
            text = f"{row['title']}: {' '.join(told)}"
            lines += textwrap.wrap(text, width, subsequent_indent="  ")
    if unasked:
        lines += textwrap.wrap(
            f"Not asked for: {', '.join(unasked)}.", width, subsequent_indent="  "
        )
    return lines
