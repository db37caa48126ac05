"""Units around preference training: what sources say of its rows, and which state is chosen.

source_logps/<source>                    data/       (SourceLogp), for losses that read them
select/dpo/candidates                    model/      the states to choose from, newest first
select/dpo/<task>/prompts                prompts/    with `by: task`
select/dpo/<task>/<n>/sample, annotate   data/       of the n-th newest state
select/dpo                               model/      what `train.dpo` means
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fusechat.on_policy_units import own_names, ready_sources
from fusechat.parts import RowPart, load_part
from fusechat.settings import TRAINED_BY
from fusechat.stages.entries import AnnotatorEntry, LogpsEntry, PromptsEntry, SourceEntry
from fusechat.stages.evaluate_settings import EvaluateSettings
from fusechat.stages.select_candidates import CANDIDATES, placeholder
from fusechat.stages.train_settings import DpoSettings, SelectTask

if TYPE_CHECKING:
    from fusechat.planner import Entry
    from fusechat.recipe import Recipe

SELECT = TRAINED_BY["train.dpo"]


def unit_of(model: str) -> str | None:
    """The unit whose `model/` a name of a model means (`train.dpo`); None of any other name."""
    return TRAINED_BY.get(model)


def logp_parts(recipe: Recipe) -> dict[str, RowPart | str]:
    """Source -> what tells its log-probabilities, or why nothing can, of those that the loss asks
    for; empty where it asks for none. The target itself is one only where it is named: it is the
    reference."""
    train = recipe.train.dpo
    if train is None or not train.loss.needs_sources:
        return {}
    own = own_names(recipe)
    others = tuple(name for name in recipe.sources if name not in own)
    asked = getattr(train.loss, "sources", None) or others
    known = {**recipe.sources, **ready_sources(recipe)}
    return {name: known[name].part.logps() for name in asked if name in known}


def logp_entries(recipe: Recipe, trained_on: tuple[str, ...]) -> Iterator[Entry]:
    """The units that ask the sources about the responses that `train/dpo` has; `trained_on`: its
    other inputs."""
    builds = tuple(name for name in trained_on if name.split("/")[0] == "build")
    for name, part in logp_parts(recipe).items():
        if isinstance(part, str):
            continue
        model = unit_of(str(getattr(part, "model", "")))
        # What was kept with its own responses is read there; a model needs no more than itself.
        others = (f"sample/{name}",) if not part.on_device else (model,) if model else ()
        yield f"source_logps/{name}", "source_logps", LogpsEntry(part=part), (*builds, *others)


def select_entries(recipe: Recipe, trained_on: tuple[str, ...]) -> Iterator[Entry]:
    """The units that choose among the states of `train/dpo`; `trained_on`: its inputs."""
    train = recipe.train.dpo
    assert train is not None
    settings: dict[str, Any] = {"select": train.select}
    inputs: tuple[str, ...] = ("train/dpo",)
    if train.select.by == "held_out":
        after = recipe.train.sft is not None
        settings["model"] = None if after else recipe.target
        inputs += trained_on
    elif train.select.by == "task":
        yield CANDIDATES, "candidates", {"select": train.select, "train": train}, inputs
        for task in train.select.task:
            for entry in _task_entries(recipe, train, task):
                inputs += (entry[0],)
                yield entry
        inputs += (CANDIDATES,)
    yield SELECT, "select", settings | {"train": train}, inputs


def _task_entries(recipe: Recipe, train: DpoSettings, task: SelectTask) -> Iterator[Entry]:
    """One task: its prompts, and each candidate's responses with their scores."""
    top = f"{SELECT}/{task.name}"
    prompts = PromptsEntry(part=task.task, split=task.split, take=task.take, domain=task.domain)
    yield f"{top}/prompts", "prompts", {task.name: prompts}, ()
    annotator = AnnotatorEntry(part=task.grader())
    for number in range(1, train.select.checkpoints + 1):
        entry = SourceEntry(part=_answering(recipe, number, task), samples=1)
        yield f"{top}/{number}/sample", "sample", entry, (f"{top}/prompts", CANDIDATES)
        inputs = (f"{top}/prompts", f"{top}/{number}/sample")
        yield f"{top}/{number}/annotate", "annotate", annotator, inputs


def _answering(recipe: Recipe, number: int, task: SelectTask) -> Any:
    """The source part with which a candidate answers a task: sampled as the evaluation is."""
    evaluation = recipe.evaluate or EvaluateSettings.model_construct(tasks=())
    settings = {"use": "hf", "model": placeholder(number), "dtype": evaluation.dtype}
    return load_part("sources", settings | evaluation.sampling(task))
