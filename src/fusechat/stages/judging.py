"""Judges of benchmarks: what they are asked, asked once more, and what their answers come to.

A judge is a source like any other: its questions are a prompt table and its answers are rows, so
they are journaled, taken over by content, retried and paid for as all responses are, and read
again without asking when only the reading changes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fusechat import tables
from fusechat.digests import digest
from fusechat.records import Prompt, Response, Score
from fusechat.stages.benchmark_units import (
    AGAIN,
    JUDGE,
    Asked,
    is_sample,
    prompts_by_id,
    responses,
)
from fusechat.stages.context import UnitContext
from fusechat.tasks._benchmark import JudgedBenchmark

OFF_FORMAT = "the judge's answer is off the format"
WORDS_KEPT = 2000
"""Of a judge's answer, from its end, in a score's details."""


def judge_prompts(context: UnitContext) -> dict[str, Any]:
    """Write what the judge is asked about every response: prompts/ and asked/."""
    task: JudgedBenchmark = context.settings
    prompts = prompts_by_id(context.inputs, context.inputs)
    questions: dict[str, Prompt] = {}
    asked: list[Asked] = []
    for response in responses(context.inputs, filter(is_sample, context.inputs)):
        if response.finish == "error":
            continue
        prompt = prompts[response.prompt_id]
        for question in task.questions(prompt, response):
            messages = [dict(message) for message in question.messages]
            one = Prompt.of(messages, domain=JUDGE, item=prompt.item)
            questions.setdefault(one.id, one)
            asked.append(
                Asked(
                    prompt_id=one.id, item_id=prompt.id, response_id=response.id, game=question.game
                )
            )
    return _written(context.folder, questions, asked)


def judge_again(context: UnitContext) -> dict[str, Any]:
    """Write what the judge is asked once more: the questions with an answer off the format."""
    task: JudgedBenchmark = context.settings
    prompts = prompts_by_id(context.inputs, context.inputs)
    unit = _judge_unit(context.inputs, JUDGE)
    folder = context.inputs[f"{unit}/prompts"]
    first = {p.id: p for p in tables.read_table(folder / "prompts", Prompt)}
    answers = _answers(context.inputs, unit)
    questions: dict[str, Prompt] = {}
    asked: list[Asked] = []
    for row in tables.read_table(folder / "asked", Asked):
        answer = answers.get(row.prompt_id)
        if answer is None or answer.finish == "error":
            continue
        if task.reading(prompts[row.item_id], row.game, answer) is not None:
            continue
        before = first[row.prompt_id]
        once_more = Prompt.of(
            task.again(before.chat(), answer.text), domain=JUDGE, item=before.item
        )
        questions.setdefault(once_more.id, once_more)
        asked.append(row.model_copy(update={"prompt_id": once_more.id}))
    return _written(context.folder, questions, asked)


def verdicts(context: UnitContext) -> dict[str, Any]:
    """Read all answers of the judge and write one score a response: data/."""
    task: JudgedBenchmark = context.settings
    prompts = prompts_by_id(context.inputs, context.inputs)
    rounds = [_Round(context.inputs, _judge_unit(context.inputs, name)) for name in (JUDGE, AGAIN)]
    scores = [
        _score(task, prompts[response.prompt_id], response, rounds)
        for response in responses(context.inputs, filter(is_sample, context.inputs))
    ]
    tables.write_table(context.folder / "data", scores, Score)
    status = Counter(score.status for score in scores)
    reasons = Counter(score.reason for score in scores if score.status != "ok")
    return {
        "scores": len(scores), "status": dict(status), "reasons": dict(reasons.most_common(20)),
        "asked_again": len(rounds[1].answers),
    }  # fmt: skip


class _Round:
    """What a judge was asked in one round, and what it said."""

    def __init__(self, inputs: Mapping[str, Path], unit: str) -> None:
        self.answers = _answers(inputs, unit)
        self.asked: dict[str, dict[str, str]] = {}
        """Response -> game -> question."""
        for row in tables.read_table(inputs[f"{unit}/prompts"] / "asked", Asked):
            self.asked.setdefault(row.response_id, {})[row.game] = row.prompt_id

    def answer(self, response: str, game: str) -> Response | None:
        """What it said about a response in a game; None where it was not asked."""
        return self.answers.get(self.asked.get(response, {}).get(game, ""))


def _score(
    task: JudgedBenchmark, prompt: Prompt, response: Response, rounds: list[_Round]
) -> Score:
    readings: dict[str, Any] = {}
    words: dict[str, str] = {}
    failed: list[str] = []
    seen: list[str] = []
    for game in rounds[0].asked.get(response.id, {}):
        said = [a for one in rounds if (a := one.answer(response.id, game)) is not None]
        seen += [answer.made_from for answer in said]
        read = [task.reading(prompt, game, answer) for answer in said]
        readings[game] = next((reading for reading in reversed(read) if reading is not None), None)
        words[game] = said[-1].text[-WORDS_KEPT:] if said else ""
        if readings[game] is None:
            failed.append(_why(said))
    fields: dict[str, Any] = {
        "response_id": response.id, "annotator": JUDGE,
        "made_from": digest([task.key(), response.id, seen]),
    }  # fmt: skip
    if response.finish == "error":
        return Score(status="error", reason="the request failed", **fields)
    if failed or not readings:
        kept = json.dumps({"judge": words}, ensure_ascii=False)
        why = failed[0] if failed else "the judge was not asked"
        return Score(status="error", reason=why, details=kept, **fields)
    verdict = task.verdict(prompt, response, readings)
    details = json.dumps({**verdict.details, "judge": words}, ensure_ascii=False)
    return Score(status="ok", value=verdict.value, details=details, **fields)


def _why(said: list[Response]) -> str:
    if not said or said[-1].finish == "error":
        return "the judge gave no answer"
    return OFF_FORMAT + (", and was cut" if said[-1].finish == "length" else "")


def _judge_unit(inputs: Mapping[str, Path], name: str) -> str:
    """The first part of the names of one round's units."""
    ends = f"/{name}/prompts"
    return next(unit for unit in inputs if unit.endswith(ends)).removesuffix("/prompts")


def _answers(inputs: Mapping[str, Path], unit: str) -> dict[str, Response]:
    return {answer.prompt_id: answer for answer in _rows(inputs[f"{unit}/sample"])}


def _rows(folder: Path) -> Iterator[Response]:
    return tables.read_table(folder / "data", Response)


def _written(folder: Path, questions: Mapping[str, Prompt], asked: list[Asked]) -> dict[str, Any]:
    tables.write_table(folder / "prompts", questions.values(), Prompt)
    tables.write_table(folder / "asked", asked, Asked)
    return {"prompts": len(questions), "asked": len(asked)}
