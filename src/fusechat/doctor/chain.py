"""The whole chain of a recipe, looked over: every model by itself, then what they do together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fusechat import chat
from fusechat.doctor import dates, licensing, room, sampling, templates, tokens
from fusechat.doctor.benchmarks import of_benchmarks
from fusechat.doctor.findings import COULD_NOT_LOOK, Examination, Finding, ModelRow, ordered
from fusechat.doctor.models import Looked, Seat, look, seats
from fusechat.doctor.probe import probed
from fusechat.doctor.prompts import asked, measure, read_prompts, with_system
from fusechat.forecast.training import training_plans
from fusechat.planner import Plan
from fusechat.planner import plan as make_plan
from fusechat.recipe import Cluster, Recipe
from fusechat.records import Prompt
from fusechat.settings import HUB_NAME, TRAINED_BY

JUDGE_CHECKS = (templates.control_tokens, templates.layout, templates.bos)
"""Of `templates.CHECKS` those that a reward model's template can fail."""


def examine(
    recipe: Recipe,
    workspace: str | Path = "workspace",
    *,
    cluster: Cluster | None = None,
    probe: bool = False,
) -> Examination:
    """Look over the whole chain; reads files (tokenizers, configurations, finished prompts).

    `probe`: also ask every server of the recipe some short questions. No model is loaded.
    """
    planned = make_plan(recipe, workspace)
    prompts = read_prompts(planned)
    looked = [look(seat) for seat in seats(recipe)]
    target = next((one for one in looked if one.seat.role == "target"), None)
    found: list[Finding] = []
    for one in looked:
        own = None if one.seat.evaluated else prompts
        found += (finding.at(one.seat.place) for finding in _of_model(one, recipe, own))
    if target is not None:
        found += _of_training(target, planned, prompts)
        found += _of_memory(planned, cluster or Cluster())
    if target is not None and target.tokenizer is not None:
        stages = partial(_of_stages, looked=looked, planned=planned)
        found += (one.at("target") for one in _guarded(stages, target))
    found += _of_evaluation(looked, planned)
    found += of_benchmarks(looked, planned)
    found += _of_licences([one for one in looked if not one.seat.evaluated], target)
    found += probed(recipe, cluster or Cluster(), probe)
    if prompts is None and recipe.prompts:
        found.append(_unread())
    rows = tuple(_row(one) for one in looked)
    return Examination(recipe.name, rows, ordered(found))


def _unread() -> Finding:
    what = "could not look at the prompts: they are not read yet, so nothing was measured on them."
    mend = "Run `fusechat run RECIPE --only prompts` and look again."
    return Finding("note", COULD_NOT_LOOK, what, mend, "prompts")


def _of_model(one: Looked, recipe: Recipe, prompts: Sequence[Prompt] | None) -> Iterator[Finding]:
    """What is found on one model, wherever it sits."""
    if one.tokenizer is None:
        if one.broken:
            yield Finding("fault", "model-unusable", one.why_not)
        else:
            yield Finding("note", COULD_NOT_LOOK, f"could not look: {one.why_not}.", _fetch(one))
        return
    judge = one.seat.role == "judge"
    for check in JUDGE_CHECKS if judge else templates.CHECKS:
        yield from _guarded(check, one.tokenizer)
    told = one.seat.template_arguments
    yield from _guarded(lambda it: dates.dates(it, one.seat.served, told), one.tokenizer)
    yield from _guarded(lambda _: _of_system(one, prompts), one.tokenizer)
    yield from _guarded(lambda it: tokens.vocabulary(it, one.config), one.tokenizer)
    yield from _of_room(one, recipe, prompts)
    if judge:
        return
    served = one.seat.served
    yield from _guarded(
        lambda tokenizer: tokens.stops(tokenizer, one.config, one.generation, served), one.tokenizer
    )
    trained = one.seat.role == "target"
    yield from _guarded(lambda it: tokens.padding(it, trained), one.tokenizer)
    if one.seat.part is not None:
        yield from sampling.own_settings(one.seat.part, one.generation, served)
        yield from sampling.greedy(one.seat.part, _most_samples(one.seat))
        yield from sampling.number_format(one.seat.part, one.config)


