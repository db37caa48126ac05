"""What each command does; `cli.py` only parses. Each prints what it did and what comes next."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from fusechat.budget import Limits, spent_lines
from fusechat.errors import Fault, RecipeError
from fusechat.files import read_json
from fusechat.locks import lock_holder
from fusechat.parts import describe, part_class, part_names
from fusechat.planner import Plan, plan
from fusechat.recipe import Recipe, load_cluster, read_recipe, recipe_text
from fusechat.runner import Options, run_folder, write_report
from fusechat.runner import run as run_recipe
from fusechat.settings import TRAINED_BY
from fusechat.tables import count_rows, read_dicts, shards


def _settings(pairs: list[str]) -> dict[str, Any]:
    """`--set KEY=VALUE`; the value is read as YAML."""
    out: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise RecipeError([Fault("--set", pair, "write KEY=VALUE, such as seed=7.")])
        try:
            out[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError([Fault("--set", key, f"the value is not YAML: {value}")]) from error
    return out


def _load(options: argparse.Namespace) -> tuple[Recipe, str]:
    recipe, faults, file = read_recipe(options.recipe, _settings(options.set), options.method)
    if faults or recipe is None:
        raise RecipeError(faults)
    return recipe, recipe_text(file)


def check(options: argparse.Namespace) -> int:
    """Print the plan, or all faults, those of the recipe's methods too."""
    recipe, _ = _load(options)
    _check_methods(options, recipe)
    planned = plan(recipe, options.workspace)
    if options.json:
        found = planned.standings()
        rows = [
            {"unit": u.name, "key": u.key, "folder": u.folder, **vars(found[u.name])}
            for u in planned.units
        ]
        print(json.dumps({"recipe": recipe.name, "units": rows}, indent=2))
        return 0
    print(planned)
    _print_skipped(planned)
    if recipe.methods:
        print(f"methods: {', '.join(recipe.methods)}. All: fusechat compare {options.recipe}")
    print(f"no faults. Next: fusechat run {options.recipe}{_same_recipe(options)}")
    return 0


def _print_skipped(planned: Plan) -> None:
    """The benchmarks that would not be run, with the mend."""
    settings = next((unit.settings for unit in planned.units if unit.kind == "compare"), None)
    for name, said in (settings or {}).get("benchmarks", {}).items():
        if said["skipped"] is not None:
            print(f"skipped: {name}: {said['skipped']}")


def _check_methods(options: argparse.Namespace, recipe: Recipe) -> None:
    """Raises `RecipeError` with the faults of all methods."""
    settings = _settings(options.set)
    found = [read_recipe(options.recipe, settings, name)[1] for name in recipe.methods]
    if faults := list(dict.fromkeys(fault for some in found for fault in some)):
        raise RecipeError(faults)


def run(options: argparse.Namespace) -> int:
    """Run what is missing, then show the table and where the report is."""
    recipe, text = _load(options)
    units = [unit.name for unit in plan(recipe, options.workspace).units]
    result = run_recipe(
        recipe,
        options.workspace,
        cluster=load_cluster(options.cluster, units),
        options=Options(
            only=options.only,
            refresh=options.refresh,
            retry_errors=options.retry_errors,
            wait=options.wait,
            budget=Limits(options.max_tokens, options.max_hours, options.max_cost),
            stream=None if options.quiet else sys.stderr,
        ),
        recipe_text=text,
    )
    print(f"{len(result.ran)} units ran; the others were done.")
    _print_outcome(result.plan, options)
    if any(name.startswith("sample/") for name in result.ran) and _limited(options):
        print("\n".join(spent_lines(read_json(result.folder / "budget.json"))))
    print(f"report: {result.report}")
    return 0


def _limited(options: argparse.Namespace) -> bool:
    limits = (options.max_tokens, options.max_hours, options.max_cost)
    return any(limit is not None for limit in limits)


def _print_outcome(planned: Plan, options: argparse.Namespace) -> None:
    done = {unit.name: planned.path(unit) for unit in planned.units}
    done = {name: path for name, path in done.items() if (path / "manifest.json").exists()}
    if "describe" in done:
        _print_texts(done["describe"], options)
    if "decontaminate" in done:
        _print_ledger(read_json(done["decontaminate"] / "manifest.json")["counts"], options)
    if "build" in done:
        counts = read_json(done["build"] / "manifest.json")["counts"]
        _print_build(counts)
        unit = "build"
        if "build/on_policy" in done:
            unit = "build/on_policy"
            counts = read_json(done[unit] / "manifest.json")["counts"]
            _print_build(counts, unit)
        what, table = ("a pair", "dpo") if counts["dpo"] else ("a response", "sft")
        unit = "build" if table == "sft" else unit
        print(f"look at {what}: fusechat show {unit} --table {table}{_workspace_flag(options)}")
    if "evaluate/compare" in done:
        _print_evaluation(done["evaluate/compare"])


