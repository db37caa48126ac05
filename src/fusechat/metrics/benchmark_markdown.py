"""The benchmarks' table (benchmarks.json) as a Markdown page. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fusechat.metrics.benchmark_table import (
    LEGEND,
    PUBLISHED,
    average_lines,
    difference_cell,
    gap,
    items_of,
    number,
    profiles_differ,
    published_columns,
    remarks,
    rows_shown,
    status_of,
)
from fusechat.metrics.text import title

Row = Mapping[str, Any]


def as_markdown(found: Row, name: str, costs: Mapping[str, Mapping[str, Row]] | None = None) -> str:
    """The page: the table in the paper's layout, differences, other numbers, lengths, remarks.

    `costs`: row -> model -> what sampling it took, where that is known.
    """
    models = [one["name"] for one in found["models"]]
    parts = [f"# {name}: the benchmarks of FuseChat-3.0", "", *_main(found, models), ""]
    parts += [*average_lines(found), "", *_differences(found), *_profiles(found, models)]
    parts += [*_extras(found, models), *_lengths(found, models), *_costs(found, models, costs)]
    parts += [*_remarks(found), *_origin(found), "", LEGEND, "", found["method"]]
    return "\n".join([*parts, ""])


def _main(found: Row, models: Sequence[str]) -> list[str]:
    columns = published_columns(found)
    heads = ["Benchmark", "n", *map(title, models)]
    for column in columns:
        heads += [f"paper {PUBLISHED[column]}"]
        heads += [f"{title(m)} − paper" for m in _ours(found, column)]
    body = [_main_row(row, models, columns, found) for row in rows_shown(found)]
    counted = sum(row["counted"] for row in rows_shown(found))
    average = found["average"]
    figures = average["published"] or {}
    last = [f"**Average ({average['rows']}/{average['of']})**", ""]
    last += [_score(average["models"].get(model), 100.0) for model in models]
    for column in columns:
        last.append(number(figures.get(column)))
        last += [
            gap(_minus(average["models"][model]["score"], figures.get(column)))
            for model in _ours(found, column)
        ]
    return _table([*heads, "Status"], [*body[:counted], [*last, ""], *body[counted:]])


def _ours(found: Row, column: str) -> list[str]:
    """Our models that stand in a published column."""
    return [one["name"] for one in found["models"] if one["role"] == column]


def _main_row(row: Row, models: Sequence[str], columns: Sequence[str], found: Row) -> list[str]:
    cells, figures, scale = row.get("models", {}), row["published"] or {}, row["scale"]
    out = [row["title"], items_of(row), *(_score(cells.get(model), scale) for model in models)]
    for column in columns:
        out.append(number(figures.get(column), scale, 1))
        minus = row.get("minus_published", {})
        out += [gap(minus.get(model), scale) for model in _ours(found, column)]
    return [*out, status_of(row)]


def _minus(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _score(cell: Row | None, scale: float) -> str:
    if cell is None or cell["score"] is None:
        return "–"
    text = number(cell["score"], scale)
    if cell["low"] is None:
        return text
    return f"{text} [{number(cell['low'], scale)}, {number(cell['high'], scale)}]"


def _differences(found: Row) -> list[str]:
    pairs = dict.fromkeys(
        (d["model"], d["against"]) for row in found["rows"] for d in row.get("differences", ())
    )
    if not pairs:
        return []
    places = [*rows_shown(found), {**found["average"], "title": "Average", "scale": 100.0}]
    rows = []
    for place in places:
        told = {(d["model"], d["against"]): d for d in place.get("differences", ())}
        if told:
            cells = [difference_cell(told.get(pair), place["scale"]) for pair in pairs]
            rows.append([place["title"], *map(_with_counts, cells, map(told.get, pairs))])
    heads = ["Difference", *(f"{title(a)} − {title(b)}" for a, b in pairs)]
    return ["**Differences, paired on the same items (won / equal / lost items).**", "",
            *_table(heads, rows), ""]  # fmt: skip


def _with_counts(cell: str, found: Row | None) -> str:
    if found is None or "wins" not in found:
        return cell
    return f"{cell} ({found['wins']:,} / {found['ties']:,} / {found['losses']:,})"


def _profiles(found: Row, models: Sequence[str]) -> list[str]:
    rows = [
        [row["title"], row["other"]["profile"],
         *(_other(row["other"]["models"].get(model), row["scale"]) for model in models)]
        for row in rows_shown(found) if profiles_differ(row)
    ]  # fmt: skip
    if not rows:
        return []
    heads = ["Benchmark", "profile", *map(title, models)]
    text = f"**The other grading, where it differs from the profile {found['profile']}.**"
    return [text, "", *_table(heads, rows), ""]


def _other(cell: Row | None, scale: float) -> str:
    return "–" if cell is None else f"{_score(cell, scale)} ({gap(cell['minus_headline'], scale)})"


def _extras(found: Row, models: Sequence[str]) -> list[str]:
    rows = [[row["title"], name, *values] for row, name, values in extra_rows(found, models)]
    if not rows:
        return []
    heads = ["Benchmark", "number", *map(title, models)]
    return ["**Further numbers.**", "", *_table(heads, rows), ""]


def extra_rows(found: Row, models: Sequence[str]) -> Iterable[tuple[Row, str, list[str]]]:
    """(row, name, text by model) of every number that benchmarks tell beside their score."""
    for row in rows_shown(found):
        told = {model: dict(flat(cell["extras"])) for model, cell in row.get("models", {}).items()}
        names = dict.fromkeys(name for one in told.values() for name in one)
        for name in names:
            yield row, name, [_plain(told.get(model, {}).get(name)) for model in models]
        runs = {model: cell["runs"] for model, cell in row.get("models", {}).items()}
        if any(runs.values()):
            texts = [runs_of(runs.get(model, ()), row["scale"]) for model in models]
            yield row, "runs of one sample each", texts


def runs_of(values: Sequence[float], scale: float) -> str:
    """Numbers of repeated runs: how many, their least and most, and their standard deviation."""
    if len(values) < 2:
        return "–"
    reach = f"{number(min(values), scale)} to {number(max(values), scale)}"
    return f"{len(values)}: {reach}, sd {statistics.stdev(values):.2f}"


def flat(found: Row, before: str = "") -> Iterable[tuple[str, Any]]:
    """Leaves of nested numbers, with the names above them."""
    for name, value in found.items():
        full = f"{before}, {name}" if before else str(name)
        if isinstance(value, Mapping):
            yield from flat(value, full)
        elif not isinstance(value, list):
            yield full.replace("_", " "), value
        elif value and all(isinstance(one, (int, float)) for one in value):
            yield full.replace("_", " "), " to ".join(_plain(one) for one in value)


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if 0 < abs(value) < 0.1 else f"{value:,.2f}"
    return str(value)


def _lengths(found: Row, models: Sequence[str]) -> list[str]:
    rows = []
    for row in rows_shown(found):
        cells = row.get("models", {})
        if cells:
            rows.append([row["title"], *(length_of(cells.get(model)) for model in models)])
    if not rows:
        return []
    return ["**Mean length of a response: tokens (characters).**", "",
            *_table(["Benchmark", *map(title, models)], rows), ""]  # fmt: skip


def length_of(cell: Row | None) -> str:
    """Mean tokens and characters of a response."""
    if cell is None or cell["mean_characters"] is None:
        return "–"
    tokens = "–" if cell["mean_tokens"] is None else f"{cell['mean_tokens']:,.0f}"
    return f"{tokens} ({cell['mean_characters']:,.0f})"


def _costs(
    found: Row, models: Sequence[str], costs: Mapping[str, Mapping[str, Row]] | None
) -> list[str]:
    rows = []
    for row in rows_shown(found):
        told = (costs or {}).get(row["name"], {})
        if told:
            rows.append([row["title"], *(cost_of(told.get(model)) for model in models)])
        if any("judge_seconds" in one for one in told.values()):
            judged = [cost_of(told.get(model), "judge_") for model in models]
            rows.append([f"{row['title']}: judge", *judged])
    if not rows:
        return []
    return ["**What sampling took: seconds, tokens a second, cost where a price is known.**", "",
            *_table(["Benchmark", *map(title, models)], rows), ""]  # fmt: skip


def cost_of(told: Row | None, before: str = "") -> str:
    """Seconds, tokens a second and cost of one model's answers; `judge_`: of their judge."""
    if told is None or f"{before}seconds" not in told:
        return "–"
    seconds = told[f"{before}seconds"]
    out = f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if rate := told[f"{before}tokens_per_second"]:
        out += f", {rate:,.0f} tok/s"
    if (cost := told[f"{before}cost"]) is not None:
        out += f", {cost:.2f}"
    return out


def _remarks(found: Row) -> list[str]:
    lines = [f"- {row['title']}: {' '.join(remarks(row))}" for row in rows_shown(found)
             if remarks(row)]  # fmt: skip
    return ["**Of single rows.**", "", *lines, ""] if lines else []


def _origin(found: Row) -> list[str]:
    rows = []
    for row in rows_shown(found):
        if row["status"] == "skipped":
            continue
        data = "; ".join(f"{one['file']} `{one['sha256'][:12]}`" for one in row["data"])
        settings = row["settings"]
        told = settings if isinstance(settings, str) else "differ by model"
        rows.append([row["title"], data or "–", f"`{told}`", row["judge"] or "–"])
    out = ["**What the rows were made from.**", ""]
    out += [*_table(["Benchmark", "data (SHA-256)", "settings", "judge"], rows), ""] if rows else []
    models = [f"{title(one['name'])}: {', '.join(one['served']) or '–'}" for one in found["models"]]
    out += [f"Models: {'; '.join(models)}."]
    if found["published"] is not None:
        out += [f"Published figures: {found['published']['source']}."]
    return out


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [_line(heads), _line(["---", *(["---:"] * (len(heads) - 1))])]
    return [*lines, *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
