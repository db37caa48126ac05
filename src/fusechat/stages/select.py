"""Select: which state of the preference-trained model is the trained model.

FuseChat-3.0 keeps the best of the last two checkpoints and does not say by what. Here a rule is
declared in the recipe (`train.dpo.select`), and `select/dpo` writes what it came to:

    chosen.json    the rule, the candidates with their numbers, the choice and why
    model/         what `train.dpo` means wherever a model is named
    adapter/       its adapters, where such were trained (`model/` has them merged)

Files of the chosen state are linked, not copied, where the file system can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusechat.files import write_json
from fusechat.metrics.accuracy import accuracy
from fusechat.settings import settings_key
from fusechat.stages.context import UnitContext
from fusechat.stages.evaluate_items import ItemResult, read_items
from fusechat.stages.evaluate_settings import WinRate
from fusechat.stages.select_candidates import (
    CANDIDATES,
    CHECKPOINTS,
    Candidate,
    link_model,
    list_candidates,
    listed,
)
from fusechat.stages.select_pairs import rank_held_out
from fusechat.stages.select_rules import Chosen, Values, choose_by_pairs, choose_by_tasks
from fusechat.stages.train_settings import SelectSettings
from fusechat.training.adapters import ADAPTER
from fusechat.training.models import publish

FORMAT = 1
CHOSEN = "chosen.json"


@dataclass(frozen=True)
class _Found:
    """A choice, and what each candidate (newest first) did."""

    step: int
    reason: str
    numbers: Sequence[Mapping[str, Any]]
    chosen: Chosen | None = None


def select(context: UnitContext) -> dict[str, Any]:
    """Choose among the newest states of `inputs["train/dpo"]` and publish the chosen one.

    Settings: `select` and `train`. Returns `step` (of the state that was chosen), `by`,
    `candidates` and `reason`. Raises `TrainingError` where a checkpoint is missing.
    """
    rule: SelectSettings = context.settings["select"]
    candidates = list_candidates(context.inputs["train/dpo"], context.settings["train"], rule)
    found = _alone(candidates, rule) if len(candidates) == 1 else _compared(context, candidates)
    taken = next(one for one in candidates if one.step == found.step)
    if (adapter := taken.adapter) is not None:
        publish(context.folder / ADAPTER, lambda place: _link(adapter, place), "select.adapter")
    publish(context.folder / "model", lambda place: _link(taken.folder, place), "select.model")
    write_json(context.folder / CHOSEN, _told(rule, candidates, found))
    context.progress.note(f"step {found.step}: {found.reason}")
    steps = [one.step for one in candidates]
    return {"step": found.step, "by": rule.by, "candidates": steps, "reason": found.reason}


def _link(folder: Path, place: Path) -> None:
    place.rmdir()
    link_model(folder, place)


def _alone(candidates: Sequence[Candidate], rule: SelectSettings) -> _Found:
    (only,) = candidates
    reason = "the state after the last step, by rule"
    if rule.by != "last":
        reason = (
            "the only state that there is to choose: the run saved no checkpoint before its end"
            if rule.checkpoints > 1
            else "the newest state; the rule compares one"
        )
    return _Found(only.step, reason, [{}])


def _compared(context: UnitContext, candidates: Sequence[Candidate]) -> _Found:
    rule: SelectSettings = context.settings["select"]
    steps = [one.step for one in candidates]
    context.progress.start(len(steps), "candidates")
    if rule.by == "held_out":
        ranked = rank_held_out(context, candidates)
        chosen = choose_by_pairs(steps, ranked, rule.beyond_chance)
        return _Found(chosen.step, chosen.words, [one.numbers() for one in ranked], chosen)
    results = _task_items(context, candidates)
    values = [_values(results, number) for number in range(len(steps))]
    chosen = choose_by_tasks(steps, values, rule.beyond_chance)
    numbers = [_numbers(results, number) for number in range(len(steps))]
    return _Found(chosen.step, chosen.words, numbers, chosen)


Items = Mapping[str, Sequence[Sequence[ItemResult]]]
"""Task -> the items of each candidate, newest first."""


def _task_items(context: UnitContext, candidates: Sequence[Candidate]) -> Items:
    """What each candidate did at each task; a win rate is against the newest."""
    rule: SelectSettings = context.settings["select"]
    assert [one.step for one in listed(context.inputs[CANDIDATES])] == [
        one.step for one in candidates
    ]
    names = [str(number) for number in range(1, len(candidates) + 1)]
    out = {}
    for task in rule.task:
        said = task.compared()
        win_rate = None if said is None else WinRate(against=names[0], scale=said.scale)
        found = read_items(context, task.name, names, win_rate, "select/dpo")
        out[task.name] = [found[name] for name in names]
    return out


def _values(results: Items, number: int) -> Values:
    return {
        task: {
            item.prompt_id: value
            for item in by[number]
            if (value := item.verdict.strict) is not None
        }
        for task, by in results.items()
    }


def _numbers(results: Items, number: int) -> dict[str, Any]:
    """A candidate's strict mean value at each task, and over the tasks."""
    found = {task: accuracy([item.verdict for item in by[number]]) for task, by in results.items()}
    tasks = {
        task: {"value": None if one.strict is None else one.strict.value, "expected": one.expected}
        for task, one in found.items()
    }
    known = [one["value"] for one in tasks.values() if one["value"] is not None]
    whole = len(known) == len(tasks)
    return {"tasks": tasks, "value": sum(known) / len(known) if whole and known else None}


def _told(rule: SelectSettings, candidates: Sequence[Candidate], found: _Found) -> dict[str, Any]:
    """What `chosen.json` says."""
    return {
        "format": FORMAT,
        "rule": {
            **settings_key(rule), "by": rule.by, "checkpoints": rule.checkpoints,
            "final_state": rule.final_state, "beyond_chance": rule.beyond_chance,
        },
        "candidates": [
            {"step": one.step, "checkpoint": one.folder.parent.name == CHECKPOINTS, **numbers}
            for one, numbers in zip(candidates, found.numbers, strict=True)
        ],
        "comparisons": [one.plain() for one in found.chosen.comparisons] if found.chosen else [],
        "step": found.step,
        "reason": found.reason,
    }  # fmt: skip
