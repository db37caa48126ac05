"""Faults between the entries of a recipe: names that nobody has, rows that nobody makes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat.evaluate_checks import evaluate_faults
from fusechat.local_models import model_faults
from fusechat.on_policy_checks import on_policy_rule_faults, on_policy_source_faults
from fusechat.parts import package_fault
from fusechat.recipe_hints import hint
from fusechat.settings import model_fault
from fusechat.stages.build_settings import EMITS, BuildSettings
from fusechat.stages.decontaminate import benchmark_faults
from fusechat.stages.train_plan import engine_faults
from fusechat.training.trackers import tracker_faults
from fusechat.training_checks import training_faults

if TYPE_CHECKING:
    from fusechat.parts import Loss
    from fusechat.recipe import Recipe

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
    yield from evaluate_faults(recipe)


def _domains(recipe: Recipe) -> set[str]:
    return {d for entry in recipe.prompts.values() if (d := entry.wanted_domain())}


def _prompt_faults(recipe: Recipe) -> Iterator[Found]:
    for name, entry in recipe.prompts.items():
        if not entry.wanted_domain():
            message = "say which domain these prompts have, such as 'domain: math'."
            yield ("prompts", name, "domain"), message
        splits = entry.part.splits
        if entry.split is not None and len(splits) > 1 and entry.split not in splits:
            message = f"there is no split '{entry.split}'. {hint(entry.split, splits)}"
            yield ("prompts", name, "split"), message


def _sample_faults(recipe: Recipe, domains: set[str]) -> Iterator[Found]:
    for name, entry in recipe.sources.items():
        for domain in entry.samples if isinstance(entry.samples, dict) else ():
            if domain not in domains:
                message = f"no prompts have the domain '{domain}'. {hint(domain, domains)}"
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
                message = f"no prompts have the domain '{domain}'. {hint(domain, domains)}"
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
