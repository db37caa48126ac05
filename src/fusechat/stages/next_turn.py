"""The second turn of a conversation: what a model is asked after its own first answer."""

from __future__ import annotations

from typing import Any

from fusechat import tables
from fusechat.records import Prompt, Response
from fusechat.stages.benchmark_units import Link, is_sample, prompts_by_id, responses
from fusechat.stages.context import UnitContext


def next_turn(context: UnitContext) -> dict[str, Any]:
    """Write prompts/ (the conversation so far and the next question) and links/.

    A first answer that was cut or is blank stands as it is; after one that could not be had there
    is no second turn, and the counts say how many are without.
    """
    prompts = prompts_by_id(context.inputs, context.inputs)
    answers = {
        response.prompt_id: response
        for response in responses(context.inputs, filter(is_sample, context.inputs))
    }
    asked: dict[str, Prompt] = {}
    links: list[Link] = []
    without = 0
    for prompt in prompts.values():
        answer = answers.get(prompt.id)
        if not prompt.turns:
            continue
        if answer is None or answer.finish == "error":
            without += 1
            continue
        following = _following(prompt, prompt.turns, answer)
        asked[following.id] = following
        links.append(Link(prompt_id=following.id, first_id=prompt.id))
    tables.write_table(context.folder / "prompts", asked.values(), Prompt)
    tables.write_table(context.folder / "links", links, Link)
    return {"prompts": len(asked), "without_first_answer": without}


def _following(prompt: Prompt, turns: tuple[str, ...], answer: Response) -> Prompt:
    messages = [
        *prompt.chat(),
        {"role": "assistant", "content": answer.text},
        {"role": "user", "content": turns[0]},
    ]
    fields = {name: getattr(prompt, name) for name in type(prompt).model_fields}
    own = {"id", "messages", "turns"}
    rest = {name: value for name, value in fields.items() if name not in own}
    return Prompt.of(messages, **rest, turns=turns[1:] or None)
