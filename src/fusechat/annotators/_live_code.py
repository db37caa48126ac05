"""LiveBench's coding tasks: the code of a response, run against the question's tests.

`code_tests` runs it, in its sandbox, and says what it says there: that program meets the tests
of LiveCodeBench in their own form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fusechat.annotators._live_question import Graded, NotGradedError, Question
from fusechat.annotators.code_tests import CodeTests
from fusechat.parts import Where, Work
from fusechat.records import Candidate

FENCE = "```"


def code_of(question: Question, response: str) -> str | None:
    """The lines between the last two lines with a fence, behind the beginning that a completion
    question gave; None with fewer than two such lines.

    By the rules of autumn 2024 that beginning is put before the code even where the response
    repeats it; corrected, only where the code does not start with it.
    """
    lines = response.split("\n")
    fences = [number for number, line in enumerate(lines) if FENCE in line]
    if len(fences) < 2:
        return None
    code = "\n".join(lines[fences[-2] + 1 : fences[-1]])
    begun = str(question.checker.get("partial_solution") or "")
    if not begun or (question.corrected and code.startswith(begun)):
        return code
    return f"{begun}\n{code}"


class CodeJudge:
    """Runs programs; made by `code_judge()`."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def grade(self, row: Candidate, code: str | None) -> Graded:
        """1 where the code passes all tests, shown and hidden."""
        if code is None or not code.strip():
            return Graded(0.0)
        fenced = f"{FENCE}python\n{code}\n{FENCE}"
        asked = row.model_copy(
            update={"response": row.response.model_copy(update={"text": fenced, "finish": "stop"})}
        )
        score = next(self._work(iter([asked])))
        if score.value is None:
            raise NotGradedError(score.reason, score.details or "", score.status == "error")
        return Graded(score.value, code)


@contextmanager
def code_judge(where: Where, timeout: float, allow_weak_sandbox: bool) -> Iterator[CodeJudge]:
    """A judge with a sandbox; all of a question's tests may take `timeout` processor seconds."""
    part = CodeTests(
        timeout=timeout, memory_mb=2048, check_reference=False, undefined_names=False,
        allow_weak_sandbox=allow_weak_sandbox,
    )  # fmt: skip
    with part.open(where) as work:
        yield CodeJudge(work)
