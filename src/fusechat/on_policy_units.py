"""Sources that the recipe trains itself: what they answer, who judges it, what is built of it.

sample/<source>                    data/       of a source with `model: train.sft`; after train/sft
annotate/<annotator>@<source>      data/       of each annotator that judges any of its domains
build/on_policy                    dpo/        of the prompts that `build` reserved (see
                                   dropped/    `stages/on_policy.py`)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fusechat.settings import TRAINED_BY
from fusechat.stages.entries import AnnotatorEntry, SourceEntry
from fusechat.stages.on_policy import after, waiting

if TYPE_CHECKING:
    from fusechat.planner import Entry
    from fusechat.recipe import Recipe

BUILD = "build/on_policy"
TARGET = "target"


def model_of(entry: SourceEntry) -> str:
    """The model that a source names; empty where it names none."""
    return str(getattr(entry.part, "model", ""))


def trained_names(recipe: Recipe) -> tuple[str, ...]:
    """The sources whose model this recipe trains."""
    return tuple(n for n, entry in recipe.sources.items() if model_of(entry) in TRAINED_BY)


def own_names(recipe: Recipe) -> tuple[str, ...]:
    """The sources that are the target itself, trained or not."""
    own = (*TRAINED_BY, TARGET)
    return tuple(n for n, entry in recipe.sources.items() if model_of(entry) in own)


def ready_sources(recipe: Recipe) -> dict[str, SourceEntry]:
    """The sources that need no training; `model: target` is the target's folder."""
    trained = trained_names(recipe)
    return {
        name: _of_target(recipe, entry)
        for name, entry in recipe.sources.items()
        if name not in trained
    }


def _of_target(recipe: Recipe, entry: SourceEntry) -> SourceEntry:
    if model_of(entry) != TARGET or recipe.target is None:
        return entry
    part = entry.part.model_copy(update={"model": recipe.target.model})
    return entry.model_copy(update={"part": part})


def waiting_sources(recipe: Recipe) -> dict[str, SourceEntry]:
    """The trained sources that any rule asks for, with the domains alone whose rules do.

    Only the model after SFT can be one: all that DPO reads comes before `train.dpo`.
    """
    rules = waiting(recipe.build, trained_names(recipe)) if recipe.build is not None else {}
    found = {}
    for name, entry in recipe.sources.items():
        domains = [domain for domain, asked in rules.items() if name in asked]
        if domains and model_of(entry) == "train.sft" and recipe.train.sft is not None:
            samples = {d: entry.samples_for(d) or 1 for d in domains if entry.wants(d)}
            found[name] = entry.model_copy(update={"samples": samples})
    return found


def judged_by(
    recipe: Recipe, annotator: AnnotatorEntry, sources: Mapping[str, SourceEntry]
) -> tuple[str, ...]:
    """The units of those sources that have any domain that an annotator judges."""
    domains = {entry.wanted_domain() or "" for entry in recipe.prompts.values()}
    judged = [domain for domain in domains if annotator.judges(domain)]
    return tuple(
        f"sample/{name}"
        for name, source in sources.items()
        if any(source.wants(domain) for domain in judged)
    )


def on_policy_entries(recipe: Recipe) -> Iterator[Entry]:
    """The units between the SFT training and the rows that it is needed for."""
    own = waiting_sources(recipe)
    if recipe.build is None or not own:
        return
    scores = [f"annotate/{name}" for name in recipe.annotators]
    for name, entry in own.items():
        needed = ("prompts", "build", TRAINED_BY[model_of(entry)])
        yield f"sample/{name}", "sample", entry, needed
        for judge, annotator in recipe.annotators.items():
            if judged := judged_by(recipe, annotator, {name: entry}):
                scores.append(f"annotate/{judge}@{name}")
                yield scores[-1], "annotate", annotator, ("prompts", *judged)
    ready = ready_sources(recipe)
    samples = [f"sample/{name}" for name in recipe.sources if name in ready or name in own]
    ledger = ("decontaminate",) if recipe.decontaminate is not None else ()
    settings: Any = after(recipe.build, tuple(ready), trained_names(recipe))
    yield BUILD, "build_on_policy", settings, ("prompts", "build", *samples, *scores, *ledger)
