"""`fusechat doctor`: look over the whole chain of a recipe and say what is wrong."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

from fusechat.doctor import Finding, examine
from fusechat.doctor.findings import ordered
from fusechat.doctor.table import format_examination
from fusechat.errors import Fault, RecipeError
from fusechat.recipe import load_cluster, read_recipe
from fusechat.recipe_checks import cross_faults

FAULTS_FOUND = 3
"""Exit code: the doctor found faults (design: a gate did not hold)."""


def doctor(options: argparse.Namespace) -> int:
    """Print the table of models and all findings; 0 without faults, 3 with some.

    A recipe whose entries do not fit together is refused, as by every command (2); what its
    parts say against themselves here (a package, a program that is missing) is among the findings.
    """
    from fusechat.commands import _settings

    recipe, faults, _ = read_recipe(options.recipe, _settings(options.set), options.method)
    if recipe is None:
        raise RecipeError(faults)
    between = {message for _, message in cross_faults(recipe)}
    if any(fault.message in between and not _unfetched(fault) for fault in faults):
        raise RecipeError(faults)
    found = examine(
        recipe, options.workspace, cluster=load_cluster(options.cluster), probe=options.probe
    )
    unusable = {f"{one.place}.model" for one in found.findings if one.check == "model-unusable"}
    told = [
        Finding("fault", "recipe", fault.message, place=fault.key)
        for fault in faults
        if not _unfetched(fault) and fault.key not in unusable
    ]
    found = replace(found, findings=ordered([*told, *found.findings]))
    print(json.dumps(found.as_json(), indent=2) if options.json else format_examination(found))
    return 0 if found.healthy else FAULTS_FOUND


def _unfetched(fault: Fault) -> bool:
    """Whether a fault only says that a model is not on this machine: the doctor's own note."""
    return fault.key.endswith("model") and "nor in the local hub cache" in fault.message
