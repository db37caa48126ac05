"""Gather what a report shows from a run's folder: manifests, metrics and tables.

Nothing is computed here beyond counting, and the quartiles that charts draw. A unit that is
planned but not done is left out, so that a report can be written at any point of a run.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from fusechat import files, tables
from fusechat.records import Pair
from fusechat.report.answers import Asked, answers
from fusechat.report.judged import Judge, ScoreBox, SourceRow, Unit, quantiles, responses_and_scores

PAIRS_TO_READ = 10
REMOVED_TO_READ = 20
COMPARE = "evaluate/compare"
"""The unit that holds metrics.json."""
ANALYSIS = 1
"""The format of analysis.json that is understood here; another one is left out."""
TEXTS = 1
"""The same of texts.json."""


@dataclass(frozen=True)
class MarginBox:
    """Margins of the pairs of one source in one domain."""

    domain: str
    source: str
    n: int
    quantiles: tuple[float, float, float, float, float]


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
    curves: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Training unit -> rows of its metrics.jsonl."""
    metrics: Mapping[str, Any] | None = None
    answers: tuple[Asked, ...] = ()
    """Prompts of the win rates with the models' answers."""
    analysis: Mapping[str, Any] | None = None
    """What the build says about itself; None where it is not done, or older than that."""
    texts: Mapping[str, Any] | None = None
    """What `describe` says of the responses; None where it is not done, or older than that."""
    ledger: Mapping[str, Any] | None = None
    """What `decontaminate` removed, counted, with some rows to read; None where it is not done."""
    asked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Domain -> the recipe's settings of its pairs, as written there."""
    pairs: tuple[Pair, ...] = ()


def collect(run_folder: Path, workspace: Path) -> Findings:
    """What the report of a run shows. Raises `FileNotFoundError` where it has no plan.json."""
    plan = files.read_json(run_folder / "plan.json")
    units = tuple(_units(plan, workspace))
    text, settings = _recipe(run_folder)
    domains = _prompt_domains(units)
    build = _first(units, "build")
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
        read_drops=_drops(unit.table("dropped") for unit in units if unit.name == "prompts"),
        sample_drops=_unit_drops(units, "sample/"),
        **responses_and_scores(units, domains),
        **_built(build),
        train_drops=_unit_drops(units, "train/"),
        curves={
            unit.name: list(files.read_jsonl(unit.folder / "metrics.jsonl"))
            for unit in units
            if unit.done and unit.name.startswith("train/")
        },
        metrics=metrics,
        answers=answers(units, _first(units, COMPARE), metrics),
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
    return {name: entry for name, entry in pairs.items() if isinstance(entry, Mapping)}


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


def _drops(folders: Iterable[Path | None]) -> Counter[tuple[str, str, str]]:
    return Counter(
        (row["stage"], row["domain"], row["reason"])
        for folder in folders
        if folder is not None
        for row in tables.read_dicts(folder, ["stage", "domain", "reason"])
    )


def _unit_drops(units: Iterable[Unit], stage: str) -> Counter[tuple[str, str, str]]:
    out: Counter[tuple[str, str, str]] = Counter()
    for unit in units:
        if unit.name.startswith(stage):
            for (_, domain, reason), count in _drops([unit.table("dropped")]).items():
                out[unit.name, domain, reason] += count
    return out


def _built(build: Unit | None) -> dict[str, Any]:
    if build is None:
        return {}
    chosen: dict[str, dict[str, Counter[str]]] = {}
    margins: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, columns in (("sft", []), ("dpo", ["margin"])):
        folder = build.table(name)
        by_domain = chosen.setdefault(name, {})
        for row in tables.read_dicts(folder, ["domain", "source", *columns]) if folder else ():
            by_domain.setdefault(row["domain"], Counter())[row["source"]] += 1
            if row.get("margin") is not None:
                margins[row["domain"], row["source"]].append(row["margin"])
    return {
        "built": True,
        "analysis": _of_format(build.folder / "analysis.json", ANALYSIS),
        "chosen": chosen,
        "margins": tuple(
            MarginBox(domain, source, len(found), quantiles(found))
            for (domain, source), found in sorted(margins.items())
        ),
        "build_drops": _drops([build.table("dropped")]),
        "pairs": tuple(_pairs_to_read(build.table("dpo"))),
    }


def _texts(unit: Unit | None) -> Mapping[str, Any] | None:
    return _of_format(unit.folder / "texts.json", TEXTS) if unit else None


def _ledger(unit: Unit | None) -> Mapping[str, Any] | None:
    if unit is None or unit.manifest is None or (folder := unit.table("removed")) is None:
        return None
    rows = list(islice(tables.read_dicts(folder), REMOVED_TO_READ))
    return {**unit.manifest["counts"], "rows": rows}


def _of_format(path: Path, wanted: int) -> Mapping[str, Any] | None:
    found = files.read_json(path) if path.exists() else None
    return found if isinstance(found, Mapping) and found.get("format") == wanted else None


def _pairs_to_read(folder: Path | None) -> list[Pair]:
    """Ten pairs, drawn by the digest of their ids, taking domains and sources in turn."""
    if folder is None:
        return []
    groups: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    columns = ["domain", "source", "chosen_id", "rejected_id"]
    for number, row in enumerate(tables.read_dicts(folder, columns)):
        drawn = hashlib.sha256((row["chosen_id"] + row["rejected_id"]).encode()).hexdigest()
        groups[row["domain"], row["source"]].append((drawn, number))
    by_domain: dict[str, list[list[int]]] = defaultdict(list)
    for (domain, _), members in sorted(groups.items()):
        by_domain[domain].append([number for _, number in sorted(members)])
    in_turn = [_in_turn(lists) for _, lists in sorted(by_domain.items())]
    wanted = _in_turn(in_turn)[:PAIRS_TO_READ]
    found = dict.fromkeys(wanted)
    picked = {}
    for number, pair in enumerate(tables.read_table(folder, Pair)):
        if number in found:
            picked[number] = pair
            if len(picked) == len(wanted):
                break
    ordered = [picked[number] for number in wanted]
    return sorted(ordered, key=lambda pair: pair.domain)


def _in_turn(lists: list[list[int]]) -> list[int]:
    longest = max(map(len, lists), default=0)
    return [found[i] for i in range(longest) for found in lists if i < len(found)]


def _metrics(units: Iterable[Unit]) -> Mapping[str, Any] | None:
    unit = _first(units, COMPARE)
    path = unit.folder / "metrics.json" if unit else None
    return files.read_json(path) if path and path.exists() else None
