"""The items of a benchmark: what every response of a model came to, as rows and as columns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusechat import tables
from fusechat.metrics import accuracy as acc
from fusechat.metrics.scoring import Items
from fusechat.records import Prompt, Response, Score
from fusechat.stages.benchmark_units import TURN_2, Link, is_sample, responses
from fusechat.stages.context import UnitContext
from fusechat.stages.evaluate_items import ItemResult, outcome_of
from fusechat.tasks._benchmark import Benchmark


@dataclass(frozen=True)
class Answered:
    """How one model did at one benchmark by one profile's grading."""

    rows: tuple[ItemResult, ...]
    items: Items
    counts: Mapping[str, int]
    """Items: `parse_failed` (no answer found in the response), `judge_failed`, `errors` (another
    failure, or no response), `unscorable`, `cut`, `empty`. And `samples_missing`: samples without a
    verdict of items that have one by their other samples."""
    by_sample: tuple[Items, ...] = ()
    """Where a prompt has several samples: the items by the first of each, by the second, ...: what
    one run of the benchmark would have seen."""


@dataclass(frozen=True)
class Benchmarked:
    """One benchmark of an evaluation: what was asked of it, and how every model did.

    `stages/benchmark_rows.py` makes a row of the table of each.
    """

    name: str
    """The task's name in the recipe."""
    part: Benchmark
    models: tuple[str, ...]
    take: int | None
    """At most so many prompts were asked; None: all."""
    skipped: str | None
    """Why it was not run; None where it was."""
    judge: str | None
    """The judge's model, as served; None where none judges."""
    notes: Sequence[str]
    unlike: Sequence[str]
    """How the models were asked otherwise than the benchmark's paper has it."""
    settings: Mapping[str, str]
    """Model -> digest of all that decides its row beside the model: where they differ, the models
    were not asked alike."""
    results: Mapping[str, Mapping[str, Answered]]
    """Profile (`paper`, `robust`) -> model -> its answers; one profile where both grade alike, and
    none where it was skipped."""


@dataclass(frozen=True)
class _Place:
    """One item: a prompt of the benchmark, in one of its turns."""

    prompt: Prompt
    turn: int

    @property
    def name(self) -> str:
        return self.prompt.id if self.turn == 1 else f"{self.prompt.id}#{self.turn}"


def profiles_of(context: UnitContext, task: str, model: str) -> list[str]:
    """The profiles in which a model's answers were graded: names behind `annotate@`, the headless
    unit as an empty text."""
    top = f"evaluate/{task}/{model}/annotate"
    return [u.removeprefix(top).removeprefix("@") for u in context.inputs if u.startswith(top)]


def read_answers(context: UnitContext, task: str, model: str, profile: str) -> Answered:
    """Every item of a benchmark, in its order, as one model answered it."""
    top = f"evaluate/{task}"
    unit = f"{top}/{model}/annotate" + (f"@{profile}" if profile else "")
    prompts = list(tables.read_table(context.inputs[f"{top}/prompts"] / "prompts", Prompt))
    answers = _answers(context, f"{top}/{model}/")
    judged = tables.read_table(context.inputs[unit] / "data", Score)
    scores = {score.response_id: score for score in judged}
    places = [
        _Place(prompt, turn) for prompt in prompts for turn in range(1, 2 + len(prompt.turns or ()))
    ]
    wanted = context.settings["benchmarks"][task]["part"].samples()
    rows, columns, counts = [], [], Counter[str]()
    for place in places:
        found = _item(task, model, place, answers.get(place.name, ()), scores)
        rows.append(found.row.model_copy(update={"profile": profile}))
        columns.append(found)
        counts.update(found.counts)
        if found.known:
            counts["samples_missing"] += max(0, wanted - found.known)
    several = max((len(found) for found in answers.values()), default=1)
    by_sample = [
        _items(places, [_item(task, model, p, _nth(answers, p, n), scores) for p in places])
        for n in range(several if several > 1 else 0)
    ]
    return Answered(tuple(rows), _items(places, columns), dict(counts), tuple(by_sample))


def _nth(answers: Mapping[str, Sequence[Response]], place: _Place, number: int) -> list[Response]:
    return [answer for answer in answers.get(place.name, ()) if answer.index == number]


