"""Faults of a recipe's `evaluate`: models that nobody has, tasks that nothing grades."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fusechat.on_policy_units import model_of, own_names
from fusechat.parts import PartSettingsError, UnknownPartError, load_part
from fusechat.recipe_hints import hint
from fusechat.tasks._benchmark import Benchmark, JudgedBenchmark

if TYPE_CHECKING:
    from fusechat.parts import Task
    from fusechat.recipe import Recipe
    from fusechat.stages.evaluate_settings import EvaluateTask

Found = tuple[tuple[Any, ...], str]


def evaluate_faults(recipe: Recipe) -> Iterator[Found]:
    if recipe.evaluate is None:
        return
    known = [*(["target"] if recipe.target else []), *recipe.sources]
    known += [f"train.{stage}" for stage in ("sft", "dpo") if getattr(recipe.train, stage)]
    own = own_names(recipe)
    named = () if recipe.evaluate.own_models() else recipe.evaluate.model_names() or ()
    for index, name in enumerate(named):
        if name not in known:
            yield ("evaluate", "models", index), f"there is no model '{name}'. {hint(name, known)}"
        elif name in own:
            message = f"'{name}' is the model '{model_of(recipe.sources[name])}'. Name that one."
            yield ("evaluate", "models", index), message
        elif name in recipe.sources and not hasattr(recipe.sources[name].part, "temperature"):
            message = f"'{name}' cannot answer new prompts: it is no sampled model. Remove it."
            yield ("evaluate", "models", index), message
    yield from _own_model_faults(recipe)
    yield from _serve_faults(recipe)
    if not (recipe.evaluate.models or _can_answer(recipe)):
        message = "no model can be evaluated. Add a target, a training stage or an 'hf' source."
        yield ("evaluate",), message
    for index, task in enumerate(recipe.evaluate.tasks):
        splits = task.task.splits
        if len(splits) > 1 and task.split not in splits:
            message = f"there is no split '{task.split}'. {hint(task.split, splits)}"
            yield ("evaluate", "tasks", index, "split"), message
        for key, message in () if task.graded_by is not None else _grader_faults(task.task):
            yield ("evaluate", "tasks", index, key), message
        for where, message in _win_rate_faults(recipe, task):
            yield ("evaluate", "tasks", index, *where), message
    yield from _benchmark_faults(recipe)


def _serve_faults(recipe: Recipe) -> Iterator[Found]:
    """What runs the recipe's own models."""
    assert recipe.evaluate is not None
    said = recipe.evaluate.serve_with
    if said is None:
        return
    if "model" in said:
        yield ("evaluate", "serve_with", "model"), "each model is put in here. Remove 'model'."
    elif "use" not in said:
        yield ("evaluate", "serve_with"), "say which source: 'serve_with: {use: vllm}'."
    elif recipe.target is not None:
        settings = {**said, "model": recipe.target.model}
        for key, message in _said_faults(settings, "serve_with", "sources"):
            yield ("evaluate", key), message


def _own_model_faults(recipe: Recipe) -> Iterator[Found]:
    """Models that stand under `evaluate.models` themselves."""
    assert recipe.evaluate is not None
    for name, part in recipe.evaluate.own_models().items():
        if not hasattr(part, "temperature") and part.part_name() != "given":
            message = "this source cannot answer new prompts. Use hf, vllm or endpoint."
            yield ("evaluate", "models", name, "use"), message
        if name in ("judge", "prompts", "compare"):
            yield ("evaluate", "models", name), f"'{name}' has a meaning here. Choose another name."


def _benchmark_faults(recipe: Recipe) -> Iterator[Found]:
    """Judges of benchmarks that are not there, or that nobody judges."""
    assert recipe.evaluate is not None
    judged = [t.name for t in recipe.evaluate.benchmarks if isinstance(t.task, JudgedBenchmark)]
    for name in recipe.evaluate.judges:
        if name not in judged:
            message = f"no judged benchmark is called '{name}'. {hint(name, judged)}"
            yield ("evaluate", "judges", name), message
    for index, task in enumerate(recipe.evaluate.benchmarks):
        if task.graded_by is not None or task.win_rate is not None:
            key = "graded_by" if task.graded_by is not None else "win_rate"
            message = f"a benchmark is graded as its publisher says. Remove '{key}'."
            yield ("evaluate", "benchmarks", index, key), message
        if isinstance(task.task, Benchmark) and not isinstance(task.task, JudgedBenchmark):
            for settings in task.task.graders().values():
                for key, message in _said_faults(settings, "use"):
                    yield ("evaluate", "benchmarks", index, key), message


def evaluated_models(recipe: Recipe) -> tuple[str, ...]:
    """The models that are evaluated: those named, else all that can answer new prompts."""
    assert recipe.evaluate is not None
    if (named := recipe.evaluate.model_names()) is not None:
        return named
    trained = [f"train.{s}" for s in ("sft", "dpo") if getattr(recipe.train, s) is not None]
    own = own_names(recipe)
    sources = [
        name
        for name, entry in recipe.sources.items()
        if hasattr(entry.part, "temperature") and name not in own
    ]
    return (*(["target"] if recipe.target else []), *trained, *sources)


def _can_answer(recipe: Recipe) -> bool:
    """Whether there is any model that can be asked the prompts of a task."""
    own = [recipe.target, recipe.train.sft, recipe.train.dpo]
    return any(own) or any(hasattr(e.part, "temperature") for e in recipe.sources.values())


def _grader_faults(task: Task) -> Iterator[tuple[str, str]]:
    """What is wrong with how a task says that it is graded."""
    said = task.graded_by()
    if said is None:
        yield "graded_by", "the task does not say how it is graded. Add 'graded_by: {use: ...}'."
        return
    key = "grade" if hasattr(task, "grade") else "use"
    if "use" not in said:
        yield key, "say which annotator grades it: 'grade: {use: ...}'."
        return
    yield from _said_faults(said, key)


def _said_faults(
    said: dict[str, Any], key: str, family: str = "annotators"
) -> Iterator[tuple[str, str]]:
    try:
        for setting, message in load_part(family, said).faults():
            yield key, f"{setting}: {message}"
    except (UnknownPartError, PartSettingsError) as error:
        yield key, str(error)


def _win_rate_faults(recipe: Recipe, task: EvaluateTask) -> Iterator[Found]:
    """A comparison with a model that does not answer, or that the task says wrongly."""
    try:
        found = task.compared()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        message = f"the task's own compared() is wrong at '{place}': {first['msg']}. Mend it."
        yield ("use",), message
        return
    models = evaluated_models(recipe)
    if found is not None and found.against not in models:
        key = ("win_rate", "against") if "win_rate" in task.model_fields_set else ("use",)
        message = f"the evaluation has no model '{found.against}' to hold the others against."
        yield key, f"{message} {hint(found.against, models)}"
