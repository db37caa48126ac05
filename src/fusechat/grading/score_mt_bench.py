"""`fusechat score mt_bench gpt-4_single.jsonl`: MT-Bench's score from stored judgments."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fusechat.columns import read_rows as read_items
from fusechat.errors import Fault, RecipeError
from fusechat.grading._stored_judgments import Stored, in_both, one_or_all
from fusechat.grading.rows import read_rows
from fusechat.metrics import agreement as agree
from fusechat.tasks.mt_bench import MOST, MTBench

UNRATED = -1
"""What FastChat writes where it found no rating."""
FIRST, LAST = 81, 160
"""The questions of MT-Bench by their numbers."""


class Rated(BaseModel):
    """One row of FastChat's `model_judgment/..._single.jsonl`."""

    question_id: str
    model: str
    turn: int
    score: float
    judge: Any = None
    """The judge's name, or a list that begins with it."""


def score(path: Path, data_dir: Path | None) -> dict[str, Any]:
    """Mean rating over both turns, out of 10, as FastChat shows it.

    JSON: `score`, `turn_1`, `turn_2`, `categories` (where `data_dir` has the questions), `n` (rated
    answers), `n_expected`, `status` (`ok` or `partial`), `unparsable` (judgments without a rating:
    left out), `missing`, `doubled` (the first judgment counts) and `unknown` answers, named
    `question#turn`. Several models in a file, as FastChat keeps them: `{"models": [...]}`. Raises
    `RecipeError` where rows are faulty.
    """
    questions = MTBench(data_dir=str(data_dir) if data_dir else None).found().get("items")
    rows = [row for _, row in read_items(questions)] if questions else []
    known = [row for row in rows if isinstance(row, Mapping) and "question_id" in row]
    categories = {str(row["question_id"]): str(row.get("category")) for row in known}
    names = list(categories) or [str(number) for number in range(FIRST, LAST + 1)]
    models: dict[tuple[str, str], list[Rated]] = {}
    for row in _read(path):
        models.setdefault((row.model, _judge(row.judge)), []).append(row)
    found = []
    for (model, judge), rated in models.items():
        expected = [(name, turn) for name in names for turn in (1, 2)]
        stored = Stored.of((((row.question_id, row.turn), row) for row in rated), expected, 0)
        found.append({"model": model, "judge": judge} | _scored(stored, categories))
    return one_or_all(path, found)


def agreement(path: Path, published: Path, data_dir: Path | None) -> dict[str, Any]:
    """How two judges' ratings of the same answers agree, the first being ours.

    JSON: `n` answers that both rated, the shares with the `same` rating and with one at most 1
    away (`within_one`), both means, the `correlation` with its interval (null where a judge gives
    one rating to all), and `not_published`: ratings of ours of other answers. Raises `RecipeError`
    where no answer is in both files, or a row is faulty.
    """
    ours, theirs = _ratings(path), _ratings(published)
    both = in_both(path, ours, theirs)
    apart = [abs(one - other) for one, other in both]
    found = agree.agreement(
        [one / MOST for one, _ in both], [other / MOST for _, other in both]
    )  # fmt: skip
    between = found.correlation_interval if found else None
    return {
        "ours": str(path), "published": str(published), "n": len(both),
        "same": sum(gap == 0 for gap in apart) / len(both),
        "within_one": sum(gap <= 1 for gap in apart) / len(both),
        "mean_ours": sum(one for one, _ in both) / len(both),
        "mean_published": sum(other for _, other in both) / len(both),
        "correlation": found.correlation if found else None,
        "correlation_interval": [between.low, between.high] if between else None,
        "not_published": len(ours) - len(both),
    }  # fmt: skip


def _ratings(path: Path) -> dict[Hashable, float]:
    """(model, question, turn) -> the rating, of the answers that have one; the first of several."""
    found: dict[Hashable, float] = {}
    for row in _read(path):
        if row.score != UNRATED:
            found.setdefault((row.model, row.question_id, row.turn), row.score)
    return found


def _read(path: Path) -> list[Rated]:
    """The rows, all of them possible ones."""
    rows = read_rows(path, Rated)
    faults = [
        Fault(
            f"{path}:{number}",
            "score",
            f"{row.score:g} is no rating of 0 to {MOST:g}, nor {UNRATED}.",
        )
        for number, row in rows
        if not (0 <= row.score <= MOST or row.score == UNRATED)
    ]
    if faults:
        raise RecipeError(faults)
    return [row for _, row in rows]


def _judge(told: Any) -> str:
    return str(told[0]) if isinstance(told, list) and told else str(told or "")


def _scored(stored: Stored[Rated], categories: Mapping[str, str]) -> dict[str, Any]:
    rated = [row for row in stored.rows.values() if row.score != UNRATED]
    groups: dict[str, list[Rated]] = {}
    for row in rated:
        if row.question_id in categories:
            groups.setdefault(categories[row.question_id], []).append(row)
    return {
        "score": _mean(rated),
        "turn_1": _mean([row for row in rated if row.turn == 1]),
        "turn_2": _mean([row for row in rated if row.turn == 2]),
        "categories": {name: _mean(rows) for name, rows in groups.items()},
        "n": len(rated),
        **stored.told(len(stored.rows) - len(rated)),
    }


def _mean(rows: Sequence[Rated]) -> float | None:
    return sum(row.score for row in rows) / len(rows) if rows else None
