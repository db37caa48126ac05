"""The training units of a plan: memory, steps and hours, from rows that are there or expected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fusechat.chat import ChatTemplateError, load_tokenizer
from fusechat.errors import Fault, RecipeError
from fusechat.forecast.known import known_measures
from fusechat.forecast.measures import Measures, RowMeasure
from fusechat.local_models import is_local
from fusechat.planner import Plan, Unit
from fusechat.recipe import Cluster
from fusechat.records import Demonstration, Pair, Triple
from fusechat.settings import hub_snapshot
from fusechat.stages.build_rows import dpo_row_type, training_tables
from fusechat.stages.train_plan import (
    RowCosts,
    TrainingPlan,
    costs_of_examples,
    plan_training,
    read_trials,
)
from fusechat.stages.train_rows import encode_rows
from fusechat.stages.train_settings import TrainingSettings
from fusechat.tables import count_rows, read_table
from fusechat.training.examples import Example
from fusechat.training.flops import load_of
from fusechat.training.memory import device_bytes

LOOKED_AT = 400
"""Rows of a finished build that are put into tokens; the others are taken to be like them."""
PROMPT_TOKENS = 190
"""Of a prompt, where no source tells: UltraFeedback's are near."""
ORIGIN = "the pilot's yield, and lengths in the sources' tokens"
TABLES = {"train_sft": "sft", "train_dpo": "dpo"}


def training_plans(
    plan: Plan, cluster: Cluster, expected: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[TrainingPlan, ...]:
    """One for each training unit.

    `expected`: `Forecast.yields`, for rows that are not built yet. Raises `RecipeError` for a
    `gpu` of the cluster file that is not known.
    """
    units = [unit for unit in plan.units if unit.kind in TABLES]
    _refuse_unknown_gpus(units, cluster)
    trials = read_trials(plan.workspace) if units else []
    found = []
    for unit in units:
        settings, model = unit.settings["train"], _model(plan)
        costs = _built(plan, unit, settings, model)
        if costs is None and expected:
            costs = _expected(TABLES[unit.kind], settings, expected, known_measures(plan))
        where = cluster.where(unit.name)
        found.append(plan_training(unit.name, settings, model, where, costs, trials=trials))
    return tuple(found)


def _model(plan: Plan) -> str:
    return plan.recipe.target.model if plan.recipe.target is not None else ""


def _refuse_unknown_gpus(units: list[Unit], cluster: Cluster) -> None:
    faults = []
    for unit in units:
        try:
            if (gpu := cluster.where(unit.name).gpu) is not None:
                device_bytes(gpu)
        except ValueError as error:
            faults.append(Fault("cluster file", f"units.{unit.name}.gpu", str(error)))
    if faults:
        raise RecipeError(faults)


def _built(plan: Plan, unit: Unit, settings: TrainingSettings, model: str) -> RowCosts | None:
    """From the rows of finished builds, where the target's tokenizer is here."""
    builds = [plan[name] for name in unit.inputs if name.split("/")[0] == "build"]
    standings = plan.standings()
    if not builds or any(standings[build.name].state != "done" for build in builds):
        return None
    places = {build.name: plan.path(build) for build in builds}
    folders = training_tables(places, TABLES[unit.kind])
    total = sum(count_rows(folder) for folder in folders)
    folder = Path(model) if is_local(model) else hub_snapshot(model)
    if not total or folder is None:
        return None
    examples = list(_encoded(folder, folders, total, settings))
    if not examples:
        return None
    seen = "" if total <= LOOKED_AT else f", {len(examples)} of them put into tokens"
    return costs_of_examples(examples, total, f"the {total:,} rows that were built{seen}")


def _encoded(
    model: Path, folders: list[Path], total: int, settings: TrainingSettings
) -> Iterator[Example]:
    """Rows that are trained on, evenly from all."""
    try:
        tokenizer = load_tokenizer(model)
    except ChatTemplateError:
        return  # `check` and `doctor` say why; here there is only nothing to count
    apart = max(1, total // LOOKED_AT)
    rows = (row for folder in folders for row in _rows(folder))
    chosen = (row for number, row in enumerate(rows) if number % apart == 0)
    encoded = encode_rows(
        tokenizer, chosen, settings.max_length, settings.over_length, settings.max_prompt_length
    )
    yield from (one for one in encoded if isinstance(one, Example))


def _rows(folder: Path) -> Iterator[Demonstration | Pair | Triple]:
    if folder.name == "sft":
        yield from read_table(folder, Demonstration)
    else:
        yield from read_table(folder, dpo_row_type(folder.parent))


def _expected(
    table: str,
    settings: TrainingSettings,
    expected: Mapping[str, Mapping[str, Any]],
    measures: Measures,
) -> RowCosts | None:
    """From a pilot: expected rows, with the mean lengths that sources had in each domain."""
    sides = len(settings.loss.sides)
    rows, apart, shared, longest = 0.0, load_of([]), load_of([]), 0
    for domain, found in expected.items():
        if found.get(table) is None:
            return None
        count = float(found[table]["value"])
        lengths = _lengths(domain, measures.parts.values())
        if lengths is None:
            if not count:
                continue
            return None
        prompt, response = lengths
        texts = [(prompt, response)] * sides
        rows += count
        apart += load_of(texts).times(count)
        shared += load_of(texts, prompt if sides > 1 else 0).times(count)
        longest = settings.max_length * sides
    if not rows:
        return None
    return RowCosts(rows, apart, shared, longest, ORIGIN)


def _lengths(domain: str, measured: Any) -> tuple[int, int] | None:
    """Mean tokens of prompt and response over all sources that answer a domain; None without."""
    parts: list[RowMeasure] = [one for one in measured if domain in one.response_tokens]
    if not parts:
        return None
    response = sum(one.response_tokens[domain].mean for one in parts) / len(parts)
    told = [one.prompt_tokens[domain].mean for one in parts if domain in one.prompt_tokens]
    return round(sum(told) / len(told)) if told else PROMPT_TOKENS, round(response)
