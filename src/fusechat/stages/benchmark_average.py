"""The average over the rows of benchmarks.json, ours and the published one over the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusechat.metrics.bootstrap import Interval, combine
from fusechat.metrics.published import Published


def average(
    rows: Sequence[Mapping[str, Any]], models: Sequence[str], there: Published | None, of: int
) -> dict[str, Any]:
    """The plain mean of the numbers of the rows that count, are ok and have every model.

    Intervals combine the rows' own (their items are independent). `published`: the same mean of the
    published columns, over the same rows.
    """
    used = [row for row in rows if not _left_out(row, models)]
    pairs = [(d["model"], d["against"]) for d in used[0]["differences"]] if used else []
    return {
        "rows": len(used),
        "of": of,
        "over": [row["title"] for row in used],
        "sampled": any(row["sampled"] for row in used),
        "models": {
            model: _mean([row["models"][model] for row in used], "score") for model in models
        },
        "differences": [
            {
                "model": model,
                "against": against,
                **_mean([_difference(row, model, against) for row in used], "difference"),
            }
            for model, against in pairs
        ],
        "published": _published(used, there),
        "left_out": [
            {"title": row["title"], "reason": reason}
            for row in rows
            if row["counted"] and (reason := _left_out(row, models))
        ],
    }


def _left_out(row: Mapping[str, Any], models: Sequence[str]) -> str:
    """Why a row is not in the average; empty where it is."""
    if not row["counted"]:
        return "it is no row of the paper's table"
    if row["status"] != "ok":
        return f"{row['status']}: {row['reason']}"
    if isinstance(row["settings"], Mapping):
        return "the models were not asked alike"
    without = [model for model in models if row["models"][model]["score"] is None]
    return f"no number for {', '.join(without)}" if without else ""


def _difference(row: Mapping[str, Any], model: str, against: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(
        d for d in row["differences"] if (d["model"], d["against"]) == (model, against)
    )
    return found


def _mean(cells: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    values = [cell[name] for cell in cells if cell[name] is not None]
    if not values or len(values) < len(cells):
        return {name: None, "low": None, "high": None}
    bounds = [Interval(c["low"], c["high"]) for c in cells if c["low"] is not None]
    both = combine(values, bounds) if len(bounds) == len(values) else None
    return {
        name: sum(values) / len(values),
        "low": both.low if both else None,
        "high": both.high if both else None,
    }


def _published(
    used: Sequence[Mapping[str, Any]], there: Published | None
) -> dict[str, float] | None:
    if there is None or not used:
        return None
    figures = [row["published"] or {} for row in used]
    return {
        column: sum(one[column] for one in figures) / len(figures)
        for column in there.models
        if all(column in one for one in figures)
    }
