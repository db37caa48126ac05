"""`fusechat what-if`: what other build rules would give, from the scores that are there."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from fusechat.errors import Fault, RecipeError, StaleInputError
from fusechat.on_policy_units import BUILD as ON_POLICY
from fusechat.on_policy_units import ready_sources, trained_names
from fusechat.planner import Plan, plan
from fusechat.recipe import Recipe, read_recipe
from fusechat.recipe_file import near
from fusechat.report.built import after_training
from fusechat.stages.build_settings import BuildSettings
from fusechat.stages.on_policy import BuildBefore, after, before, reserved_ids, waiting

BUILD, VARIABLES = "build.", "variables."
"""What `--set` may change: the rules, and what the recipe itself needs to be read."""


def what_if(options: argparse.Namespace) -> int:
    """Print the yield of the build as the recipe has it beside that under other rules.

    `options`: `recipe`, `set` (list of KEY=VALUE below `build.`, or below `variables.`, which count
    for both sides), `sources` (names with commas between, or None), `drop_one` (bool),
    `workspace`, `json`. Writes nothing. Raises `RecipeError` for faults of the call and
    `StaleInputError` where scores are missing.
    """
    from fusechat.stages import what_if as stage

    given = _changes(options.set)
    variables = {key: value for key, value in given.items() if key.startswith(VARIABLES)}
    changes = {key: value for key, value in given.items() if key not in variables}
    recipe = _recipe(options, variables)
    assert recipe.build is not None
    _check_domains(changes, recipe.build)
    changed = _recipe(options, given)
    assert changed.build is not None
    now, variants = _variants(options, recipe, changed.build, list(changes))
    planned = plan(recipe, options.workspace)
    inputs = {name: planned.path(planned[name]) for name in _finished(planned, options)}
    trained = trained_names(recipe)
    builds = {name: before(rules, trained) for name, rules in {stage.NOW: now, **variants}.items()}
    first = {n: b.rules if isinstance(b, BuildBefore) else b for n, b in builds.items()}
    reserve = {n: b.reserve for n, b in builds.items() if isinstance(b, BuildBefore)}
    found = stage.what_if(inputs, first.pop(stage.NOW), first, reserve)
    if ON_POLICY in {unit.name for unit in planned.units}:
        _add_later(planned, found, now, variants)
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    print("\n".join(lines(found)))
    return 0


def _add_later(
    planned: Plan, found: dict[str, Any], now: BuildSettings, variants: Mapping[str, BuildSettings]
) -> None:
    """Add what the prompts that are reserved would give, where the trained source has answered."""
    from fusechat.stages import what_if as stage

    inputs, states = planned[ON_POLICY].inputs, planned.standings()
    if any(states[name].state != "done" for name in inputs):
        found["not_yet"] = list(waiting(now, trained_names(planned.recipe)))
        return
    ready, trained = tuple(ready_sources(planned.recipe)), trained_names(planned.recipe)
    rules = {name: after(one, ready, trained).rules for name, one in variants.items()}
    folders = {name: planned.path(planned[name]) for name in inputs}
    later = stage.what_if(
        folders, after(now, ready, trained).rules, rules,
        among=reserved_ids(planned.path(planned["build"])),
    )  # fmt: skip
    found["domains"] |= {after_training(name): one for name, one in later["domains"].items()}


def _changes(pairs: Sequence[str]) -> dict[str, Any]:
    out, faults = {}, []
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            message = "write KEY=VALUE, such as build.chat.dpo.max_margin=0.2."
            faults.append(Fault("--set", pair, message))
        elif not key.startswith((BUILD, VARIABLES)):
            message = (
                "what-if changes only keys below 'build.': any other would need new responses or "
                "scores. To see what would run then: fusechat check RECIPE --set ..."
            )
            faults.append(Fault("--set", key, message))
        else:
            try:
                out[key] = yaml.safe_load(value)
            except yaml.YAMLError:
                faults.append(Fault("--set", key, f"the value is not YAML: {value}"))
    if faults:
        raise RecipeError(faults)
    return out


def _check_domains(keys: Iterable[str], build: BuildSettings) -> None:
    """Raises `RecipeError` for a key below a domain that has no rule."""
    known = tuple(build.domains)
    faults = []
    for key in keys:
        domain, dot, _ = key.removeprefix(BUILD).partition(".")
        if dot and domain not in known:
            message = f"the build has no rule for a domain '{domain}'. {near(domain, known)}"
            faults.append(Fault("--set", key, message))
    if faults:
        raise RecipeError(faults)


def _recipe(options: argparse.Namespace, changes: Mapping[str, Any]) -> Recipe:
    recipe, faults, _ = read_recipe(options.recipe, changes, getattr(options, "method", None))
    if recipe is not None and recipe.build is None:
        message = "there is no build section, so there is nothing to compare."
        faults = [*faults, Fault(str(options.recipe), "build", message)]
    if faults or recipe is None:
        raise RecipeError(faults)
    return recipe


def _variants(
    options: argparse.Namespace, recipe: Recipe, changed: BuildSettings, keys: Sequence[str]
) -> tuple[BuildSettings, dict[str, BuildSettings]]:
    """The build to compare with, and the others by name."""
    from fusechat.stages.what_if import without_sources

    assert recipe.build is not None
    sources, trained = _sources(options, recipe), trained_names(recipe)
    if options.sources is not None:
        changed = without_sources(changed, sources, trained)
    if options.drop_one:
        names = [
            s for s in sources if any(s in (r.used() or sources) for r in changed.domains.values())
        ]
        others = {name: tuple(s for s in sources if s != name) for name in names}
        if len(names) < 2:
            message = "the build uses one source, so none can be left out."
            raise RecipeError([Fault("--drop-one", "", message)])
        return changed, {
            f"without {n}": without_sources(changed, s, trained) for n, s in others.items()
        }
    if not keys and options.sources is None:
        message = (
            "say what to change: --set build.chat.dpo.max_margin=0.2, --sources gemma,qwen, "
            "or --drop-one."
        )
        raise RecipeError([Fault("what-if", "", message)])
    return recipe.build, {"what-if": changed}


def _sources(options: argparse.Namespace, recipe: Recipe) -> tuple[str, ...]:
    """The sources that need no training, those named only where any are; in recipe order."""
    known = tuple(ready_sources(recipe))
    if options.sources is None:
        return known
    named = [name.strip() for name in str(options.sources).split(",") if name.strip()]
    faults = [
        Fault("--sources", name, f"there is no such source. {near(name, known)}")
        for name in named
        if name not in known
    ]
    if not named:
        faults.append(Fault("--sources", "", f"name at least one of: {', '.join(known)}."))
    if faults:
        raise RecipeError(faults)
    return tuple(name for name in known if name in named)


def _finished(planned: Plan, options: argparse.Namespace) -> tuple[str, ...]:
    """The inputs of the build; raises `StaleInputError` where one is not done."""
    inputs = planned["build"].inputs
    found = planned.standings()
    missing = [name for name in inputs if found[name].state != "done"]
    if missing:
        parts = [f"{name} ({found[name].state})" for name in missing]
        workspace = (
            "" if str(options.workspace) == "workspace" else f" --workspace {options.workspace}"
        )
        needed = [pair for pair in options.set if pair.startswith(VARIABLES)]
        variables = "".join(f" --set {shlex.quote(pair)}" for pair in needed)
        raise StaleInputError(
            f"what-if needs finished responses and scores, and these are not: {', '.join(parts)}. "
            f"Run them first: fusechat run {options.recipe}{workspace}{variables} --only build"
        )
    return inputs


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The comparison for a terminal."""
    for domain, part in found["domains"].items():
        yield from _table(domain, part["yields"])
        for name, changes in part["changes"].items():
            yield from _moves(name if len(part["changes"]) > 1 else "", changes)
        yield ""
    if not found["domains"]:
        yield "No rule of any domain with prompts changes, so nothing would."
    elif found["unchanged"]:
        yield f"the same as now: {', '.join(found['unchanged'])}"
    if found.get("not_yet"):
        names = ", ".join(found["not_yet"])
        yield f"not looked at: the DPO rows of {names}, which wait for a trained source"
    yield "Nothing was sampled, scored or written."