def _fetch(one: Looked) -> str:
    """How to make a model visible; its weights are not needed for one that is served."""
    if not HUB_NAME.fullmatch(one.seat.name):
        return ""
    if one.seat.served:
        return (
            "Fetch its small files to have its template looked at: hf download "
            f"{one.seat.name} --include 'tokenizer*' '*.json' '*.jinja'."
        )
    return f"Fetch it: hf download {one.seat.name}."


def _guarded(check: Callable[[Any], Iterator[Finding]], patient: Any) -> Iterator[Finding]:
    """A check's findings; a template that refuses an ordinary conversation is one, too."""
    try:
        yield from list(check(patient))
    except chat.ChatTemplateError as error:
        yield Finding("fault", "template-refuses", str(error), "Use the model's own template.")


def _of_system(one: Looked, prompts: Sequence[Prompt] | None) -> Iterator[Finding]:
    """What the template does with system messages, held against the prompts that have some."""
    role = templates.system_role(one.tokenizer)
    wanted = None if prompts is None else with_system(asked(prompts, one.seat.entry))
    if role == "accepted" or wanted == 0:
        return
    does = {
        "refused": "refuses system messages",
        "dropped": "leaves system messages out without a word",
        "merged": "writes a system message into the user's turn",
    }[role]
    level = "note" if role == "merged" or (wanted is None and role == "refused") else "warning"
    if wanted is not None and role != "merged":
        level = "fault"
    many = "" if wanted is None else f"; {wanted} prompts have one"
    mend = "" if role == "merged" else "Put system texts at the head of the user's turn."
    yield Finding(level, f"system-{role}", f"the template {does}{many}.", mend)  # type: ignore[arg-type]


def _of_room(one: Looked, recipe: Recipe, prompts: Sequence[Prompt] | None) -> Iterator[Finding]:
    """Whether prompts and answers fit into the model's context."""
    if one.seat.role == "target" or one.seat.evaluated:
        return  # what it is asked is told with each stage, and each benchmark
    measured = None if prompts is None else measure(one, asked(prompts, one.seat.entry))
    if one.seat.role == "judge":
        yield from room.judging_room(one.context, longest_answer(recipe), measured)
        return
    most = getattr(one.seat.part, "max_new_tokens", None)
    yield from room.sampling_room(one.context, most, measured, recipe.max_error_share)


def longest_answer(recipe: Recipe) -> int | None:
    """Most tokens of an answer of any source; None where no source has a limit."""
    limits = [getattr(entry.part, "max_new_tokens", None) for entry in recipe.sources.values()]
    return max((limit for limit in limits if limit is not None), default=None)


def _most_samples(seat: Seat) -> int | None:
    samples = seat.entry.samples if seat.entry is not None else None
    return max(samples.values(), default=None) if isinstance(samples, dict) else samples


def _of_training(
    target: Looked, planned: Plan, prompts: Sequence[Prompt] | None
) -> Iterator[Finding]:
    """Whether rows fit into what the target is trained on."""
    recipe = planned.recipe
    seen = prompts is not None and target.tokenizer is not None
    measured = measure(target, prompts or ()) if seen else None
    for stage in ("sft", "dpo"):
        settings = getattr(recipe.train, stage)
        if settings is None:
            continue
        most = longest_answer(recipe)
        for one in room.training_room(stage, settings.max_length, target.context, most, measured):
            yield one.at(f"train.{stage}")


def _of_memory(planned: Plan, cluster: Cluster) -> Iterator[Finding]:
    """Whether training fits the GPU that the cluster file names, at rows of `max_length`."""
    for one in training_plans(planned, cluster):
        if fault := one.fault():
            mend = "Take one of these; only lora gives other results."
            yield Finding("fault", "training-memory", fault, mend, one.unit.replace("/", "."))


