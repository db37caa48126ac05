"""Recipe -> units in order: what each is made from, what is done, what would run, and why.

One entry of the plan is one unit: one part (or stage) applied to its inputs, one folder named
by the digest of what it is made from. Nothing is hidden between the plan and the disk.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from fusechat.digests import digest
from fusechat.errors import FusechatError
from fusechat.evaluation_units import evaluation_entries, test_sets
from fusechat.files import read_json
from fusechat.on_policy_units import BUILD as ON_POLICY
from fusechat.on_policy_units import judged_by, on_policy_entries, ready_sources, trained_names
from fusechat.parts import Part
from fusechat.recipe import Recipe
from fusechat.records import Record, Response, Score, SourceLogp
from fusechat.settings import settings_key
from fusechat.stages.on_policy import before
from fusechat.training_units import logp_entries, select_entries

Kind = Literal[
    "prompts",
    "sample",
    "describe",
    "decontaminate",
    "annotate",
    "build",
    "train_sft",
    "build_on_policy",
    "source_logps",
    "train_dpo",
    "candidates",
    "select",
    "next_turn",
    "judge_prompts",
    "judge_again",
    "verdicts",
    "compare",
]
State = Literal["done", "partial", "stale", "new"]
SEEDED = ("prompts", "sample", "build", "build_on_policy", "train_sft", "train_dpo")
"""Kinds whose result depends on the recipe's seed."""
VERSIONS = {"train_sft": 2, "train_dpo": 2}
"""Kinds whose meaning has changed, so that older results are not taken for theirs. 2: rows are
packed, and those held out are not trained on."""
ROWWISE: Mapping[str, type[Record]] = {
    "sample": Response,
    "annotate": Score,
    "source_logps": SourceLogp,
}
"""Kinds that map rows to rows, and what rows they make."""
KEY_SHOWN = 8


@dataclass(frozen=True)
class Unit:
    """One entry of the plan."""

    name: str
    """`stage/name`, as on the command line."""
    kind: Kind
    settings: Any
    inputs: tuple[str, ...]
    """Names of the units whose tables it reads, sources in recipe order."""
    made_from: dict[str, Any]
    """What the key is the digest of."""
    key: str

    @property
    def folder(self) -> str:
        """Its folder, relative to the workspace."""
        return f"{self.name}-{self.key[:KEY_SHOWN]}"

    @property
    def rowwise(self) -> bool:
        """Whether it maps rows to rows."""
        return self.kind in ROWWISE


@dataclass(frozen=True)
class Standing:
    """What a workspace holds of a unit."""

    state: State
    why: str


@dataclass(frozen=True)
class Plan:
    """All units of a recipe in an order in which they can run, against one workspace."""

    recipe: Recipe
    workspace: Path
    units: tuple[Unit, ...]

    def __getitem__(self, name: str) -> Unit:
        for unit in self.units:
            if unit.name == name:
                return unit
        raise KeyError(name)

    def path(self, unit: Unit) -> Path:
        """The unit's folder."""
        return self.workspace / unit.folder

    def standing(self, unit: Unit) -> Standing:
        """What is there of a unit, and why it would run."""
        return standing(self, unit)

    def standings(self) -> dict[str, Standing]:
        """What is there of every unit; one whose input would run, would run too."""
        found: dict[str, Standing] = {}
        for unit in self.units:
            own = standing(self, unit)
            waiting = [name for name in unit.inputs if found[name].state != "done"]
            if own.state == "done" and waiting:
                own = Standing("stale", f"{waiting[0]} runs first")
            found[unit.name] = own
        return found

    def key(self) -> str:
        """Digest of all unit keys: names the run's folder."""
        return digest([[unit.name, unit.key] for unit in self.units])[:KEY_SHOWN]

    def __str__(self) -> str:
        found = self.standings()
        width = max(len(unit.name) for unit in self.units)
        lines = [
            f"{now.state:8}{name:{width}}  {self[name].key[:KEY_SHOWN]}  {now.why}".rstrip()
            for name, now in found.items()
        ]
        done = sum(standing.state == "done" for standing in found.values())
        return "\n".join([*lines, f"{done} done, {len(lines) - done} to run."])


