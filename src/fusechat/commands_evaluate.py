"""`fusechat evaluate`: models on the benchmarks of FuseChat-3.0, side by side.

Exit codes: 0; 1 where a run failed; 2 where a recipe or an argument is wrong; 3 with
`--fail-if-worse` where a row fell by more than its noise; 4 with `--require-all` where a row that
was asked for is partial or skipped, and with `--fail-if-worse` where no row could be compared.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusechat.commands import _settings
from fusechat.errors import Fault, RecipeError
from fusechat.evaluate_asked import asked_recipe
from fusechat.evaluate_checks import evaluated_models
from fusechat.files import read_json, write_atomic, write_json
from fusechat.metrics.benchmark_gate import Gate, gate, gated_pair, tasks_gate
from fusechat.metrics.benchmark_markdown import as_markdown
from fusechat.metrics.benchmark_pairs import pairs_to_compare
from fusechat.metrics.benchmark_table import format_benchmarks
from fusechat.metrics.text import format_table, title
from fusechat.planner import Plan, plan
from fusechat.recipe import Cluster, Recipe, load_cluster
from fusechat.results import RunResult
from fusechat.runner import Options, write_report
from fusechat.runner import run as run_recipe
from fusechat.settings import Price
from fusechat.stages.benchmark_costs import benchmark_costs

COMPARE = "evaluate/compare"
WORSE, INCOMPLETE = 3, 4


def evaluate(options: argparse.Namespace) -> int:
    """Run what the comparison needs, print it, and write comparison.md and comparison.json."""
    recipe, text = asked_recipe(options, _settings(options.set))
    pair = _gated(options, recipe)
    planned = plan(recipe, options.workspace)
    cluster = load_cluster(options.cluster, [unit.name for unit in planned.units])
    result = run_recipe(
        recipe,
        options.workspace,
        cluster=cluster,
        options=Options(
            only=COMPARE,
            retry_errors=options.retry_errors,
            wait=options.wait,
            stream=None if options.quiet else sys.stderr,
        ),
        recipe_text=text,
    )
    found = _comparison(result, cluster)
    _write(result, found, options.markdown)
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print(comparison_text(found, shutil.get_terminal_size((100, 24)).columns))
        print(f"table: {result.folder / 'comparison.md'}")
        print(f"report: {result.report}")
    return _judged(options, found, pair)


def comparison_text(found: Mapping[str, Any], width: int) -> str:
    """The tasks' table, where there are tasks, and the benchmarks', where there are some."""
    parts = []
    if found["tasks"] and found["tasks"]["tasks"]:
        parts.append(format_table(found["tasks"], width))
    if found["benchmarks"]:
        parts.append(format_benchmarks(found["benchmarks"], width))
    return "\n\n".join(parts)


def _comparison(result: RunResult, cluster: Cluster) -> dict[str, Any]:
    """The content of comparison.json."""
    folder = result[COMPARE].folder
    units = [(unit.name, result.plan.path(unit)) for unit in result.plan.units]
    prices = _prices(result.plan, cluster)
    if prices:
        told = {name: price.model_dump() for name, price in prices.items()}
        write_json(result.folder / "prices.json", told)
    return {
        "recipe": result.plan.recipe.name,
        **compared(folder),
        "costs": benchmark_costs(units, prices),
    }


def compared(folder: Path) -> dict[str, Any]:
    """What a finished evaluate/compare found: `benchmarks` and `tasks`, or None for each."""
    return {
        "benchmarks": _optional(folder / "benchmarks.json"),
        "tasks": _optional(folder / "metrics.json"),
    }


def _optional(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _prices(planned: Plan, cluster: Cluster) -> dict[str, Price]:
    """Unit -> what its server asks for, as the cluster file says."""
    found = {unit.name: cluster.where(unit.name).price for unit in planned.units}
    return {name: price for name, price in found.items() if price is not None}


def _write(result: RunResult, found: Mapping[str, Any], markdown: Path | None) -> None:
    """comparison.json, comparison.md and, with the prices, the report again."""
    write_json(result.folder / "comparison.json", found)
    if found["benchmarks"]:
        page = as_markdown(found["benchmarks"], found["recipe"], found["costs"])
    else:
        page = f"# {found['recipe']}\n\n```text\n{comparison_text(found, 100)}\n```\n"
    for path in (result.folder / "comparison.md", *([markdown] if markdown else [])):
        write_atomic(path, page.encode("utf-8", "replace"))
    write_report(result.plan, result.folder)


def _gated(options: argparse.Namespace, recipe: Recipe) -> tuple[str, str] | None:
    """(model, against) of `--fail-if-worse`; None where it was not given."""
    if options.fail_if_worse is None:
        return None
    models = evaluated_models(recipe)
    if not options.fail_if_worse:
        if pair := gated_pair(models):
            return pair
        message = "there is one model only; name two with --models, such as base=...,fused=..."
        raise RecipeError([Fault("--fail-if-worse", "", message)])
    base, colon, model = options.fail_if_worse.partition(":")
    if not colon:
        message = "write BASE:FUSED, such as --fail-if-worse=base:fused, or put it last."
        raise RecipeError([Fault("--fail-if-worse", options.fail_if_worse, message)])
    there = f"There are: {', '.join(models)}."
    faults = [
        Fault("--fail-if-worse", name, f"is no model of the evaluation. {there}")
        for name in dict.fromkeys((base, model))
        if name not in models
    ]
    pairs = pairs_to_compare(models)
    if not faults and (model, base) not in pairs:
        known = ", ".join(f"{other}:{one}" for one, other in pairs) or "none"
        message = f"these two are not compared. There are: {known}."
        faults = [Fault("--fail-if-worse", options.fail_if_worse, message)]
    if faults:
        raise RecipeError(faults)
    return model, base


def _judged(
    options: argparse.Namespace, found: Mapping[str, Any], pair: tuple[str, str] | None
) -> int:
    """The exit code, with the reasons on stderr."""
    said = _gate(found, pair)
    code = 0
    if options.require_all and said.incomplete:
        print("not complete (--require-all):", file=sys.stderr)
        print("\n".join(f"  {line}" for line in said.incomplete), file=sys.stderr)
        code = INCOMPLETE
    if pair is None:
        return code
    names = f"{title(pair[0])} against {title(pair[1])}"
    if said.worse:
        print(f"worse by more than its noise (--fail-if-worse), {names}:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in said.worse), file=sys.stderr)
        return WORSE
    if not said.compared:
        print(f"no row could be compared (--fail-if-worse), {names}.", file=sys.stderr)
        return INCOMPLETE
    print(f"no row fell by more than its noise: {names}, {said.compared} rows.", file=sys.stderr)
    return code


def _gate(found: Mapping[str, Any], pair: tuple[str, str] | None) -> Gate:
    parts = [gate(found["benchmarks"], pair)] if found["benchmarks"] else []
    parts += [tasks_gate(found["tasks"], pair)] if found["tasks"] else []
    return Gate(
        tuple(line for part in parts for line in part.worse),
        tuple(line for part in parts for line in part.incomplete),
        sum(part.compared for part in parts),
    )
