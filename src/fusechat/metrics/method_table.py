"""Several methods on one pool, each trained with several seeds: means, intervals, tables. Pure.

A *run* is one method with one training seed. A mean is over the seeds, with Student's 95% interval;
a difference to the first method is taken seed by seed, so that what a seed does to both cancels.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fusechat.metrics.student import interval
from fusechat.metrics.text import MARKS, direction, percent, points

AVERAGE = "average"
ROUNDING = 1e-9
"""Differences of shares below this are equal."""
METHOD = (
    "Mean over training seeds in percent, with Student's 95% interval of that mean; differences in "
    "points, paired by seed. Training seeds decide the order of rows (and on-policy responses); "
    "prompts, pool and test prompts are the same for all, so that intervals say how sure a result "
    "is for this pool and these test prompts, and nothing of others. Accuracies are strict: a "
    "response that was cut or is empty is not solved. Without an interval: one seed, or seeds that "
    "all agree. Where many differences stand, about one in "
    "twenty is marked by chance."
)


def numbers_of(metrics: Mapping[str, Any], model: str) -> dict[str, Any]:
    """What an evaluation (metrics.json) says of one model: shares in [0, 1], lengths in tokens.

    `average`, and by task `value` and `tokens` (mean length), with `length_controlled` of a win
    rate; None where there is no value.
    """
    average = metrics["average"]["models"].get(model, {})
    tasks = {}
    for task, entry in metrics["tasks"].items():
        found = entry["models"].get(model)
        if found is None:
            continue
        tasks[task] = {"value": found["accuracy_strict"], "tokens": found.get("mean_tokens")}
        if "length_controlled" in found:
            tasks[task]["length_controlled"] = found["length_controlled"]["value"]
    return {"average": average.get("accuracy_strict"), "tasks": tasks}


def summarize(runs: Iterable[Mapping[str, Any]], methods: Sequence[str]) -> dict[str, Any]:
    """Means and paired differences of all methods, from runs with `method`, `seed`, `numbers`.

    `differences` are to the first of `methods`, over the seeds that both have; `added` to the
    method's own model after SFT, of runs that have its numbers as `sft`.
    """
    found: dict[str, dict[int, dict[str, float]]] = {name: {} for name in methods}
    before: dict[str, dict[int, dict[str, float]]] = {name: {} for name in methods}
    for run in runs:
        found[run["method"]][run["seed"]] = _flat(run["numbers"])
        if run.get("sft") is not None:
            before[run["method"]][run["seed"]] = _flat(run["sft"])
    measures = list(dict.fromkeys(m for by in found.values() for one in by.values() for m in one))
    against = methods[0]
    return {
        "against": against,
        "measures": measures,
        "methods": {
            name: {
                m: _mean([by[s][m] for s in sorted(by) if m in by[s]], len(by)) for m in measures
            }
            for name, by in found.items()
        },
        "differences": {
            name: {
                m: _mean(_paired(by, found[against], m), len(by.keys() & found[against].keys()))
                for m in measures
            }
            for name, by in found.items()
            if name != against
        },
        "added": {
            name: {m: _mean(_paired(found[name], by, m), len(by)) for m in measures}
            for name, by in before.items()
            if by
        },
        "method": METHOD,
    }


def _flat(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Measure -> value: `average`, each task, and below a task `task:length_controlled`, `:tokens`;
    measures without a value are left out."""
    out = {AVERAGE: numbers["average"]}
    for task, entry in numbers["tasks"].items():
        out[task] = entry["value"]
        out |= {f"{task}:{name}": value for name, value in entry.items() if name != "value"}
    return {name: value for name, value in out.items() if value is not None}


def _paired(
    one: Mapping[int, Mapping[str, float]], other: Mapping[int, Mapping[str, float]], measure: str
) -> list[float]:
    seeds = sorted(set(one) & set(other))
    both = [seed for seed in seeds if measure in one[seed] and measure in other[seed]]
    return [one[seed][measure] - other[seed][measure] for seed in both]


def _mean(values: Sequence[float], expected: int) -> dict[str, Any]:
    """Mean and interval; none where all values are equal, which tells nothing of their spread."""
    spread = max(values) - min(values) if values else 0.0
    low, high = interval(values) if spread > ROUNDING else (None, None)
    mean = statistics.fmean(values) if values else None
    return {
        "mean": mean, "low": low, "high": high, "n": len(values), "expected": expected,
        "values": list(values),
    }  # fmt: skip