def _print_evaluation(folder: Path) -> None:
    from fusechat.commands_evaluate import compared, comparison_text

    width = shutil.get_terminal_size((100, 24)).columns
    print(comparison_text(compared(folder), width))


def _print_texts(folder: Path, options: argparse.Namespace) -> None:
    from fusechat.metrics.texts_table import format_texts

    print(format_texts(read_json(folder / "texts.json")))
    if count_rows(folder / "near_duplicates"):
        print(f"look at near-duplicates: fusechat show describe{_workspace_flag(options)}")


def _print_ledger(counts: Mapping[str, Any], options: argparse.Namespace) -> None:
    gone = f"{counts['removed_prompts']} prompts and {counts['removed_responses']} responses"
    print(f"contamination: {gone} have words of {len(counts['benchmarks'])} benchmarks; left out")
    if counts["removed_prompts"] or counts["removed_responses"]:
        print(f"look at them: fusechat show decontaminate{_workspace_flag(options)}")


def _print_build(counts: Mapping[str, Any], unit: str = "build") -> None:
    for domain, found in counts["domains"].items():
        dropped = "; ".join(f"{n} {reason}" for reason, n in found["dropped"].items())
        made = f"{found['sft']} sft, {found['dpo']} pairs"
        if found.get("reserved"):
            made = f"{found['sft']} sft, {found['reserved']} prompts reserved"
        print(
            f"{unit} {domain}: {found['prompts']} prompts, {made}"
            + (f"; dropped: {dropped}" if dropped else "")
        )


def _same_recipe(options: argparse.Namespace) -> str:
    """What a command about the same variant of a recipe needs, ready for a shell."""
    method = f" --method {shlex.quote(options.method)}" if options.method else ""
    changes = "".join(f" --set {shlex.quote(change)}" for change in options.set or ())
    return method + changes + _workspace_flag(options)


def _workspace_flag(options: argparse.Namespace) -> str:
    return "" if options.workspace == Path("workspace") else f" --workspace {options.workspace}"


def report(options: argparse.Namespace) -> int:
    """Write the report of what is finished."""
    recipe, _ = _load(options)
    planned = plan(recipe, options.workspace)
    folder = run_folder(planned)
    if not (folder / "plan.json").exists():
        raise RecipeError(
            [Fault(str(options.recipe), "", f"has no run in {planned.workspace}. Run it first.")]
        )
    print(f"report: {write_report(planned, folder)}")
    return 0