def _answers(context: UnitContext, top: str) -> dict[str, list[Response]]:
    """Item name -> the model's responses."""
    units = [unit for unit in context.inputs if unit.startswith(top) and is_sample(unit)]
    first = [unit for unit in units if f"/{TURN_2}/" not in unit]
    second = [unit for unit in units if f"/{TURN_2}/" in unit]
    found: dict[str, list[Response]] = {}
    for response in responses(context.inputs, first):
        found.setdefault(response.prompt_id, []).append(response)
    if second:
        folder = context.inputs[f"{top}{TURN_2}/prompts"] / "links"
        links: dict[str, list[str]] = {}
        for link in tables.read_table(folder, Link):
            links.setdefault(link.prompt_id, []).append(link.first_id)
        for response in responses(context.inputs, second):
            for first_id in links[response.prompt_id]:
                found.setdefault(f"{first_id}#2", []).append(response)
    return found


@dataclass(frozen=True)
class _Found:
    row: ItemResult
    value: float
    characters: float
    tokens: float
    details: Mapping[str, Any]
    counts: Counter[str]
    known: int
    """Samples with a verdict."""


def _item(
    task: str, model: str, place: _Place, answers: Sequence[Response], scores: Mapping[str, Score]
) -> _Found:
    ends = [outcome_of(answer, scores.get(answer.id)) for answer in answers]
    known = [v for end, value, _ in ends if (v := acc.Verdict(end, value).strict) is not None]
    details = [_details(scores.get(answer.id)) for answer in answers]
    outcome, value, reason = _together(ends, known)
    whole = [answer for answer in answers if answer.finish != "error"]
    characters = _mean(len(answer.text) for answer in whole)
    tokens = _mean(answer.tokens for answer in whole if answer.tokens is not None)
    row = ItemResult(
        task=task, model=model, prompt_id=place.prompt.id, turn=place.turn, outcome=outcome,
        value=value, reason=reason, response_id=answers[0].id if answers else None,
        characters=_whole_number(characters), tokens=_whole_number(tokens), score=value,
        group=place.prompt.domain, item=place.prompt.item or "",
    )  # fmt: skip
    counts = _counts(outcome, answers, scores, details)
    strict = float(np.mean(known)) if known else float("nan")
    first = details[0] if details else {}
    return _Found(row, strict, characters, tokens, first, counts, len(known))


def _together(
    ends: Sequence[tuple[acc.Outcome, float | None, str]], known: Sequence[float]
) -> tuple[acc.Outcome, float | None, str]:
    """What an item's samples come to: one stands for itself, of several the mean of the known."""
    if not ends:
        return "error", None, "no response"
    if len(ends) == 1 or not known:
        return ends[0]
    return "scored", sum(known) / len(known), ""


def _counts(
    outcome: acc.Outcome,
    answers: Sequence[Response],
    scores: Mapping[str, Score],
    details: Sequence[Mapping[str, Any]],
) -> Counter[str]:
    found: Counter[str] = Counter()
    if any(one.get("parsed") is False for one in details):
        found["parse_failed"] += 1
    if outcome == "error":
        score = scores.get(answers[0].id) if answers else None
        of_judge = score is not None and "judge" in score.reason
        found["judge_failed" if of_judge else "errors"] += 1
    elif outcome in ("cut", "empty", "unscorable"):
        found[outcome] += 1
    return found


def _details(score: Score | None) -> Mapping[str, Any]:
    found = json.loads(score.details) if score is not None and score.details else {}
    return found if isinstance(found, Mapping) else {"details": found}


def _items(places: Sequence[_Place], found: Sequence[_Found]) -> Items:
    return Items(
        names=tuple(place.name for place in places),
        values=np.array([one.value for one in found], dtype=np.float64),
        groups=tuple(place.prompt.domain for place in places),
        characters=np.array([one.characters for one in found], dtype=np.float64),
        tokens=np.array([one.tokens for one in found], dtype=np.float64),
        details=tuple(one.details for one in found),
    )


def _mean(values: Iterable[int]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else float("nan")


def _whole_number(value: float) -> int | None:
    return None if np.isnan(value) else round(value)
