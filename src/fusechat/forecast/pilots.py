"""Pilots: the recipe on a few prompts a set, in the same workspace, so that nothing is lost.

The prompts that `take` draws only grow, rows are adopted by what they were made from: a
pilot's rows are the first rows of the full run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusechat.files import read_jsonl, write_json
from fusechat.forecast.held import prompts_of
from fusechat.forecast.known import FOLDER, measured_units, merged, read_pilot
from fusechat.forecast.measures import Measures, domains_of, measure_rows, measure_yield
from fusechat.planner import Plan
from fusechat.planner import plan as make_plan
from fusechat.recipe import Cluster, Recipe
from fusechat.runner import Options, run
from fusechat.tables import count_rows


def pilot_settings(recipe: Recipe, count: int) -> dict[str, Any]:
    """What to `--set` so that a recipe is its own pilot of `count` prompts a set."""
    settings: dict[str, Any] = {"name": f"{recipe.name}-pilot"}
    for name, entry in recipe.prompts.items():
        settings[f"prompts.{name}.use"] = entry.part.part_name()  # it may be written `name: part`
        settings[f"prompts.{name}.take"] = min(count, entry.take or count)
    return settings


def run_pilot(
    recipe: Recipe,
    workspace: Path,
    cluster: Cluster,
    options: Options,
    recipe_text: str = "",
) -> Path:
    """Run a pilot recipe up to its build, and write what it measured; returns the file."""
    planned = make_plan(recipe, workspace)
    before = {unit.name: _rows_there(planned.path(unit)) for unit in planned.units if unit.rowwise}
    for stage in _stages(planned):
        result = run(recipe, workspace, cluster=cluster,
                     options=replace(options, only=stage), recipe_text=recipe_text)  # fmt: skip
        planned = result.plan
    measured = _measure(planned, before)
    path = planned.workspace / FOLDER / f"{recipe.name}-{planned.key()}.json"
    old = read_pilot(path) if path.exists() else None
    if old is not None:  # a pilot that was there already: what is not measured now was then
        measured = merged(old, measured)
    write_json(path, {"made": time.time(), "recipe": recipe.name, **measured.as_json()})
    return path


def _stages(planned: Plan) -> list[str]:
    """What a pilot runs: all that leads to the build, or what there is of it."""
    if planned.recipe.build is not None:
        return ["build"]
    return ["sample", "annotate"] if planned.recipe.annotators else ["sample"]


def _rows_there(folder: Path) -> int:
    journals = (folder / "journal").glob("[0-9]*.jsonl")
    return count_rows(folder / "data") + sum(1 for path in journals for _ in read_jsonl(path))


def _measure(planned: Plan, before: Mapping[str, int]) -> Measures:
    prompts = list(prompts_of(planned))
    domains = domains_of(prompts)
    origin = f"pilot of {len(prompts):,} prompts"
    found = [
        measure_rows(unit, planned.path(unit), domains, origin, before[unit.name])
        for unit in measured_units(planned)
    ]
    built = measure_yield(planned, domains, origin)
    yields = {built.key: built} if built is not None else {}
    return Measures({one.part: one for one in found if one is not None}, yields)
