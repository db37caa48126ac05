"""Gather what a report shows from a run's folder: manifests, metrics and tables.

Nothing is computed here beyond counting, and the quartiles that charts draw. A unit that is
planned but not done is left out, so that a report can be written at any point of a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from fusechat import files, tables
from fusechat.report.answers import Asked, answers
from fusechat.report.benchmarks_found import Benchmarks, benchmarks
from fusechat.report.built import MarginBox as MarginBox
from fusechat.report.built import PairToRead, after_training, built, dropped, of_format
from fusechat.report.judged import Judge, ScoreBox, SourceRow, Unit, responses_and_scores
from fusechat.report.training_runs import TrainingRun, training_runs

REMOVED_TO_READ = 20
COMPARE = "evaluate/compare"
"""The unit that holds metrics.json."""
TEXTS = 1
"""The format of texts.json that is understood here; another one is left out."""
CHOSEN = 1
"""The same of chosen.json."""
SELECT = "select/dpo"
"""The unit that holds chosen.json."""


@dataclass(frozen=True)
class Findings:
    """All that the page shows."""

    recipe: str
    recipe_text: str
    target: str
    sources: Mapping[str, str]
    """Name of each source in the recipe -> its model."""
    environment: Mapping[str, Any]
    units: tuple[Unit, ...]
    prompts: Mapping[str, int] = field(default_factory=dict)
    """Domain -> prompts that were kept."""
    read_drops: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(stage, domain, reason) -> prompts dropped while reading."""
    sample_drops: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(unit, domain, reason) -> prompts that a source could not be asked."""
    responses: tuple[SourceRow, ...] = ()
    judges: Mapping[str, Judge] = field(default_factory=dict)
    """Annotator -> what it did."""
    boxes: tuple[ScoreBox, ...] = ()
    margins: tuple[MarginBox, ...] = ()
    chosen: Mapping[str, Mapping[str, Counter[str]]] = field(default_factory=dict)
    """`sft` or `dpo` -> domain -> source -> rows."""
    built: bool = False
    build_drops: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(stage, domain, reason) -> prompts that gave nothing."""
    train_drops: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(unit, domain, reason) -> rows that training left out."""
    trained: tuple[TrainingRun, ...] = ()
    selected: Mapping[str, Any] | None = None
    """What `select/dpo` says of its choice; None where it is not done, or older than that."""
    source_logps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Source -> counts of what it said of the preference rows' responses."""
    metrics: Mapping[str, Any] | None = None
    answers: tuple[Asked, ...] = ()
    """Prompts of the win rates with the models' answers."""
    benchmarks: Benchmarks | None = None
    """The published benchmarks; None where none was asked for, or they are not done."""
    analysis: Mapping[str, Any] | None = None
    """What the build says about itself; None where it is not done, or older than that."""
    texts: Mapping[str, Any] | None = None
    """What `describe` says of the responses; None where it is not done, or older than that."""
    ledger: Mapping[str, Any] | None = None
    """What `decontaminate` removed, counted, with some rows to read; None where it is not done."""
    asked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Domain -> the recipe's settings of its pairs, as written there."""
    pairs: tuple[PairToRead, ...] = ()


def collect(run_folder: Path, workspace: Path) -> Findings:
    """What the report of a run shows. Raises `FileNotFoundError` where it has no plan.json."""
    plan = files.read_json(run_folder / "plan.json")
    units = tuple(_units(plan, workspace))
    text, settings = _recipe(run_folder)
    domains = _prompt_domains(units)
    metrics = _metrics(units)
    return Findings(
        recipe=str(plan["recipe"]),
        recipe_text=text,
        target=_model_name(settings.get("target")),
        sources=_source_models(settings, units),
        environment=_optional_json(run_folder / "environment.json"),
        units=units,
        asked=_asked(settings),
        texts=_texts(_first(units, "describe")),
        ledger=_ledger(_first(units, "decontaminate")),
        prompts=Counter(domains.values()),
        read_drops=dropped(unit.table("dropped") for unit in units if unit.name == "prompts"),
        sample_drops=_unit_drops(units, "sample/"),
        **responses_and_scores(units, domains),
        **built(units),
        train_drops=_unit_drops(units, "train/"),
        trained=training_runs(units),
        selected=_selected(_first(units, SELECT)),
        source_logps=_source_logps(units),
        metrics=metrics,
        answers=answers(units, _first(units, COMPARE), metrics),
        benchmarks=benchmarks(units, _first(units, COMPARE), run_folder),
    )


