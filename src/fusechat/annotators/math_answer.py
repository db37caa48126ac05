"""Final answers of mathematics, held against the gold answer by math-verify.

Method: FuseChat-3.0 compares the final answer of a response with the label of the prompt
set; which equality it used is not stated. Here it is math-verify 0.9.0 with the ANTLR runtime
4.13.2: with 4.11 it says, without a warning, that `10\\%` is not `10`.

The text of a response is read in `_math_extract`, an answer in `_math_text`; the verdict is
made in `_math_judge`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, ClassVar

from pydantic import Field

from fusechat.annotators._math_extract import FORMS, Form, final_answer, gold_answer
from fusechat.annotators._math_judge import MathJudge, Pending, compare, math_judge
from fusechat.parts import SPEED, Annotator, Where, Work
from fusechat.records import Candidate, Score

__all__ = ["FORMS", "MathAnswer", "compare", "final_answer", "gold_answer"]

_TOLD = 200
"""Characters of an answer that a score's details keep."""


class MathAnswer(Annotator):
    """Whether the final answer equals the gold answer: 1.0 or 0.0, by math-verify.

    The final answer is looked for in the order of `extract`: the last `\\boxed{...}`; the last
    line `#### x`; a last line `A: x`, or the last line `Answer: x`; the last "the answer is x"
    or "答案是 x". A value that is stated later in the text, in another form or as a correction
    ("wait, no: it is 6"), replaces it. A whole response that states none is wrong ("no final
    answer"); with `last_number` its last number is taken instead. A cut, failed or empty
    response, a prompt without a gold answer that can be parsed, and an answer that is not one
    value to compare, is unscorable; where math-verify takes longer than `timeout` seconds,
    dies or raises, the score is an error.
    """

    version: ClassVar[int] = 2
    requires: ClassVar[Mapping[str, str]] = {"math_verify": "math"}

    needs: ClassVar[tuple[str, ...]] = ("answer",)

    timeout: float = Field(default=5.0, gt=0)
    """Seconds of wall-clock time for one comparison."""
    extract: tuple[Form, ...] = Field(default=FORMS, min_length=1)
    last_number: bool = False
    """Whether the last number of the text counts as a final answer where none is stated. Off,
    since it makes right what was only mentioned."""
    children: Annotated[int, SPEED] = Field(default=1, ge=1)
    """Child processes in each worker; a run already has a worker per core."""

    @contextmanager
    def open(self, where: Where) -> Iterator[Work]:
        """Child processes with math-verify in them, and a cache of their verdicts."""
        with math_judge(self.timeout, self.children) as judge:
            yield lambda rows: self._stream(rows, judge)

    def _stream(self, rows: Iterator[Candidate], judge: MathJudge) -> Iterator[Score]:
        """Scores in the order of the rows, reading ahead only as far as keeps the children busy."""
        ahead: deque[Callable[[], Score]] = deque()
        for row in rows:
            ahead.append(self._begin(row, judge))
            if len(ahead) > 4 * (self.children - 1):
                yield ahead.popleft()()
        while ahead:
            yield ahead.popleft()()

    def _begin(self, row: Candidate, judge: MathJudge) -> Callable[[], Score]:
        if not row.response.whole:
            cut = row.response.finish in ("length", "error")
            reason = f"response {row.response.finish}" if cut else "response empty"
            return lambda: row.unscorable(reason)
        gold = gold_answer(row.prompt.answer or "")
        stated = final_answer(row.response.text, self.extract, self.last_number)
        pending = judge.begin(gold, stated)
        return lambda: _score(row, gold, stated, pending)


def _score(row: Candidate, gold: str, stated: str | None, pending: Pending) -> Score:
    verdict = pending.result()
    details = {"answer": stated and stated[:_TOLD], "gold": gold[:_TOLD]}
    if verdict.status == "error":
        details["error"] = verdict.details
    told = json.dumps(details, ensure_ascii=False)
    if verdict.status == "error":
        return row.error(verdict.reason, details=told)
    if verdict.status == "unscorable":
        return row.unscorable(verdict.reason, details=told)
    return row.score(1.0 if verdict.equal else 0.0, verdict.reason, details=told)
