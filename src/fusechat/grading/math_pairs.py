"""`fusechat grade math PAIRS.jsonl`: answers held against gold answers, as in a run."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fusechat.annotators._math_extract import gold_answer, stated_or_whole
from fusechat.annotators._math_judge import MathJudge, Pending, Verdict, math_judge
from fusechat.grading.rows import read_rows

_AHEAD = 32
"""Rows read ahead for each child process; so many verdicts may wait for a slow one."""


class MathPair(BaseModel):
    """One row of the file."""

    gold: str | None
    """The gold answer, or a solution that states it."""
    pred: str | None
    """A bare answer, or a whole response."""
    id: Any = None
    """Given back as it is; the number of the line where there is none."""


def grade(path: Path, workers: int | None = None, timeout: float = 5.0) -> Iterator[dict[str, Any]]:
    """One verdict for each row of a JSON-lines file, in its order, as soon as it is known.

    A row is `{"id", "verdict", "equal", "reason"}`: `verdict` is `correct` (`equal` true),
    `incorrect` (false), `unscorable` or `error` (null). The answer of `pred` is the final
    answer that it states, else its whole text. `workers` is the number of child processes
    (none: one per core); a comparison that takes longer than `timeout` seconds is an error.
    Raises `RecipeError` before the first verdict where rows are faulty.
    """
    rows = read_rows(path, MathPair)
    children = max(1, min(workers or _cores(), len(rows)))
    with math_judge(timeout, children) as judge:
        ahead: deque[tuple[Any, Pending]] = deque()
        for number, row in rows:
            ahead.append((number if row.id is None else row.id, _begin(row, judge)))
            if len(ahead) > _AHEAD * children or ahead[0][1].done():
                yield _told(*ahead.popleft())
        while ahead:
            yield _told(*ahead.popleft())


def _begin(row: MathPair, judge: MathJudge) -> Pending:
    return judge.begin(gold_answer(row.gold or ""), stated_or_whole(row.pred or ""))


def _told(name: Any, pending: Pending) -> dict[str, Any]:
    verdict = pending.result()
    return {
        "id": name, "verdict": _word(verdict), "equal": verdict.equal, "reason": verdict.reason,
    }  # fmt: skip


def _word(verdict: Verdict) -> str:
    if verdict.status == "ok":
        return "correct" if verdict.equal else "incorrect"
    return verdict.status


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
