"""Questions of LiveBench for tests: made ones, and how a true answer to a real one looks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fusechat.annotators._live_question import Question
from fusechat.records import Candidate, Finish, Prompt, Response


def question(task: str, answer: str, text: str = "?", **fields: Any) -> Question:
    return Question(task=task, text=text, answer=answer, **fields)


def candidate(prompt: Prompt, text: str, finish: Finish = "stop") -> Candidate:
    response = Response(
        id=f"r{prompt.id}", prompt_id=prompt.id, source="s", index=0, text=text, finish=finish,
        model="m", error="refused" if finish == "error" else None, made_from="0",
    )  # fmt: skip
    return Candidate(prompt=prompt, response=response, annotator="live", made_from=prompt.id)


_SAID: dict[str, Callable[[str], str]] = {
    "AMPS_Hard": lambda truth: rf"We get $\boxed{{{truth}}}$.",
    "math_comp": lambda truth: truth * 5 if len(truth) == 1 else f"The answer is {truth}",
    "olympiad": lambda truth: f"Reasoning, at length.\n\nAnswer: {truth}",
    "spatial": lambda truth: f"So it is **{truth}**.",
    "web_of_lies_v2": lambda truth: f"Therefore: **{truth}**",
    "zebra_puzzle": lambda truth: f"It is ***{truth}***",
    "cta": lambda truth: truth,
    "tablejoin": lambda truth: truth,
    "tablereformat": lambda truth: truth,
}


def task_of(prompt: Prompt) -> str:
    return str(json.loads(prompt.checker or "{}")["task"])


def true_answer(prompt: Prompt) -> str | None:
    """The ground truth in the form that the question asks for; None where it has none."""
    say = _SAID.get(task_of(prompt))
    return say(prompt.answer or "") if say else None
