"""The section 'Benchmarks': the paper's table with our columns, differences, and what stands by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fusechat.metrics.benchmark_markdown import cost_of, extra_rows, length_of
from fusechat.metrics.benchmark_pairs import NOT_ASKED, headline_pair, role
from fusechat.metrics.benchmark_table import (
    PUBLISHED,
    average_lines,
    gap,
    items_of,
    number,
    profiles_differ,
    published_columns,
    remarks,
    rows_shown,
)
from fusechat.metrics.text import MARKS, direction, title
from fusechat.report import charts
from fusechat.report.benchmarks_found import Benchmarks, Example
from fusechat.report.words import Verdict

Row = Mapping[str, Any]
PROMPT_SHOWN, ANSWER_SHOWN, WORDS_SHOWN = 2000, 2000, 1200
"""Characters of a prompt, of an answer and of a judge's words that the page shows."""


@dataclass(frozen=True)
class Cell:
    """One number of the table, as text; empty texts are not shown."""

    model: str
    value: str
    interval: str = ""
    beside: str = ""
    """The published number and ours minus it."""
    other: str = ""
    """The other profile's number."""
    fused: bool = False


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    title: str
    n: str
    status: str
    """Empty where it is ok."""
    note: str
    cells: Sequence[Cell]
    average: bool = False
    beyond: bool = False
    """No row of the paper's table."""


def names(found: Row) -> list[str]:
    """What our models are called."""
    return [title(one["name"]) for one in found["models"]]


def columns(found: Row) -> list[str]:
    """Our models, then the published columns that none of them stands in."""
    ours = [str(one["name"]) for one in found["models"]]
    return [*ours, *(f"paper:{column}" for column in _alone(found))]


def head(column: str) -> str:
    """What a column is called."""
    paper, _, name = column.partition(":")
    return f"{PUBLISHED[name]} (paper)" if paper == "paper" and name else title(column)


def _alone(found: Row) -> list[str]:
    ours = {one["role"] for one in found["models"]}
    return [column for column in published_columns(found) if column not in ours]


def lines(found: Row) -> list[Line]:
    """The table: the paper's rows in their order, the average, then other rows."""
    shown = rows_shown(found)
    counted = [_line(row, found) for row in shown if row["counted"]]
    return [*counted, _average(found), *(_line(row, found) for row in shown if not row["counted"])]


def _line(row: Row, found: Row) -> Line:
    models = [one["name"] for one in found["models"]]
    cells = [_cell(row, model) for model in models]
    figures = row["published"] or {}
    cells += [
        Cell(f"paper:{column}", number(figures.get(column), row["scale"], 1))
        for column in _alone(found)
    ]
    taken = "a part was asked" if row.get("sampled") else ""
    status = "" if row["status"] == "ok" else str(row["status"])
    unlike = row["status"] != "skipped" and row["published"] and not row["comparable"]
    if status == "skipped":
        note = NOT_ASKED if row["reason"] == NOT_ASKED else "why: below"
    else:
        note = ", ".join(text for text in (taken, "≠ not comparable" if unlike else "") if text)
    return Line(row["title"], items_of(row), status, note, cells, beyond=not row["counted"])


def _cell(row: Row, model: str) -> Cell:
    cell, scale = row.get("models", {}).get(model), row["scale"]
    figure = (row["published"] or {}).get(str(role(model)))
    beside = "" if figure is None else f"paper {number(figure, scale, 1)}"
    fused = role(model) == "fused"
    if cell is None or cell["score"] is None:
        return Cell(model, "–", beside=beside, fused=fused)
    minus = row["minus_published"].get(model)
    if minus is not None:
        beside += f" ({gap(minus, scale)})"
    other = ""
    if profiles_differ(row) and (theirs := row["other"]["models"].get(model)):
        told = f"{number(theirs['score'], scale)} ({gap(theirs['minus_headline'], scale)})"
        other = f"{row['other']['profile']} {told}"
    return Cell(
        model, number(cell["score"], scale), _interval(cell, scale), beside, other, fused
    )  # fmt: skip


