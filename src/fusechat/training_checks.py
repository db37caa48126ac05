"""Faults of what preference training asks for beside its rows: sources' log-probabilities, and
what its states are chosen by."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from fusechat.parts import Part, PartSettingsError, Task, UnknownPartError
from fusechat.training_units import logp_parts

if TYPE_CHECKING:
    from fusechat.recipe import Recipe
    from fusechat.stages.evaluate_settings import EvaluateTask

Found = tuple[tuple[Any, ...], str]
DPO = ("train", "dpo")


def training_faults(recipe: Recipe) -> Iterator[Found]:
    """All of them, as (key path, message with the mend)."""
    if recipe.train.dpo is None:
        return
    yield from _source_faults(recipe)
    yield from _select_faults(recipe)


def _source_faults(recipe: Recipe) -> Iterator[Found]:
    """A loss that reads log-probabilities which nobody gives."""
    assert recipe.train.dpo is not None
    loss = recipe.train.dpo.loss
    named = getattr(loss, "sources", None) or ()
    for place, name in enumerate(named):
        if name not in recipe.sources:
            message = f"there is no source '{name}'. {_hint(name, recipe.sources)}"
            yield (*DPO, "loss", "sources", place), message
    found = logp_parts(recipe)
    reasons = {name: part for name, part in found.items() if isinstance(part, str)}
    for place, name in enumerate(named):
        if name in reasons:
            yield (*DPO, "loss", "sources", place), f"{name}: {reasons[name]}"
    if not named and loss.needs_sources and len(reasons) == len(found):
        why = " ".join(f"{name}: {reason}" for name, reason in reasons.items())
        message = (
            f"the loss '{loss.part_name()}' reads how likely the sources find each response, and "
            f"no source can tell. {why or 'There is no source besides the target.'}"
        )
        yield (*DPO, "loss"), message


def _select_faults(recipe: Recipe) -> Iterator[Found]:
    """States that are gone, pairs that are not held out, tasks that cannot be asked."""
    assert recipe.train.dpo is not None
    train, rule = recipe.train.dpo, recipe.train.dpo.select
    if rule.by == "last":
        return
    if rule.checkpoints > train.save_total_limit:
        message = (
            f"{rule.checkpoints} checkpoints are to be compared, and {train.save_total_limit} are "
            f"kept. Raise train.dpo.save_total_limit to {rule.checkpoints}, or lower this."
        )
        yield (*DPO, "select", "checkpoints"), message
    if train.engine == "trl" and train.lora is not None:
        message = (
            "TRL's checkpoints of adapters are no models, so they cannot be compared. Set select: "
            "{by: last}, or take engine: packed."
        )
        yield (*DPO, "select", "by"), message
    if rule.by == "held_out" and not train.held_out:
        message = (
            "held_out is 0, so there are no pairs to choose a checkpoint by. Set "
            "train.dpo.held_out above 0 (0.02), or select: {by: last}."
        )
        yield (*DPO, "held_out"), message
    for number, task in enumerate(rule.task):
        for key, message in _task_faults(recipe, task):
            yield (*DPO, "select", "task", number, *key), message


def _task_faults(recipe: Recipe, task: EvaluateTask) -> Iterator[Found]:
    if len(task.task.splits) > 1 and task.split not in task.task.splits:
        message = f"there is no split '{task.split}'. {_hint(task.split, task.task.splits)}"
        yield ("split",), message
    for place, reported in enumerate(recipe.evaluate.tasks if recipe.evaluate else ()):
        if reported.split == task.split and _same_set(reported.task, task.task):
            message = (
                f"evaluate.tasks.{place} reports these very prompts, and a model that was chosen "
                f"on them looks better there than it is. Choose on another split than "
                f"'{task.split}'."
            )
            yield ("split",), message
    yield from (((key,), message) for key, message in task.task.faults())
    if task.graded_by is None and task.task.graded_by() is None:
        message = "the task does not say how it is graded. Add 'graded_by: {use: ...}'."
        yield ("graded_by",), message
        return
    try:
        yield from ((("graded_by",), f"{key}: {m}") for key, m in task.grader().faults())
    except (UnknownPartError, PartSettingsError) as error:
        yield ("graded_by",), str(error)


def _same_set(one: Task, other: Task) -> bool:
    """Whether two tasks read the same prompts, as far as their settings tell: numbers say how many
    are read, texts which."""
    return type(one) is type(other) and _texts(one) == _texts(other)


def _texts(part: Part) -> dict[str, Any]:
    values = {name: getattr(part, name) for name in type(part).model_fields}
    return {name: value for name, value in values.items() if isinstance(value, str)}


def _hint(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(sorted(known))}."
