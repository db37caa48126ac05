"""The recipe's real prompts, where a run has read them already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fusechat import chat
from fusechat.doctor.models import Looked
from fusechat.doctor.room import Measured
from fusechat.planner import Plan
from fusechat.records import Prompt
from fusechat.stages.entries import SourceEntry
from fusechat.tables import read_table

MEASURED = 1000
"""At most so many prompts are tokenised for each model, evenly spread over all of them."""


def read_prompts(planned: Plan) -> list[Prompt] | None:
    """The prompts of a finished prompts unit; None where it is not finished."""
    if not planned.recipe.prompts:
        return None
    unit = planned["prompts"]
    if planned.standing(unit).state != "done":
        return None
    return list(read_table(planned.path(unit) / "prompts", Prompt))


def asked(prompts: Sequence[Prompt], entry: SourceEntry | None) -> list[Prompt]:
    """The prompts that a source is asked; all of them for a model that is no source."""
    return [one for one in prompts if entry is None or entry.wants(one.domain)]


def with_system(prompts: Iterable[Prompt]) -> int:
    """How many prompts have a system message."""
    return sum(any(turn.role == "system" for turn in one.messages) for one in prompts)


def measure(one: Looked, prompts: Sequence[Prompt]) -> Measured:
    """Lengths in tokens of the prompts that the model's template takes."""
    step = max(1, -(-len(prompts) // MEASURED))
    lengths = []
    for prompt in prompts[::step]:
        try:
            lengths.append(len(chat.render_prompt(one.tokenizer, prompt.chat())))
        except chat.ChatTemplateError:
            continue  # told by the check of the system role, with counts
    return Measured(lengths, len(prompts))
