"""Faults between the entries of a recipe: names that nobody has, rows that nobody makes."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fusechat.local_models import model_faults
from fusechat.on_policy_checks import on_policy_rule_faults, on_policy_source_faults
from fusechat.on_policy_units import model_of, own_names
from fusechat.parts import PartSettingsError, UnknownPartError, load_part, package_fault
from fusechat.settings import model_fault
from fusechat.stages.build_settings import EMITS, BuildSettings
from fusechat.stages.decontaminate import benchmark_faults
from fusechat.stages.train_plan import engine_faults
from fusechat.training.trackers import tracker_faults
from fusechat.training_checks import training_faults

if TYPE_CHECKING:
    from fusechat.parts import Loss, Task
    from fusechat.recipe import Recipe
    from fusechat.stages.evaluate_settings import EvaluateTask

Found = tuple[tuple[Any, ...], str]
TRAINED = ("train.sft", "train.dpo")


def cross_faults(recipe: Recipe) -> Iterator[Found]:
    """All faults between entries, as (key path, message with the mend)."""
    domains = _domains(recipe)
    yield from _prompt_faults(recipe)
    yield from _sample_faults(recipe, domains)
    yield from on_policy_source_faults(recipe)
    yield from _describe_faults(recipe)
    yield from _decontaminate_faults(recipe)
    yield from _annotator_faults(recipe, domains)
    yield from _build_faults(recipe, domains)
    yield from _train_faults(recipe)
    yield from training_faults(recipe)
    yield from _evaluate_faults(recipe)


def _domains(recipe: Recipe) -> set[str]:
    return {d for entry in recipe.prompts.values() if (d := entry.wanted_domain())}


def _prompt_faults(recipe: Recipe) -> Iterator[Found]:
    for name, entry in recipe.prompts.items():
        if not entry.wanted_domain():
            message = "say which domain these prompts have, such as 'domain: math'."
            yield ("prompts", name, "domain"), message
        splits = entry.part.splits
        if entry.split is not None and len(splits) > 1 and entry.split not in splits:
            message = f"there is no split '{entry.split}'. {_hint(entry.split, splits)}"
            yield ("prompts", name, "split"), message


def _sample_faults(recipe: Recipe, domains: set[str]) -> Iterator[Found]:
    for name, entry in recipe.sources.items():
        for domain in entry.samples if isinstance(entry.samples, dict) else ():
            if domain not in domains:
                message = f"no prompts have the domain '{domain}'. {_hint(domain, domains)}"
                yield ("sources", name, "samples", domain), message
        seeds = getattr(entry.part, "seeds", None)
        counts = entry.samples.values() if isinstance(entry.samples, dict) else [entry.samples]
        most = max((count for count in counts if count is not None), default=1)
        if seeds and most > len(seeds):
            message = f"{most} samples need {most} seeds; {len(seeds)} are listed. Add seeds."
            yield ("sources", name, "seeds"), message
        if name in (*TRAINED, "target"):
            message = f"'{name}' names a model of this recipe's own. Give the source another name."
            yield ("sources", name), message
    for domain in sorted(domains):
        if not any(entry.wants(domain) for entry in recipe.sources.values()):
            message = f"no source samples the domain '{domain}'. Add it to a source's samples."
            yield ("sources",), message


def _describe_faults(recipe: Recipe) -> Iterator[Found]:
    """A target's tokens are counted with its tokenizer, which needs its package."""
    counted = recipe.describe is not None and recipe.target is not None
    if counted and (fault := package_fault("transformers", "local")):
        yield ("describe",), fault


def _decontaminate_faults(recipe: Recipe) -> Iterator[Found]:
    settings = recipe.decontaminate
    if settings is None:
        return
    for key, message in benchmark_faults(settings):
        yield ("decontaminate", *key), message
    if not settings.against and not (settings.evaluation and recipe.evaluate):
        message = "name benchmarks under 'against'; there is no evaluation whose tests to look for."
        yield ("decontaminate",), message


def _annotator_faults(recipe: Recipe, domains: set[str]) -> Iterator[Found]:
    for name, entry in recipe.annotators.items():
        for domain in entry.domains or ():
            if domain not in domains:
                message = f"no prompts have the domain '{domain}'. {_hint(domain, domains)}"
                yield ("annotators", name, "domains"), message


def _build_faults(recipe: Recipe, domains: set[str]) -> Iterator[Found]:
    if recipe.build is None:
        return
    annotators = {name: entry.domains for name, entry in recipe.annotators.items()}
    sources = {
        name: list(entry.samples) if isinstance(entry.samples, dict) else None
        for name, entry in recipe.sources.items()
    }
    found = (*recipe.build.faults(annotators, sources, domains), *on_policy_rule_faults(recipe))
    for key, message in found:
        yield ("build", *_steps(key, {*domains, *recipe.build.domains})), message


