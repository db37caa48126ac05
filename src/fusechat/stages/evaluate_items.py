"""Evaluated items: how each model did at each prompt, alone or against another model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fusechat import tables
from fusechat.errors import PartError
from fusechat.metrics import accuracy as acc
from fusechat.metrics.text import title
from fusechat.metrics.win_rate import Graded, opposed
from fusechat.records import Record, Response, Score
from fusechat.stages.context import UnitContext
from fusechat.stages.evaluate_settings import WinRate


class ItemResult(Record):
    """How one model did on one item of one task."""

    task: str
    model: str
    prompt_id: str
    outcome: acc.Outcome
    value: float | None = None
    """In [0, 1]; there iff `outcome` is `scored`. In a win rate, the probability that this
    response is preferred."""
    reason: str = ""
    response_id: str | None = None
    tokens: int | None = None
    characters: int | None = None
    """Of the response's text; None where there is no response."""
    score: float | None = None
    """What the annotator gave the response, on its own scale; None where it gave none."""
    turn: int = 1
    group: str = ""
    """Category of a benchmark's item."""
    item: str = ""
    """What the benchmark's publisher calls it."""
    profile: str = ""
    """Whose grading, where a benchmark is graded in two ways; empty: the main one."""

    @property
    def verdict(self) -> acc.Verdict:
        """Its part in the metrics."""
        return acc.Verdict(self.outcome, self.value)


Results = Mapping[str, Mapping[str, Sequence[ItemResult]]]
"""Task -> model -> its items, of all models in the same order of prompts."""


def read_items(
    context: UnitContext,
    task: str,
    models: Sequence[str],
    win_rate: WinRate | None,
    stage: str = "evaluate",
) -> dict[str, list[ItemResult]]:
    """The items of every model at a task, joined by prompt and response.

    `stage`: what stands before the task in the names of the units.

    Raises `PartError` where a prompt has two responses, where a score that should be a share is
    outside [0, 1], or where the model to be held against has no answers.
    """
    top = f"{stage}/{task}"
    prompts = context.inputs[f"{top}/prompts"] / "prompts"
    ids = [row["id"] for row in tables.read_dicts(prompts, ["id"])]
    rows = {model: _items(context, top, model, ids) for model in models}
    if win_rate is None:
        for model, items in rows.items():
            _check_shares(f"{top}/{model}/annotate", items)
        return rows
    if win_rate.against not in rows:
        raise PartError(
            f"the task '{task}' is a win rate against '{win_rate.against}', which did not answer "
            "it. Add that model to evaluate.models."
        )
    return held_against(rows, win_rate)


def _check_shares(unit: str, items: Sequence[ItemResult]) -> None:
    for item in items:
        if not 0.0 <= (item.value or 0.0) <= 1.0:
            raise PartError(
                f"{unit} holds the score {item.value}, and an accuracy is a mean of shares in "
                "[0, 1]. Grade the task by right and wrong (graded_by), or compare scores on "
                "another scale with those of a model: 'win_rate: {against: target}'."
            )


def _items(context: UnitContext, top: str, model: str, ids: Sequence[str]) -> list[ItemResult]:
    unit, task = f"{top}/{model}", top.rsplit("/", maxsplit=1)[-1]
    responses: dict[str, Response] = {}
    for response in tables.read_table(context.inputs[f"{unit}/sample"] / "data", Response):
        if response.prompt_id in responses:
            raise PartError(
                f"{unit}/sample holds more than one response to prompt {response.prompt_id}. "
                "Evaluation takes one response a prompt: sample each prompt once."
            )
        responses[response.prompt_id] = response
    judged = tables.read_table(context.inputs[f"{unit}/annotate"] / "data", Score)
    scores = {score.response_id: score for score in judged}
    return [_item(task, model, prompt_id, responses, scores) for prompt_id in ids]


def _item(
    task: str,
    model: str,
    prompt_id: str,
    responses: Mapping[str, Response],
    scores: Mapping[str, Score],
) -> ItemResult:
    response = responses.get(prompt_id)
    if response is None:
        return ItemResult(
            task=task, model=model, prompt_id=prompt_id, outcome="error", reason="no response"
        )
    score = scores.get(response.id)
    outcome, value, reason = outcome_of(response, score)
    failed = response.finish == "error"
    return ItemResult(
        task=task, model=model, prompt_id=prompt_id, outcome=outcome, value=value, reason=reason,
        response_id=response.id, tokens=None if failed else response.tokens,
        characters=None if failed else len(response.text), score=value,
    )  # fmt: skip


def outcome_of(response: Response, score: Score | None) -> tuple[acc.Outcome, float | None, str]:
    """The outcome, value and reason of one response.

    A failed request is nobody's answer and an annotator's failure nobody's fault: both are
    errors. A response that was cut or is blank is its model's own doing, unless the annotator
    judged it all the same.
    """
    if response.finish == "error":
        return "error", None, "the request failed"
    if score is None:
        return "error", None, "the annotator gave no score"
    if score.status != "unscorable":
        return "scored" if score.status == "ok" else "error", score.value, score.reason
    if response.finish == "length":
        return "cut", None, "the response was cut at the token limit"
    if not response.text.strip():
        return "empty", None, "the response holds no text"
    return "unscorable", None, score.reason


def held_against(
    rows: Mapping[str, Sequence[ItemResult]], win_rate: WinRate
) -> dict[str, list[ItemResult]]:
    """The items of every model as comparisons with one of them, which ties with itself."""
    others = rows[win_rate.against]
    return {
        model: [
            _itself(row) if model == win_rate.against else _against(row, other, win_rate)
            for row, other in zip(items, others, strict=True)
        ]
        for model, items in rows.items()
    }


def _itself(row: ItemResult) -> ItemResult:
    return row.model_copy(update={"outcome": "scored", "value": 0.5})


def _against(row: ItemResult, other: ItemResult, win_rate: WinRate) -> ItemResult:
    verdict = opposed(
        Graded(row.outcome, row.score), Graded(other.outcome, other.score), win_rate.scale
    )
    theirs = f"{title(win_rate.against)}: {other.reason}"
    if verdict.outcome == row.outcome:
        reason = row.reason
    elif verdict.outcome == "unscorable" and other.outcome != "unscorable":
        reason = "neither response is whole"
    else:
        reason = theirs
    update = {"outcome": verdict.outcome, "value": verdict.value, "reason": reason}
    return row.model_copy(update=update)