def plan(recipe: Recipe, workspace: str | Path = "workspace") -> Plan:
    """The plan of a recipe in a workspace; reads files, runs nothing."""
    units: dict[str, Unit] = {}
    for name, kind, settings, inputs in _entries(recipe):
        made_from: dict[str, Any] = {
            "kind": kind,
            "settings": _plain(settings),
            "inputs": {other: units[other].key for other in inputs},
        }
        if len(order := _order(kind, settings, inputs)) > 1:
            made_from["order"] = order
        if kind in SEEDED:
            made_from["seed"] = recipe.seed
        if kind in VERSIONS:
            made_from["version"] = VERSIONS[kind]
        units[name] = Unit(name, kind, settings, inputs, made_from, digest(made_from))
    return Plan(recipe, Path(workspace).resolve(), tuple(units.values()))


def _order(kind: Kind, settings: Any, inputs: tuple[str, ...]) -> list[str]:
    """The entries whose order in the recipe decides rows: the first prompt set wins, the first
    source wins a tie, a table has the order of its inputs."""
    if kind == "prompts":
        return list(settings)
    return [name for name in inputs if name.startswith(("sample/", "evaluate/"))]


def _plain(settings: Any) -> Any:
    if isinstance(settings, Part):
        return settings.key()
    if isinstance(settings, BaseModel):
        return settings_key(settings)
    if isinstance(settings, Mapping):
        return {name: _plain(value) for name, value in settings.items()}
    return settings


Entry = tuple[str, Kind, Any, tuple[str, ...]]


def _entries(recipe: Recipe) -> Iterator[Entry]:
    if recipe.prompts:
        yield from _fusion(recipe)
    if recipe.evaluate is not None:
        yield from evaluation_entries(recipe)


def _fusion(recipe: Recipe) -> Iterator[Entry]:
    yield "prompts", "prompts", recipe.prompts, ()
    sources = ready_sources(recipe)
    samples = tuple(f"sample/{name}" for name in sources)
    for name, source in sources.items():
        yield f"sample/{name}", "sample", source, ("prompts",)
    if recipe.describe is not None:
        asked = {"describe": recipe.describe, "target": recipe.target}
        yield "describe", "describe", asked, ("prompts", *samples)
    ledger = ("decontaminate",) if recipe.decontaminate is not None else ()
    if ledger:
        yield "decontaminate", "decontaminate", _looked_for(recipe), ("prompts", *samples)
    for name, annotator in recipe.annotators.items():
        judged = judged_by(recipe, annotator, sources)
        yield f"annotate/{name}", "annotate", annotator, ("prompts", *judged)
    scores = tuple(f"annotate/{name}" for name in recipe.annotators)
    if recipe.build is not None:
        rules = before(recipe.build, trained_names(recipe))
        yield "build", "build", rules, ("prompts", *samples, *scores, *ledger)
    yield from _training(recipe)


def _looked_for(recipe: Recipe) -> dict[str, Any]:
    """What the ledger looks for: the benchmarks that are named, and the recipe's own tests."""
    assert recipe.decontaminate is not None
    evaluation = recipe.evaluate if recipe.decontaminate.evaluation else None
    own = test_sets(evaluation) if evaluation else ()
    tasks = {task.name: {"part": task.task, "split": task.split} for task in own}
    return {"decontaminate": recipe.decontaminate, "tasks": tasks}


def _training(recipe: Recipe) -> Iterator[Entry]:
    base = recipe.target
    if recipe.train.sft is not None:
        yield "train/sft", "train_sft", {"model": base, "train": recipe.train.sft}, ("build",)
    builds: tuple[str, ...] = ("build",)
    for entry in on_policy_entries(recipe):
        builds = ("build", ON_POLICY)
        yield entry
    if recipe.train.dpo is not None:
        after = recipe.train.sft is not None
        model = None if after else base
        inputs = (*builds, "train/sft") if after else builds
        for entry in logp_entries(recipe, inputs):
            inputs += (entry[0],)
            yield entry
        yield "train/dpo", "train_dpo", {"model": model, "train": recipe.train.dpo}, inputs
        yield from select_entries(recipe, inputs)


