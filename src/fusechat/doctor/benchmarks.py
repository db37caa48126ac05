"""Whether the benchmarks' prompts, and answers beside them, fit into the evaluated models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fusechat.doctor import room
from fusechat.doctor.findings import Finding
from fusechat.doctor.models import Looked
from fusechat.doctor.prompts import measure
from fusechat.planner import Plan
from fusechat.records import Prompt
from fusechat.stages.benchmark_units import is_sample

LOOKED_AT = 200
"""Prompts of a benchmark that are tokenised for each model, evenly spread."""


def of_benchmarks(looked: Sequence[Looked], planned: Plan) -> Iterator[Finding]:
    """Room for every benchmark that is not skipped, model by model; skipped ones are told."""
    said = next((u.settings for u in planned.units if u.kind == "compare"), None) or {}
    models = {one.seat.short: one for one in looked if one.seat.role != "judge"}
    for name, row in said.get("benchmarks", {}).items():
        place = f"evaluate.benchmarks.{name}"
        if row["skipped"] is not None:
            yield Finding("note", "benchmark-skipped", f"skipped: {row['skipped']}", "", place)
            continue
        prompts = _some(row["part"])
        for model in said["models"]:
            one = models.get("target" if model.startswith("train.") else model)
            part = _part(planned, name, model)
            if one is None or one.tokenizer is None or part is None:
                continue
            most = getattr(part, "max_new_tokens", None)
            context = getattr(part, "context", None) or one.context
            share = planned.recipe.max_error_share
            for found in room.sampling_room(context, most, measure(one, prompts), share):
                yield replace(found, what=f"{model} at {name}: {found.what}").at(place)


def _some(task: Any) -> list[Prompt]:
    rows = [row for row in task.prompts(task.splits[0]) if isinstance(row, Prompt)]
    return rows[:: max(1, len(rows) // LOOKED_AT)]


def _part(planned: Plan, task: str, model: str) -> Any:
    """The source part that answers a benchmark's first turn."""
    units: Mapping[str, Any] = {unit.name: unit.settings for unit in planned.units}
    top = f"evaluate/{task}/{model}/sample"
    found = (entry for name, entry in units.items() if name.startswith(top) and is_sample(name))
    return getattr(next(found, None), "part", None)
