"""Faults of sources that are the target itself: what they cannot be, and rows that need
themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fusechat.on_policy_units import TARGET, model_of, own_names, trained_names
from fusechat.settings import CONTENT, TRAINED_BY, names_content
from fusechat.stages.on_policy import rule_faults, waiting

if TYPE_CHECKING:
    from fusechat.recipe import Recipe
    from fusechat.stages.build_settings import DomainRule
    from fusechat.stages.entries import SourceEntry

CHOSEN = ("select/dpo", "train/dpo")
"""Units between the rows of the preference training and the model `train.dpo`."""


def on_policy_source_faults(recipe: Recipe) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Sources of models that are not trained, that nobody asks, or that cannot load them."""
    asked = _asked(recipe)
    for name in own_names(recipe):
        entry, model = recipe.sources[name], model_of(recipe.sources[name])
        place = ("sources", name, "model")
        if not _loads_models(entry):
            yield (
                place,
                f"'{entry.part.part_name()}' takes the name of a model that others serve, and "
                f"'{model}' is this recipe's own. Use hf or vllm.",
            )
        stage = model.removeprefix("train.")
        if model == TARGET:
            if recipe.target is None:
                yield place, "there is no target. Add 'target: {model: ...}'."
        elif getattr(recipe.train, stage) is None:
            yield place, f"there is no training '{stage}'. Add it under train, or use 'target'."
        elif name not in asked:
            yield (
                ("sources", name),
                "no build rule asks for this trained source, so it would answer nothing. Name it "
                f"in a rule: 'sources: {{dpo: [{name}]}}', or as 'target' of source_over_target.",
            )


def _asked(recipe: Recipe) -> set[str]:
    rules = recipe.build.domains.values() if recipe.build is not None else ()
    trained = trained_names(recipe)
    return {n for rule in rules for t in ("sft", "dpo") for n in rule.asks_for(t, trained)}


def _loads_models(entry: SourceEntry) -> bool:
    """Whether `model` of a source is a model that it loads, so that it can be a folder."""
    info = type(entry.part).model_fields["model"]
    return CONTENT in info.metadata or names_content(info.annotation)


def on_policy_rule_faults(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Rules whose rows need themselves, or ask what cannot be, as (dotted key below `build`,
    message with the mend)."""
    assert recipe.build is not None
    trained, own = trained_names(recipe), own_names(recipe)
    yield from rule_faults(recipe.build, trained)
    two = bool(waiting(recipe.build, trained))
    for domain, rule in recipe.build.domains.items():
        for table in ("sft", "dpo"):
            for name in rule.asks_for(table, trained):
                model = model_of(recipe.sources[name])
                if path := _cycle(table, name, model, two):
                    mend = _mend(table, name, model)
                    yield f"{domain}.{_key(rule, table)}", f"needs itself: {path}. {mend}"
        for name in rule.strategies()["dpo"].named_sources() if "dpo" in rule.strategies() else ():
            yield from (
                (f"{domain}.{key}", m) for key, m in _target_faults(recipe, rule, name, own)
            )


def _cycle(table: str, source: str, model: str, in_two: bool) -> str:
    """The path from a build back to itself; empty where there is none.

    `in_two`: whether the rows of some domain wait for a trained source.
    """
    unit = "build/on_policy" if table == "dpo" and in_two else "build"
    needed: dict[str, tuple[str, ...]] = {"sft": (TRAINED_BY["train.sft"],), "dpo": ()}
    between = needed[table] if model == "train.sft" else CHOSEN
    return " -> ".join((unit, f"sample/{source}", *between, unit)) if between else ""


def _mend(table: str, name: str, model: str) -> str:
    if model != "train.sft":
        return f"All rows are made before {model}; use 'model: train.sft'."
    return f"Name it for DPO alone: 'sources: {{dpo: [{name}]}}'."


def _key(rule: DomainRule, table: str) -> str:
    if rule.sources is None:
        return f"{table}.target"
    return f"sources.{table}" if isinstance(rule.sources, dict) else "sources"


def _target_faults(
    recipe: Recipe, rule: DomainRule, name: str, own: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """A strategy's `target` that is no model of the recipe's own, or that has nobody beside it."""
    if name not in recipe.sources:
        return  # told already
    if name not in own and recipe.sources[name].part.part_name() != "given":
        yield (
            "dpo.target",
            f"the source '{name}' is another model. Name one with 'model: train.sft' or "
            "'model: target', or stored responses of the target ('use: given').",
        )
    beside = set(rule.sources_of("dpo") or recipe.sources) - {name}
    if not beside:
        yield "dpo.target", f"there is no other source beside '{name}'. Name one in sources."