def _interval(cell: Row, scale: float) -> str:
    if cell["low"] is None:
        return ""
    return f"{number(cell['low'], scale)} to {number(cell['high'], scale)}"


def _average(found: Row) -> Line:
    average, figures = found["average"], found["average"]["published"] or {}
    cells = []
    for one in found["models"]:
        cell, model = average["models"][one["name"]], one["name"]
        figure = figures.get(str(one["role"]))
        beside = "" if figure is None else f"paper {number(figure)}"
        if figure is not None and cell["score"] is not None:
            beside += f" ({gap(cell['score'] - figure)})"
        fused = one["role"] == "fused"
        cells.append(Cell(model, number(cell["score"]), _interval(cell, 100.0), beside, "", fused))
    cells += [Cell(f"paper:{c}", number(figures.get(c))) for c in _alone(found)]
    name = f"average of {average['rows']} of {average['of']} rows"
    return Line(name, "", "", "", cells, average=True)


def comparisons(found: Row) -> list[dict[str, Any]]:
    """A forest for each pair of models, the headline pair first; ratings are drawn as per cent of
    their scale."""
    first = headline_pair([one["name"] for one in found["models"]])
    every = [
        (d["model"], d["against"]) for row in found["rows"] for d in row.get("differences", ())
    ]
    pairs = sorted(dict.fromkeys(every), key=lambda pair: pair != first)
    places = [*rows_shown(found), {**found["average"], "title": "average", "scale": 100.0}]
    told = [(place, d) for place in places for d in place.get("differences", ())]
    bounds = [100 * d[k] / p["scale"] for p, d in told for k in ("low", "high") if d[k] is not None]
    scale = charts.axis(min([0.0, *bounds]), max([0.0, *bounds]), 6)
    forests = []
    for pair in pairs:
        rows = [
            _forest_row(place, d, scale)
            for place, d in told
            if (d["model"], d["against"]) == pair and d["difference"] is not None
        ]
        name = f"{title(pair[0])} against {title(pair[1])}"
        forests.append(
            {"title": name, "ticks": charts.tick_strip(scale, signed=True), "rows": rows}
        )
    return forests


def _forest_row(place: Row, found: Row, axis: charts.Axis) -> dict[str, Any]:
    kind, unit = direction(found), place["scale"]
    strip = Markup("")
    if found["low"] is not None:
        low, at, high = (100 * found[k] / unit for k in ("low", "difference", "high"))
        strip = charts.interval_strip(at, low, high, axis, kind)
    counts = ""
    if "wins" in found:
        counts = f"{found['wins']:,} won, {found['ties']:,} equal, {found['losses']:,} lost"
    return {
        "title": place["title"],
        "average": "rows" in place,
        "kind": kind,
        "mark": MARKS[kind],
        "strip": strip,
        "difference": gap(found["difference"], unit),
        "interval": f"{gap(found['low'], unit)} to {gap(found['high'], unit)}"
        if found["low"] is not None
        else "",
        "counts": counts,
    }


def told(found: Row) -> list[tuple[str, list[str]]]:
    """What must be known of single rows, of those that were asked for."""
    asked = [row for row in rows_shown(found) if row.get("reason") != NOT_ASKED]
    return [(row["title"], texts) for row in asked if (texts := remarks(row))]


def average_note(found: Row) -> str:
    """What the average is over."""
    return " ".join(average_lines(found))


def further(found: Row) -> list[dict[str, Any]]:
    """By benchmark: numbers beside its score (by category, another reading), a cell a model."""
    models = [one["name"] for one in found["models"]]
    out: dict[str, dict[str, Any]] = {}
    for row, name, texts in extra_rows(found, models):
        entry = out.setdefault(row["name"], {"title": row["title"], "rows": []})
        entry["rows"].append((name, texts))
    return list(out.values())