def _steps(key: str, domains: Collection[str]) -> tuple[str, ...]:
    """The steps of a dotted key below `build`; a domain may have dots in its name."""
    for domain in sorted(domains, key=len, reverse=True):
        if key == domain:
            return (domain,)
        if key.startswith(f"{domain}."):
            return (domain, *key.removeprefix(f"{domain}.").split("."))
    return tuple(key.split("."))


def _train_faults(recipe: Recipe) -> Iterator[Found]:
    for stage in ("sft", "dpo"):
        if getattr(recipe.train, stage) is None:
            continue
        for package, extra in (
            ("torch", "train"),
            ("transformers", "train"),
            ("accelerate", "train"),
        ):
            if fault := package_fault(package, extra):
                yield ("train", stage), fault
        if recipe.target is None:
            yield ("train", stage), "there is no target to train. Add 'target: {model: ...}'."
        if recipe.build is None or not recipe.build.emits(stage):
            message = (
                f"no build rule makes {stage.upper()} rows. Add one under build, or remove this."
            )
            yield ("train", stage), message
        else:
            yield from _loss_faults(recipe.build, stage, getattr(recipe.train, stage).loss)
        for key, message in engine_faults(getattr(recipe.train, stage)):
            yield ("train", stage, *key.split(".")), message
        for message in tracker_faults(getattr(recipe.train, stage).report_to):
            yield ("train", stage, "report_to"), message
    if recipe.target is not None:
        for fault in _target_faults(recipe.target.model):
            yield ("target", "model"), fault


def _loss_faults(build: BuildSettings, stage: str, loss: Loss) -> Iterator[Found]:
    """A loss that learns from other rows than the rules make."""
    types = build.row_types(stage)
    if len({*types.values()}) != 1:
        return  # told with the rules
    domain, kind = next(iter(types.items()))
    if kind != loss.consumes and kind in EMITS[stage]:
        fit = "wrpo" if kind == "Triple" else "dpo"
        message = (
            f"'{loss.part_name()}' learns from {loss.consumes} rows, but "
            f"build.{domain}.{stage} makes {kind} rows. Use a loss for those, such as "
            f"'{fit}', or another strategy there."
        )
        yield ("train", stage, "loss"), message


def _target_faults(model: str) -> Iterator[str]:
    if fault := model_fault(model):
        yield fault
    elif not Path(model).exists():
        yield f"there is nothing at {model}. Give a model folder relative to the recipe."
    else:
        yield from model_faults(model, "chat")


def _evaluate_faults(recipe: Recipe) -> Iterator[Found]:
    if recipe.evaluate is None:
        return
    known = [*(["target"] if recipe.target else []), *recipe.sources]
    known += [f"train.{stage}" for stage in ("sft", "dpo") if getattr(recipe.train, stage)]
    own = own_names(recipe)
    for index, name in enumerate(recipe.evaluate.models or ()):
        if name not in known:
            yield ("evaluate", "models", index), f"there is no model '{name}'. {_hint(name, known)}"
        elif name in own:
            message = f"'{name}' is the model '{model_of(recipe.sources[name])}'. Name that one."
            yield ("evaluate", "models", index), message
        elif name in recipe.sources and not hasattr(recipe.sources[name].part, "temperature"):
            message = f"'{name}' cannot answer new prompts: it is no sampled model. Remove it."
            yield ("evaluate", "models", index), message
    if not (recipe.evaluate.models or _can_answer(recipe)):
        message = "no model can be evaluated. Add a target, a training stage or an 'hf' source."
        yield ("evaluate",), message
    for index, task in enumerate(recipe.evaluate.tasks):
        splits = task.task.splits
        if len(splits) > 1 and task.split not in splits:
            message = f"there is no split '{task.split}'. {_hint(task.split, splits)}"
            yield ("evaluate", "tasks", index, "split"), message
        for key, message in () if task.graded_by is not None else _grader_faults(task.task):
            yield ("evaluate", "tasks", index, key), message
        for where, message in _win_rate_faults(recipe, task):
            yield ("evaluate", "tasks", index, *where), message


def evaluated_models(recipe: Recipe) -> tuple[str, ...]:
    """The models that are evaluated: those named, else all that can answer new prompts."""
    assert recipe.evaluate is not None
    if recipe.evaluate.models is not None:
        return recipe.evaluate.models
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
    try:
        for setting, message in load_part("annotators", said).faults():
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
        yield key, f"{message} {_hint(found.against, models)}"


def _hint(name: str, known: Collection[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"There are: {', '.join(sorted(known))}." if known else "There are none."
