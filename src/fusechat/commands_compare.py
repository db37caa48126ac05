"""`fusechat compare`: the methods of a recipe on its one pool, with several training seeds."""

from __future__ import annotations

import argparse
import json
import sys

from fusechat.commands import _settings
from fusechat.errors import Fault, RecipeError
from fusechat.method_runs import compare as compare_methods
from fusechat.method_runs import method_runs
from fusechat.planner import plan
from fusechat.recipe import load_cluster
from fusechat.runner import Options


def compare(options: argparse.Namespace) -> int:
    """Run what is missing of every method and seed, then print the table; 1 where a run failed."""
    stream = None if options.quiet else sys.stderr
    asked = (_names(options.methods), _seeds(options.seeds), _settings(options.set))
    _, runs = method_runs(options.recipe, *asked)
    units = {unit.name for one in runs for unit in plan(one.recipe, options.workspace).units}
    found = compare_methods(
        options.recipe,
        options.workspace,
        methods=asked[0],
        seeds=asked[1],
        set=asked[2],
        cluster=load_cluster(options.cluster, units),
        options=Options(wait=options.wait, stream=stream),
        told=lambda line: None if stream is None else print(line, file=stream),
    )
    if options.json:
        print(json.dumps(found.found, indent=2, ensure_ascii=False))
    else:
        print(found)
        print(f"table: {found.folder / 'compare.md'}")
    return 1 if found.found["failed"] else 0


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        message = "seeds are whole numbers with commas between, such as 1,2,3."
        raise RecipeError([Fault("--seeds", text, message)]) from None