def _of_stages(target: Looked, looked: Sequence[Looked], planned: Plan) -> Iterator[Finding]:
    """Whether sampling, SFT, DPO and evaluation see the same ids of the target."""
    parts: dict[str, tuple[Any, Any]] = {}
    for one in looked:
        same = one.seat.role == "source" and one.seat.model == target.seat.model
        if same and not one.seat.served:
            parts[one.seat.place] = (one.seat.part, target.tokenizer)
    for model, part in _evaluated(planned).items():
        if model == "target" or model.startswith("train."):
            parts[f"evaluate {model}"] = (part, _tokenizer_of(model, target, planned))
    rendered: dict[str, Any] = {}
    for stage, (part, tokenizer) in parts.items():
        if part.part_name() == "hf":
            found = tokens.stage_prompts(tokenizer, target.config, {stage: part})
            rendered[stage] = found[stage]
    training = tokens.stage_prompts(target.tokenizer, target.config, {})
    yield from tokens.same_tokens({**training, **rendered})


def _tokenizer_of(model: str, target: Looked, planned: Plan) -> Any:
    """The tokenizer in a trained model's folder, where it is there; else the target's."""
    if model == "target":
        return target.tokenizer
    folder = planned.path(planned[TRAINED_BY[model]]) / "model"
    return chat.load_tokenizer(folder) if folder.is_dir() else target.tokenizer


def _evaluated(planned: Plan) -> Mapping[str, Any]:
    """Evaluated model -> the source part that answers its first task."""
    found: dict[str, Any] = {}
    for unit in planned.units:
        steps = unit.name.split("/")
        if len(steps) == 4 and steps[0] == "evaluate" and steps[3] == "sample":
            found.setdefault(steps[2], unit.settings.part)
    return found


def _of_evaluation(looked: Sequence[Looked], planned: Plan) -> Iterator[Finding]:
    """Whether test answers fit into the context of the models that are evaluated."""
    contexts = {one.seat.short: one.context for one in looked if one.seat.role != "judge"}
    longest: dict[str, tuple[int, str]] = {}
    for unit in planned.units:
        steps = unit.name.split("/")
        if len(steps) == 4 and steps[0] == "evaluate" and steps[3] == "sample":
            most = getattr(unit.settings.part, "max_new_tokens", None) or 0
            longest[steps[2]] = max(longest.get(steps[2], (0, "")), (most, steps[1]))
    for model, (most, task) in longest.items():
        context = contexts.get("target" if model.startswith("train.") else model)
        for one in room.sampling_room(context, most, None, 0.0):
            yield replace(one, what=f"{model} at {task}: {one.what}").at("evaluate")


def _of_licences(looked: Sequence[Looked], target: Looked | None) -> Iterator[Finding]:
    base = licensing.licence_at(target.seat.name, target.folder)[0] if target else None
    unknown: dict[str, str] = {}
    for one in looked:
        if one.seat.role != "source":
            continue
        licence, tag = licensing.licence_at(one.seat.name, one.folder)
        if licence is not None:
            yield from (found.at(one.seat.place) for found in licensing.outputs(licence, base))
        else:
            unknown[one.seat.short] = one.seat.name if tag == "unknown" else tag
    yield from licensing.unknown(unknown)


def _row(one: Looked) -> ModelRow:
    """A model's line in the table."""
    tag = licensing.licence_at(one.seat.name, one.folder)[1]
    row = ModelRow(one.seat.place, one.seat.name, one.tokenizer is not None, licence=tag)
    if one.tokenizer is None:
        return row
    try:
        known, ids = one.tokenizer.bos_token_id, chat.render_prompt(one.tokenizer, templates.USER)
        raw, _ = dates.depends_on_day(one.tokenizer, one.seat.template_arguments)
        return replace(
            row,
            bos="none"
            if known is None
            else {0: "missing", 1: "once"}.get(ids.count(known), "many"),
            system=templates.system_role(one.tokenizer),
            end=str(one.tokenizer.convert_ids_to_tokens(chat.turn_end_id(one.tokenizer))),
            date="served" if raw and one.seat.served else "fixed" if raw else "none",
            context="?" if one.context is None else str(one.context),
        )
    except chat.ChatTemplateError:
        return replace(row, looked=False)
