"""Evaluate: any task on any model of the plan, compared on the same items.

Evaluation is the data pipeline pointed at a test set. Each task's prompts, each model's
responses and their scores are units like all others; this stage gathers them:

    evaluate/<task>/prompts            prompts/   (Prompt)
    evaluate/<task>/<model>/sample     data/      (Response, one a prompt)
    evaluate/<task>/<model>/annotate   data/      (Score)

and for the published benchmarks those of `benchmark_units.py`. It writes `items/` (one `ItemResult`
a task, model and prompt), `metrics.json` of the tasks and `benchmarks.json` of the benchmarks. What
an item's outcome means, and why there are two readings of accuracy, is in `metrics/accuracy.py`;
how scores of a task with `win_rate` become preferences, in `metrics/win_rate.py`; what the rows of
the benchmarks' table are, in `benchmark_rows.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fusechat import files, tables
from fusechat.metrics import text
from fusechat.stages.benchmark_items import Answered, Benchmarked, profiles_of, read_answers
from fusechat.stages.benchmark_rows import benchmark_rows, served_names
from fusechat.stages.context import UnitContext
from fusechat.stages.evaluate_items import ItemResult as ItemResult
from fusechat.stages.evaluate_items import read_items
from fusechat.stages.evaluate_numbers import metrics_of as metrics_of
from fusechat.stages.evaluate_numbers import pairs_to_compare as pairs_to_compare
from fusechat.stages.evaluate_settings import EvaluateSettings as EvaluateSettings
from fusechat.stages.evaluate_settings import EvaluateTask as EvaluateTask
from fusechat.stages.evaluate_settings import WinRate


def compare(context: UnitContext) -> dict[str, Any]:
    """Join prompts, responses and scores of every task and model; write items/ and the numbers.

    `context.settings` says under `win_rates` which tasks are those, and under `benchmarks` what
    was asked of each benchmark.
    """
    settings = context.settings or {}
    win_rates: Mapping[str, WinRate] = settings.get("win_rates", {})
    benchmarks: Mapping[str, Any] = settings.get("benchmarks", {})
    inputs = {t: m for t, m in _inputs(context.inputs).items() if t not in benchmarks}
    context.progress.start(len(inputs) + len(benchmarks), "tasks")
    results = {}
    for task, models in inputs.items():
        results[task] = read_items(context, task, models, win_rates.get(task))
        context.progress.advance(1)
    items = [item for models in results.values() for rows in models.values() for item in rows]
    items += _benchmarks(context, benchmarks)
    tables.write_table(context.folder / "items", items, ItemResult)
    if results:
        files.write_json(context.folder / "metrics.json", metrics_of(results, win_rates))
    outcomes = Counter(item.outcome for item in items)
    return {
        "tasks": len(inputs) + len(benchmarks),
        "models": len({item.model for item in items}),
        "items": len(items),
        **{outcome: outcomes[outcome] for outcome in sorted(outcomes)},
    }


def _benchmarks(context: UnitContext, benchmarks: Mapping[str, Any]) -> list[ItemResult]:
    """Write benchmarks.json, where there are any; their items, of all profiles."""
    if not benchmarks:
        return []
    models = list(context.settings["models"])
    items: list[ItemResult] = []
    rows: list[Benchmarked] = []
    for name, said in benchmarks.items():
        results: dict[str, dict[str, Answered]] = {}
        for model in models if said["skipped"] is None else ():
            for profile in profiles_of(context, name, model):
                found = read_answers(context, name, model, profile)
                results.setdefault(profile or _headless(said), {})[model] = found
                items += found.rows
        rows.append(Benchmarked(name=name, models=tuple(models), results=results, **said))
        context.progress.advance(1)
    told = served_names(context.inputs)
    table = benchmark_rows(rows, context.settings["profile"], told)
    files.write_json(context.folder / "benchmarks.json", table)
    return items


def _headless(said: Mapping[str, Any]) -> str:
    """The profile of the unit `annotate`: the robust one where the paper grades otherwise."""
    return "robust" if "robust" in said["part"].graders() else "paper"


def _inputs(names: Mapping[str, Any]) -> dict[str, list[str]]:
    """Task -> its models, in the order of the plan."""
    out: dict[str, list[str]] = {}
    for name in names:
        parts = name.split("/")
        if len(parts) == 4 and parts[0] == "evaluate" and parts[3] == "annotate":
            out.setdefault(parts[1], []).append(parts[2])
    return out


def format_table(metrics: Mapping[str, Any], width: int = 80) -> str:
    """The comparison as text for a terminal of `width` columns (`metrics/text.py`)."""
    return text.format_table(metrics, width)