def _units(plan: Mapping[str, Any], workspace: Path) -> Iterator[Unit]:
    for entry in plan["units"]:
        folder = workspace / entry["folder"]
        manifest = folder / "manifest.json"
        yield Unit(
            name=entry["name"],
            folder=folder,
            key=str(entry.get("key", "")),
            manifest=files.read_json(manifest) if manifest.exists() else None,
        )


def _first(units: Iterable[Unit], name: str) -> Unit | None:
    return next((unit for unit in units if unit.name == name and unit.done), None)


def _recipe(run_folder: Path) -> tuple[str, Mapping[str, Any]]:
    path = run_folder / "recipe.yaml"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    settings = yaml.safe_load(text) if text else {}
    return text, settings if isinstance(settings, Mapping) else {}


def _optional_json(path: Path) -> Mapping[str, Any]:
    found = files.read_json(path) if path.exists() else {}
    return found if isinstance(found, Mapping) else {"": found}


def _asked(settings: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    rules = settings.get("build")
    found = rules.items() if isinstance(rules, Mapping) else ()
    pairs = {str(name): rule.get("dpo") for name, rule in found if isinstance(rule, Mapping)}
    asked = {name: entry for name, entry in pairs.items() if isinstance(entry, Mapping)}
    return asked | {after_training(name): entry for name, entry in asked.items()}


def _model_name(entry: Any) -> str:
    model = entry.get("model", "") if isinstance(entry, Mapping) else entry or ""
    return str(model)


def _source_models(settings: Mapping[str, Any], units: Iterable[Unit]) -> dict[str, str]:
    entries = settings.get("sources")
    named = {unit.name.split("/", 1)[1]: "" for unit in units if unit.name.startswith("sample/")}
    if isinstance(entries, Mapping):
        named |= {str(name): _model_name(entry) for name, entry in entries.items()}
    return named


def _prompt_domains(units: Iterable[Unit]) -> dict[str, str]:
    unit = _first(units, "prompts")
    folder = unit.table("prompts") if unit else None
    rows = tables.read_dicts(folder, ["id", "domain"]) if folder else ()
    return {row["id"]: row["domain"] for row in rows}


def _unit_drops(units: Iterable[Unit], stage: str) -> Counter[tuple[str, str, str]]:
    out: Counter[tuple[str, str, str]] = Counter()
    for unit in units:
        if unit.name.startswith(stage):
            for (_, domain, reason), count in dropped([unit.table("dropped")]).items():
                out[unit.name, domain, reason] += count
    return out


def _texts(unit: Unit | None) -> Mapping[str, Any] | None:
    return of_format(unit.folder / "texts.json", TEXTS) if unit else None


def _selected(unit: Unit | None) -> Mapping[str, Any] | None:
    return of_format(unit.folder / "chosen.json", CHOSEN) if unit else None


def _source_logps(units: Iterable[Unit]) -> dict[str, Mapping[str, Any]]:
    found = {unit.name.partition("/"): unit.manifest for unit in units}
    return {
        source: manifest["counts"]
        for (stage, _, source), manifest in found.items()
        if stage == "source_logps" and manifest is not None
    }


def _ledger(unit: Unit | None) -> Mapping[str, Any] | None:
    if unit is None or unit.manifest is None or (folder := unit.table("removed")) is None:
        return None
    rows = [_readable(row) for row in islice(tables.read_dicts(folder), REMOVED_TO_READ)]
    return {**unit.manifest["counts"], "rows": rows}


def _readable(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the words of a benchmark whose publisher asks not to show its items (GPQA)."""
    private = "gpqa" in str(row.get("benchmark", "")).lower()
    return {**row, "words": "(not shown, as its publisher asks)"} if private else row


def _metrics(units: Iterable[Unit]) -> Mapping[str, Any] | None:
    unit = _first(units, COMPARE)
    path = unit.folder / "metrics.json" if unit else None
    return files.read_json(path) if path and path.exists() else None