def least_margin(recipe: Recipe, unit: str) -> float | None:
    """Smallest raw `min_margin` above 0 that a build rule asks of an annotator's scores.

    None for a unit that is no annotator, and where no rule has a raw window on its scores.
    """
    if recipe.build is None or not unit.startswith("annotate/"):
        return None
    strategies = [s for rule in recipe.build.domains.values() for s in rule.strategies().values()]
    margins = [
        getattr(strategy, "min_margin", None)
        for strategy in strategies
        if getattr(strategy, "by", None) == unit.removeprefix("annotate/").partition("@")[0]
        and getattr(strategy, "window", "raw") == "raw"
        and not getattr(strategy, "allow_narrow_window", False)
    ]
    return min((margin for margin in margins if margin is not None and margin > 0), default=None)


def standing(plan: Plan, unit: Unit) -> Standing:
    """What the workspace holds of one unit, its inputs taken as they are."""
    folder = plan.path(unit)
    if not (folder / "unit.json").exists():
        return Standing("new", _what_changed(plan, unit))
    if not (folder / "manifest.json").exists():
        return Standing("partial", "an earlier run did not finish it")
    manifest = read_json(folder / "manifest.json")
    for name in unit.inputs:
        known = manifest["inputs"].get(name)
        now = content_digest(plan.path(plan[name]))
        if now is not None and known != now:
            return Standing("stale", f"{name} has other content than the one that it read")
    if stopped := manifest["counts"].get("stopped"):
        return Standing("partial", f"stopped at its limit: {stopped['missing']} rows missing")
    other = _other_versions(manifest)
    return Standing("done", f"(made with {other})" if other else "")


def content_digest(folder: Path) -> str | None:
    """Digest of what a finished unit made; None where it is not finished."""
    path = folder / "manifest.json"
    if not path.exists():
        return None
    return digest({name: table["digest"] for name, table in read_json(path)["tables"].items()})


def _other_versions(manifest: Mapping[str, Any]) -> str:
    from fusechat.environment import library_versions

    now = library_versions()
    other = [
        f"{name} {version}, now {now[name]}"
        for name, version in manifest.get("libraries", {}).items()
        if name in now and now[name] != version
    ]
    return "; ".join(other)


def _what_changed(plan: Plan, unit: Unit) -> str:
    """How the unit differs from the newest one of the same name."""
    parent = plan.path(unit).parent
    stem = unit.name.split("/")[-1]
    others = list(parent.glob(f"{stem}-*/unit.json"))
    if not others:
        return ""
    newest = max(others, key=lambda path: path.stat().st_mtime)
    before = read_json(newest)["made_from"]
    changes = [
        f"its input {path.removeprefix('inputs.')} changed"
        if path.startswith("inputs.")
        else f"{path} changed {_short(old)} -> {_short(new)}"
        for path, old, new in _differences(before, unit.made_from, "")
    ]
    return "because " + "; ".join(changes[:3]) if changes else ""


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}, key=str):
            inner = f"{path}.{name}" if path else str(name)
            yield from _differences(old.get(name), new.get(name), inner)
    elif old != new:
        yield path, old, new


def _short(value: Any) -> str:
    text = "the default" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def wanted_units(plan: Plan, only: str | None) -> list[Unit]:
    """The units to run: all, or those named `only` (or below it) with all that they need.

    Raises `FusechatError` with the nearest names where there is no such unit.
    """
    if only is None:
        return list(plan.units)
    names = [unit.name for unit in plan.units]
    below = [name for name in names if name.startswith(only.rstrip("/") + "/")]
    asked = [only] if only in names else below
    if not asked:
        near = difflib.get_close_matches(only, names, 1)
        hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(names)}."
        raise FusechatError(f"there is no unit '{only}' in this plan. {hint}")
    needed: set[str] = set()
    for unit in reversed(plan.units):
        if unit.name in asked or unit.name in needed:
            needed |= {unit.name, *unit.inputs}
    return [unit for unit in plan.units if unit.name in needed]