def lengths(found: Row) -> list[tuple[str, list[str]]]:
    """Mean tokens and characters of the responses, a row a benchmark."""
    models = [one["name"] for one in found["models"]]
    rows = [row for row in rows_shown(found) if row["status"] != "skipped"]
    return [(r["title"], [length_of(r["models"].get(model)) for model in models]) for r in rows]


def costs(given: Benchmarks) -> list[tuple[str, list[str]]]:
    """What the answers took, and the judge, a row a benchmark."""
    models = [one["name"] for one in given.table["models"]]
    out = []
    for row in rows_shown(given.table):
        by_model = given.costs.get(row["name"], {})
        if not by_model:
            continue
        out.append((row["title"], [cost_of(by_model.get(model)) for model in models]))
        if any("judge_seconds" in one for one in by_model.values()):
            judged = [cost_of(by_model.get(model), "judge_") for model in models]
            out.append((f"{row['title']}: judge", judged))
    return out


def made_from(found: Row) -> list[dict[str, Any]]:
    """Data, settings and judge of each row that has numbers."""
    out = []
    for row in rows_shown(found):
        if row["status"] == "skipped":
            continue
        data = [
            f"{one['file']} {one['sha256'][:12]}"
            f"{' (changed)' if one['changed'] else ''}, {one['licence']}"
            for one in row["data"]
        ]
        settings = row["settings"]
        named = settings if isinstance(settings, str) else "differ by model"
        judge = ", ".join(row["judge_served"]) or row["judge"] or ""
        out.append({"title": row["title"], "data": data, "settings": named[:12], "judge": judge})
    return out


def examples(given: Benchmarks) -> list[dict[str, Any]]:
    """Wins and losses to read, each text clipped."""
    return [_example(one) for one in given.examples]


def _example(one: Example) -> dict[str, Any]:
    scale = "won" if one.won else "lost"
    first = one.turns[-1][1] if one.turns else ""
    return {
        "title": one.title,
        "item": one.item,
        "category": "" if one.category == "all" else one.category,
        "kind": "gain" if one.won else "loss",
        "mark": MARKS["gain" if one.won else "loss"],
        "what": f"{scale} by {title(one.sides[0].model)}",
        "first": first[:160],
        "turns": [(who, *_clipped(text, PROMPT_SHOWN)) for who, text in one.turns],
        "sides": [
            {
                "title": title(side.model),
                "fused": role(side.model) == "fused",
                "value": f"{side.value:.2f}".rstrip("0").rstrip("."),
                "text": _clipped(side.text, ANSWER_SHOWN),
                "words": [_clipped(words, WORDS_SHOWN) for words in side.words],
            }
            for side in one.sides
        ],
    }


def _clipped(text: str, most: int) -> tuple[str, int]:
    return text[:most], max(0, len(text) - most)


def hidden(found: Row) -> list[str]:
    """Benchmarks with numbers whose texts are not shown."""
    return [r["title"] for r in found["rows"] if r["private"] and r["status"] != "skipped"]


def verdict(found: Row) -> Verdict:
    """What came of it in a sentence: the average's difference of the headline pair."""
    average = found["average"]
    pair = headline_pair([one["name"] for one in found["models"]])
    entry = next(
        (d for d in average["differences"] if (d["model"], d["against"]) == pair), None
    )  # fmt: skip
    if entry is None or entry["difference"] is None:
        if average["rows"]:
            return Verdict("unclear", f"{average['rows']} of {average['of']} rows are ok.")
        return Verdict("unclear", f"None of the {average['of']} rows is ok; each says why.")
    kind = direction(entry)
    size = f"{gap(entry['difference'])} (95% interval {gap(entry['low'])} to {gap(entry['high'])})"
    over = f"on average over {average['rows']} of {average['of']} rows"
    names = f"{title(entry['model'])} against {title(entry['against'])}"
    openings = {"gain": "A gain", "loss": "A loss", "unclear": "No clear difference"}
    return Verdict(kind, f"{openings[kind]}, {names}: {size} {over}.")