def _run_of(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The folder and plan of the run that is meant: the newest, or the one named."""
    plans = sorted(
        options.workspace.glob("runs/*/plan.json"), key=lambda path: path.stat().st_mtime
    )
    named = getattr(options, "run", None)
    if named:
        plans = [path for path in plans if path.parent.name.startswith(named)]
    if not plans:
        what = f"no run '{named}'" if named else "no run yet"
        raise RecipeError([Fault(str(options.workspace), "", f"has {what}. Run a recipe first.")])
    found: dict[str, Any] = read_json(plans[-1])
    return plans[-1].parent, found


def run_folders(options: argparse.Namespace) -> tuple[Path, dict[str, Path]]:
    folder, found = _run_of(options)
    return folder, {unit["name"]: options.workspace / unit["folder"] for unit in found["units"]}


def show(options: argparse.Namespace) -> int:
    """Show a unit's rows, its dropped rows, or all about one prompt."""
    run_dir, folders = run_folders(options)
    if options.unit not in folders:
        raise RecipeError(
            [Fault("", options.unit, f"is no unit of this run. There are: {', '.join(folders)}.")]
        )
    folder = folders[options.unit]
    if options.prompt and options.unit in ("build", "build/on_policy"):
        return _show_prompt(options, run_dir, folders)
    tables = {path.name: path for path in sorted(folder.iterdir()) if shards(path)}
    name = "dropped" if options.dropped else options.table
    if name is None:
        name = next((n for n in tables if n not in ("dropped", "reference")), None)
    if name not in tables:
        have = ", ".join(tables) or "none yet"
        raise RecipeError([Fault("", options.unit, f"has no table '{name}'. It has: {have}.")])
    rows = _of_prompt(read_dicts(tables[name]), options.prompt)
    shown = 0
    for row in rows:
        if shown >= options.limit:
            break
        _print_row(row, options.json)
        shown += 1
    _print_footer(options, name, tables, shown)
    return 0


def _of_prompt(rows: Iterator[dict[str, Any]], prompt: str | None) -> Iterator[dict[str, Any]]:
    for row in rows:
        if prompt is None or str(row.get("prompt_id", row.get("id", ""))).startswith(prompt):
            yield row


def _print_footer(
    options: argparse.Namespace, name: str, tables: Mapping[str, Path], shown: int
) -> None:
    if options.json:
        return
    total = sum(1 for _ in _of_prompt(read_dicts(tables[name], None), options.prompt))
    others = ", ".join(f"--table {other}" for other in tables if other != name)
    print(
        f"{shown} of {total} rows of {options.unit} {name}"
        + (f" (also: {others})" if others else "")
    )


def _print_row(row: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(row, ensure_ascii=False))
        return
    for name, value in row.items():
        if value is None or value == "":
            continue
        print(f"{name:15} {_readable(name, value)}")
    print()


def _readable(name: str, value: Any) -> str:
    if name == "messages":
        value = " / ".join(f"{turn['role']}: {turn['content']}" for turn in value)
    return str(value).replace("\n", "\n" + " " * 16)


def _show_prompt(options: argparse.Namespace, run_dir: Path, folders: Mapping[str, Path]) -> int:
    from fusechat.stages.build_settings import BuildSettings
    from fusechat.stages.explain import as_text, explain_prompt

    tree = yaml.safe_load((run_dir / "recipe.yaml").read_text(encoding="utf-8"))
    settings = BuildSettings.model_validate(tree["build"])
    inputs = {
        name: path
        for name, path in folders.items()
        if name == "prompts" or name.split("/")[0] in ("sample", "annotate")
    }
    done = {name: folders[name] for name in ("build", "build/on_policy") if name in folders}
    done = {name: path for name, path in done.items() if (path / "manifest.json").exists()}
    entries = {name: entry or {} for name, entry in tree["sources"].items()}
    trained = [name for name, entry in entries.items() if entry.get("model") in TRAINED_BY]
    found = explain_prompt(
        options.prompt, inputs, settings, done.get("build"), later=done.get("build/on_policy"),
        trained=trained,
    )  # fmt: skip
    print(json.dumps(found, ensure_ascii=False, default=str) if options.json else as_text(found))
    return 0


def list_parts(options: argparse.Namespace) -> int:
    """List the parts of a family: name, first line of the docstring, settings."""
    rows: list[dict[str, Any]] = []
    for name in part_names(options.family):
        cls = part_class(options.family, name)
        settings = {
            key: "needed" if info.is_required() else info.get_default(call_default_factory=True)
            for key, info in cls.model_fields.items()
        }
        rows.append({"name": name, "what": describe(cls), "settings": settings})
    if options.json:
        print(json.dumps(rows, ensure_ascii=False, default=str, indent=2))
        return 0
    for row in rows:
        print(f"{row['name']}\n    {row['what']}")
        if row["settings"]:
            print("    " + ", ".join(f"{key} ({value})" for key, value in row["settings"].items()))
    print("your own: use: package.module:Class (docs/add-a-part.md)")
    return 0


def status(options: argparse.Namespace) -> int:
    """How far the newest run is: its units, and the one at work with its rate."""
    folder, found = _run_of(options)
    holder = lock_holder(options.workspace)
    rows = [_unit_state(options.workspace, unit) for unit in found["units"]]
    if options.json:
        print(json.dumps({"run": folder.name, "held_by": holder, "units": rows}, indent=2))
        return 0
    who = f"running as process {holder['pid']} on {holder['host']}" if holder else "not running"
    print(f"{folder.name}: {who}")
    for row in rows:
        print(f"  {row['state']:8} {row['unit']:32} {row['line']}")
    done = sum(row["state"] == "done" for row in rows)
    print(f"{done} of {len(rows)} units are done.")
    return 0


def _unit_state(workspace: Path, unit: Mapping[str, Any]) -> dict[str, str]:
    folder = workspace / unit["folder"]
    name = str(unit["name"])
    if (folder / "manifest.json").exists():
        seconds = read_json(folder / "manifest.json")["seconds"]
        return {"unit": name, "state": "done", "line": f"{seconds:.1f} s"}
    if (folder / "progress.json").exists():
        line = str(read_json(folder / "progress.json")["line"])
        return {"unit": name, "state": "partial", "line": line.removeprefix(f"{name}: ")}
    state = "partial" if (folder / "unit.json").exists() else "new"
    return {"unit": name, "state": state, "line": ""}
