"""`fusechat plan`: what a run would take, from a measured pilot."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from fusechat.commands import _settings
from fusechat.errors import Fault, RecipeError
from fusechat.forecast.costs import forecast
from fusechat.forecast.pilots import pilot_settings, run_pilot
from fusechat.forecast.terminal import table
from fusechat.planner import plan as make_plan
from fusechat.recipe import Cluster, Recipe, load_cluster, read_recipe, recipe_text
from fusechat.runner import Options
from fusechat.runner import run as run_recipe
from fusechat.settings import FETCH


def plan(options: argparse.Namespace) -> int:
    """Say what is still to do and what that takes; `--pilot N` measures first.

    Returns 2 where a training unit does not fit the GPU that the cluster file names.
    """
    settings = _settings(options.set)
    recipe, _ = _read(options, settings, fetched=options.pilot is not None)
    if options.pilot is not None and not recipe.prompts:
        raise RecipeError([Fault("--pilot", "", "a recipe that only evaluates has no pilot.")])
    if options.pilot is not None and options.pilot < 2:
        raise RecipeError([Fault("--pilot", str(options.pilot), "needs 2 prompts or more.")])
    units = [unit.name for unit in make_plan(recipe, options.workspace).units]
    cluster = load_cluster(options.cluster, units)
    told = Options(stream=sys.stderr)
    if options.pilot is not None:
        _pilot(options, settings, recipe, cluster, told)
    planned = make_plan(recipe, options.workspace)
    if recipe.prompts:
        # The prompts are the run's own first unit: without them there is nothing to count.
        only = Options(only="prompts", stream=sys.stderr)
        planned = run_recipe(recipe, options.workspace, cluster=cluster, options=only).plan
    found = forecast(planned, cluster)
    if options.json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        print(table(found))
    faults = [fault for one in found.training if (fault := one.fault())]
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 2 if faults else 0


def _read(
    options: argparse.Namespace, settings: dict[str, Any], fetched: bool = True
) -> tuple[Recipe, str]:
    """The recipe and its text. `fetched`: models that are not here yet are a fault."""
    recipe, faults, file = read_recipe(options.recipe, settings, options.method)
    if not fetched:
        faults = [fault for fault in faults if FETCH not in fault.message]
    if faults or recipe is None:
        raise RecipeError(faults)
    return recipe, recipe_text(file)


def _pilot(
    options: argparse.Namespace,
    settings: dict[str, Any],
    recipe: Recipe,
    cluster: Cluster,
    told: Options,
) -> None:
    """Run the recipe's pilot; its rows are adopted by the run."""
    pilot, text = _read(options, settings | pilot_settings(recipe, options.pilot))
    path = run_pilot(pilot, options.workspace, cluster, told, text)
    print(f"pilot: {path}", file=sys.stderr)