def tables(found: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """The tables of a comparison (`compare.json`): heading and rows, the first row its heads."""
    summary = found["summary"]
    own = [m for m in summary["measures"] if ":" not in m]
    more = [m for m in summary["measures"] if m.endswith(":length_controlled")]
    shown = own + more
    heads = ["method", *(_head(m) for m in shown)]
    others = {name: _flat(numbers) for name, numbers in found["others"].items()}
    rows = [[name, *(percent(flat.get(m)) for m in shown)] for name, flat in others.items()]
    rows += [
        [name, *(_cell(entry[m]) for m in shown)] for name, entry in summary["methods"].items()
    ]
    out = [("Percent, mean over training seeds", [heads, *rows])]
    for heading, corner, key in (
        ("Differences in points, paired by seed", f"minus {summary['against']}", "differences"),
        ("What preference learning adds, in points, paired by seed", "minus its SFT", "added"),
    ):
        gaps = [[name, *(_gap(e[m]) for m in shown)] for name, e in summary[key].items()]
        if gaps:
            out.append((heading, [[corner, *(_head(m) for m in shown)], *gaps]))
    lengths = [m for m in summary["measures"] if m.endswith(":tokens")]
    if lengths:
        heads = ["method", *(m.removesuffix(":tokens") for m in lengths)]
        known = [[name, *(_tokens(flat.get(m)) for m in lengths)] for name, flat in others.items()]
        known += [
            [name, *(_tokens(entry[m]["mean"]) for m in lengths)]
            for name, entry in summary["methods"].items()
        ]
        out.append(("Mean tokens of a response", [heads, *known]))
    return out


def as_text(found: Mapping[str, Any]) -> str:
    """The comparison for a terminal."""
    lines: list[str] = []
    for heading, rows in tables(found):
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines += [heading, _line(rows[0], widths), "  ".join("-" * width for width in widths)]
        lines += [*(_line(row, widths) for row in rows[1:]), ""]
    lines += _counted(found)
    return "\n".join(line.rstrip() for line in lines)


def as_markdown(found: Mapping[str, Any]) -> str:
    """The comparison as a page."""
    lines = [f"# {found['recipe']}: methods on one pool", ""]
    for heading, rows in tables(found):
        lines += [f"**{heading}.**", "", _markdown_row(rows[0])]
        lines += [_markdown_row(["---", *(["---:"] * (len(rows[0]) - 1))])]
        lines += [*(_markdown_row(row) for row in rows[1:]), ""]
    lines += ["| method | about |", "| --- | --- |"]
    lines += [_markdown_row([n, one["about"] or "–"]) for n, one in found["methods"].items()]
    return "\n".join([*lines, "", *_counted(found), "", found["summary"]["method"], ""])


def _counted(found: Mapping[str, Any]) -> list[str]:
    """How many runs there are, and what is missing, in words."""
    wanted = len(found["methods"]) * len(found["seeds"])
    seeds = ", ".join(map(str, found["seeds"]))
    lines = [f"{len(found['runs'])} of {wanted} runs; training seeds {seeds}."]
    lines += [
        f"failed: {one['method']}, seed {one['seed']}: {one['why'].splitlines()[0]}"
        for one in found["failed"]
    ]
    return lines


def _head(measure: str) -> str:
    task, _, what = measure.partition(":")
    return f"{task}, equal lengths" if what == "length_controlled" else task


def _cell(entry: Mapping[str, Any]) -> str:
    if entry["low"] is None:
        return percent(entry["mean"]) + _lacking(entry)
    return (
        f"{percent(entry['mean'])} ± {100 * (entry['high'] - entry['mean']):.1f}{_lacking(entry)}"
    )


def _gap(entry: Mapping[str, Any]) -> str:
    if entry["low"] is None:
        return points(entry["mean"]) + _lacking(entry)
    half = 100 * (entry["high"] - entry["mean"])
    return f"{MARKS[direction(entry)]} {points(entry['mean'])} ± {half:.1f}{_lacking(entry)}"


def _lacking(entry: Mapping[str, Any]) -> str:
    """On how many seeds a number rests, where some lack it."""
    known = 0 < entry["n"] < entry["expected"]
    return f" ({entry['n']} of {entry['expected']})" if known else ""


def _tokens(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    )


def _markdown_row(row: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
