"""Evaluate: any task on any model of the plan, compared on the same items.

Evaluation is the data pipeline pointed at a test set. Each task's prompts, each model's
responses and their scores are units like all others; this stage gathers them:

    evaluate/<task>/prompts            prompts/   (Prompt)
    evaluate/<task>/<model>/sample     data/      (Response, one a prompt)
    evaluate/<task>/<model>/annotate   data/      (Score)

It writes `items/` (one `ItemResult` a task, model and prompt) and `metrics.json`. What an
item's outcome means, and why there are two readings of accuracy, is in `metrics/accuracy.py`;
how scores of a task with `win_rate` become preferences, in `metrics/win_rate.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fusechat import files, tables
from fusechat.metrics import text
from fusechat.stages.context import UnitContext
from fusechat.stages.evaluate_items import ItemResult as ItemResult
from fusechat.stages.evaluate_items import read_items
from fusechat.stages.evaluate_numbers import metrics_of as metrics_of
from fusechat.stages.evaluate_numbers import pairs_to_compare as pairs_to_compare
from fusechat.stages.evaluate_settings import EvaluateSettings as EvaluateSettings
from fusechat.stages.evaluate_settings import EvaluateTask as EvaluateTask
from fusechat.stages.evaluate_settings import WinRate


def compare(context: UnitContext) -> dict[str, int]:
    """Join prompts, responses and scores of every task and model; write items/ and metrics.json.

    `context.settings`, where there are any, says under `win_rates` which tasks are those.
    """
    win_rates: Mapping[str, WinRate] = (context.settings or {}).get("win_rates", {})
    results = {
        task: read_items(context, task, models, win_rates.get(task))
        for task, models in _inputs(context.inputs).items()
    }
    context.progress.start(len(results), "tasks")
    items = [item for models in results.values() for rows in models.values() for item in rows]
    tables.write_table(context.folder / "items", items, ItemResult)
    files.write_json(context.folder / "metrics.json", metrics_of(results, win_rates))
    context.progress.advance(len(results))
    outcomes = Counter(item.outcome for item in items)
    return {
        "tasks": len(results),
        "models": len({item.model for item in items}),
        "items": len(items),
        **{outcome: outcomes[outcome] for outcome in sorted(outcomes)},
    }


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
