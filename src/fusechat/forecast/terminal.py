"""A forecast as a table for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fusechat.forecast.costs import Forecast, Line
from fusechat.forecast.estimate import Estimate
from fusechat.forecast.evaluation import foot as evaluation_foot

COLUMNS = ("unit", "rows", "to do", "tokens in", "tokens out", "time", "GPU hours", "cost", "disk")
NOT_LINEAR = (
    "Hours grow with rows here, but are less where a pilot is too small to fill the servers or "
    "pays for loading a model; more where a server slows down under others' load. They hold for "
    "the machines and the cluster file of the pilot."
)


def table(forecast: Forecast) -> str:
    """All that a user wants to see of a forecast."""
    if not forecast.lines:
        return "\n".join(evaluation_foot(forecast.evaluation)) or "there is nothing to plan."
    totals = forecast.totals()
    rows = [COLUMNS, *(_row(line) for line in forecast.lines), _total_row(forecast.lines, totals)]
    return "\n".join(
        [
            *_aligned(rows),
            *_line_notes(forecast.lines),
            *_yield_lines(forecast.yields, forecast.yields_from),
            *evaluation_foot(forecast.evaluation),
            *(line for one in forecast.training for line in one.lines()),
            *_foot(forecast, totals),
        ]
    )


def _row(line: Line) -> tuple[str, ...]:
    return (
        line.unit,
        f"{line.rows:,}",
        f"{line.to_do:,}",
        *_amounts(vars(line), bool(line.origin) or not line.to_do),
    )


def _total_row(lines: Sequence[Line], totals: Mapping[str, Estimate | None]) -> tuple[str, ...]:
    asked = [line for line in lines if line.unit != "build"]
    rows, to_do = (sum(getattr(line, name) for line in asked) for name in ("rows", "to_do"))
    shown = {name: one if one is None or one.value else None for name, one in totals.items()}
    return ("total", f"{rows:,}", f"{to_do:,}", *_amounts(shown, True))


def _amounts(found: Mapping[str, Any], measured: bool) -> tuple[str, ...]:
    if not measured:
        return ("?", "?", "?", "?", "?", "?")
    return (
        _cell(found["prompt_tokens"], ",.0f"),
        _cell(found["response_tokens"], ",.0f"),
        _time(found["hours"]),
        _cell(found["gpu_hours"], ",.3g"),
        _cell(found["cost"], ",.4g"),
        size(found["disk"].value) if found["disk"] else "-",
    )


def _cell(one: Estimate | None, form: str, unit: str = "") -> str:
    if one is None:
        return "-"
    told = format(one.value, form) + unit
    if one.half is None or not one.value:
        return told
    return f"{told} ±{100 * one.half / one.value:.0f}%"


def _time(hours: Estimate | None) -> str:
    """In the unit that reads best."""
    if hours is None:
        return "-"
    for factor, unit in ((3600, " s"), (60, " min")):
        if hours.value * factor < 100:
            return _cell(hours.times(factor), ",.3g", unit)
    return _cell(hours, ",.4g", " h")


def size(count: float) -> str:
    """Bytes in the unit that reads best."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        first = row[0].ljust(widths[0])
        yield "  ".join(
            [first, *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        )


def _line_notes(lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        notes = list(line.notes)
        if line.failed:
            notes.append(f"{line.failed:.1%} of its rows failed")
        if line.cut:
            what = "cut at the token limit" if line.unit.startswith("sample/") else "not scorable"
            notes.append(f"{line.cut:.1%} {what}")
        if notes:
            yield f"  {line.unit}: {'; '.join(notes)}"


def _yield_lines(yields: Mapping[str, Mapping[str, Any]], origin: str) -> Iterator[str]:
    for domain, found in yields.items():
        told = [
            f"{_range(found[table])} {word}"
            for table, word in (("sft", "SFT rows"), ("dpo", "pairs"))
            if found[table] is not None
        ]
        what = ", ".join(told) or "not measured: the pilot has no such prompt"
        yield f"yield {domain}: of {found['prompts']:,} prompts {what} ({origin})"


def _range(found: Mapping[str, float]) -> str:
    return f"{found['value']:,.0f} ({found['low']:,.0f} to {found['high']:,.0f})"


def _foot(forecast: Forecast, totals: Mapping[str, Estimate | None]) -> Iterator[str]:
    missing = [line.unit for line in forecast.lines if line.to_do and not line.origin]
    if missing:
        yield f"not measured: {', '.join(missing)}. Run: fusechat plan RECIPE --pilot N"
    timeless = [
        line.unit for line in forecast.lines if line.to_do and line.origin and line.hours is None
    ]
    if timeless:
        yield (
            f"no hours for {', '.join(timeless)}: every row was taken over from elsewhere. "
            "A larger pilot measures them."
        )
    asked = [line for line in forecast.lines if line.unit.startswith("sample/")]
    if not any(line.priced or line.on_gpus for line in asked):
        yield "no money, no GPU hours: the cluster file (--cluster) has no 'price' and no 'gpus'."
    if totals["hours"] is not None and totals["hours"].value:
        yield NOT_LINEAR
    yield "± and ranges: 95%, from the spread between the pilot's prompts."
    if forecast.left_out:
        stages = Counter(name.split("/")[0] for name in forecast.left_out)
        named = (f"{name} ({n} units)" if n > 1 else name for name, n in stages.items())
        yield f"not in this: {', '.join(named)}"