def _table(domain: str, yields: Mapping[str, Any]) -> Iterator[str]:
    rows: list[tuple[str, list[float | None]]] = []
    columns = list(yields.values())

    def add(label: str, values: Sequence[float | None]) -> None:
        rows.append((label, list(values)))

    add("prompts", [c["prompts"] for c in columns])
    for table, label in (("sft", "SFT rows"), ("dpo", "DPO pairs")):
        add(label, [c[table] for c in columns])
        for source in _union(c[f"{table}_sources"] for c in columns):
            add(f"  {source}", [c[f"{table}_sources"].get(source, 0) for c in columns])
    add("median margin", [c["median_margin"] for c in columns])
    add("dropped", [c["dropped"] for c in columns])
    for word in _union(c["dropped_words"] for c in columns):
        add(f"  {word}", [c["dropped_words"].get(word, 0) for c in columns])
    cells = [[label, *_cells(values)] for label, values in rows]
    if any(c["window"] for c in columns):
        cells.insert(0, ["window", *(_window(c["window"]) for c in columns)])
    yield from _aligned([[domain, *yields], *cells])
    for name, column in yields.items():
        if column["window"] and column["window"]["fault"]:
            yield f"{name}: a build would refuse this window: {column['window']['fault']}"


def _window(window: Mapping[str, Any] | None) -> str:
    if not window:
        return "none"
    low, high = (window[end] for end in ("min_margin", "max_margin"))
    return f"{'' if low is None else _number(low)}..{'' if high is None else _number(high)}"


def _union(found: Iterator[Mapping[str, int]]) -> list[str]:
    return list(dict.fromkeys(name for one in found for name in one))


def _cells(values: Sequence[float | None]) -> list[str]:
    first = values[0]
    cells = [_number(first)]
    for value in values[1:]:
        change = 0 if value is None or first is None else value - first
        sign = f" ({_number(change, '+')})" if change else ""
        cells.append(f"{_number(value)}{sign}")
    return cells


def _number(value: float | None, sign: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:{sign},}" if isinstance(value, int) else f"{value:{sign}.4g}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        yield "  ".join([row[0].ljust(widths[0]), *rest]).rstrip()


def _moves(name: str, changes: Mapping[str, Any]) -> Iterator[str]:
    label = f"{name}: " if name else ""
    moved = ", ".join(f"{n:,} {where}" for where, n in changes["moved"].items())
    yield f"{label}prompts that move: {moved or 'none'}"
    for table, what in (("sft", "response"), ("dpo", "pair")):
        if both := changes[f"{table}_in_both"]:
            other = changes[f"{table}_other"]
            yield f"{label}{both:,} prompts stay in {table.upper()}, {other:,} with another {what}"
