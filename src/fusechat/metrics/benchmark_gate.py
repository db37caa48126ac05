"""Whether a model fell behind another by more than its noise. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusechat.metrics.benchmark_pairs import NOT_ASKED, headline_pair
from fusechat.metrics.benchmark_table import difference_cell


@dataclass(frozen=True)
class Gate:
    """What a gate found; `worse` and `incomplete` are lines to show."""

    worse: tuple[str, ...]
    """Rows that are ok and whose whole paired interval is below zero."""
    incomplete: tuple[str, ...]
    """Rows that were asked for and are partial or skipped, with the reason."""
    compared: int
    """Rows that are ok and have the difference."""


def gated_pair(models: Sequence[str]) -> tuple[str, str] | None:
    """(model, against) where none are named: fused to base, else the last that is compared."""
    return headline_pair(models)


def gate(found: Mapping[str, Any], pair: tuple[str, str] | None) -> Gate:
    """Hold the first model of `pair` against the second on every row of benchmarks.json."""
    worse, incomplete, compared = [], [], 0
    for row in found["rows"]:
        if row["status"] != "ok":
            if row["reason"] != NOT_ASKED:
                incomplete.append(f"{row['title']}: {row['status']}: {row['reason']}")
            continue
        told = _between(row, pair)
        if told is None or told["high"] is None:
            continue
        compared += 1
        if told["high"] < 0:
            cell = difference_cell(told, row["scale"])
            worse.append(f"{row['title']}: {cell} over {told['n']:,} items")
    return Gate(tuple(worse), tuple(incomplete), compared)


def tasks_gate(metrics: Mapping[str, Any], pair: tuple[str, str] | None) -> Gate:
    """The same of the tasks of metrics.json, by their strict differences; shares become points."""
    worse, compared = [], 0
    for task, entry in metrics["tasks"].items():
        told = _between(entry, pair)
        if told is None or told["high"] is None:
            continue
        compared += 1
        if told["high"] < 0:
            points = {k: 100 * told[k] for k in ("difference", "low", "high")}
            worse.append(f"{task}: {difference_cell(points, 100.0)} over {told['n']:,} items")
    return Gate(tuple(worse), (), compared)


def _between(entry: Mapping[str, Any], pair: tuple[str, str] | None) -> Mapping[str, Any] | None:
    found = entry["differences"]
    return next((d for d in found if (d["model"], d["against"]) == pair), None)
