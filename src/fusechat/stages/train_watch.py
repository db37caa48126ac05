"""What looks on while a unit trains, made from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from fusechat.chat import turn_end_id
from fusechat.parts import Part
from fusechat.stages.source_logps import read_source_logps
from fusechat.training.schedule import Schedule
from fusechat.training.trackers import Trackers
from fusechat.training.watch import Watch, Watched
from fusechat.training.watch_answers import Answers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from fusechat.stages.context import UnitContext
    from fusechat.stages.train_data import TrainingData
    from fusechat.training.loop import Observer


def make_observers(
    context: UnitContext,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    seed: int,
    device: torch.device,
) -> list[Observer]:
    """The looks at the held-out rows with the warnings, and the trackers that were asked for."""
    watch = _watch(context, tokenizer, data, seed, device)
    settings = context.settings
    names = tuple(name for name in settings.report_to if name != "none")
    if not names:
        return [watch]
    trackers = Trackers(names, context.folder, flat(settings), context.progress.note)
    watch.tell = trackers.looked
    return [trackers, watch]  # opened before the first look


def flat(settings: BaseModel, prefix: str = "") -> dict[str, int | float | str]:
    """Settings with dotted names; trackers take numbers, texts and switches only."""
    out: dict[str, int | float | str] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            out |= flat(value, f"{prefix}{name}.")
        elif value is not None:
            out[prefix + name] = value if isinstance(value, int | float | str) else str(value)
    if isinstance(settings, Part):
        out[f"{prefix}use"] = settings.part_name()
    return out


def _watch(
    context: UnitContext,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    seed: int,
    device: torch.device,
) -> Watch:
    settings = context.settings
    schedule = Schedule.of(settings, len(data.examples))
    ends = {turn_end_id(tokenizer), tokenizer.eos_token_id} - {None}
    watched = Watched(
        folder=context.folder,
        loss=settings.loss,
        examples=data.held_out,
        known=read_source_logps(context.inputs, data.held_out, device),
        total=schedule.total,
        steps=settings.watch.steps or settings.save_steps,
        steps_per_epoch=schedule.steps_per_epoch,
        prompts=settings.watch.prompts,
        answers=Answers(settings.watch.max_new_tokens, tuple(sorted(ends))),
        seed=seed,
    )
    return Watch(watched, context.progress.note)
