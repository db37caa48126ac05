"""LiveBench's questions, each graded by the rules of its task against ground truth, 0 to 1.

White et al., arXiv 2406.19314, and its `process_results`, as they were at the release of
2024-08-31 (`rules: published`). What the rules of a task are, and what is odd in them, stands at
its function in `_live_math`, `_live_reasoning`, `_live_language`, `_live_tables` and `_live_code`;
instruction following is in `_ifeval_livebench`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Literal

from pydantic import Field

from fusechat.annotators import _live_language as language
from fusechat.annotators import _live_math as math
from fusechat.annotators import _live_reasoning as reasoning
from fusechat.annotators import _live_tables as tables
from fusechat.annotators._live_code import CodeJudge, code_judge, code_of
from fusechat.annotators._live_equal import FormulaJudge, formula_judge
from fusechat.annotators._live_instructions import instructions
from fusechat.annotators._live_question import Graded, NotGradedError, Question
from fusechat.annotators.code_tests import CodeTests
from fusechat.parts import Annotator, Where, Work
from fusechat.records import Candidate, Score

_BY_TEXT: Mapping[str, Callable[[Question, str], Graded]] = {
    "cta": tables.cta,
    "tablejoin": tables.tablejoin,
    "tablereformat": tables.tablereformat,
    "paraphrase": instructions,
    "simplify": instructions,
    "story_generation": instructions,
    "summarize": instructions,
    "connections": language.connections,
    "plot_unscrambling": language.plot_unscrambling,
    "typos": language.typos,
    "math_comp": math.math_comp,
    "olympiad": math.olympiad,
    "spatial": reasoning.spatial,
    "web_of_lies_v2": reasoning.web_of_lies,
    "zebra_puzzle": reasoning.zebra_puzzle,
}
_FORMULAS = "AMPS_Hard"
_CODE = ("LCB_generation", "coding_completion")
_OWN_ANSWER = ("paraphrase", "simplify", "story_generation", "summarize", *_CODE)
"""Tasks without a ground truth in `Prompt.answer`."""
_TOLD = 200
"""Characters of a read answer that a score's details keep."""


class LiveBench(Annotator):
    """How far a response answers a question of LiveBench, by the publisher's rules: 0 to 1.

    `Prompt.checker` says the task. Unscorable are a failed, cut or empty response (the last two
    only without `grade_cut`), a prompt that is no such question or has no ground truth, and code
    whose tests cannot be run. A comparison of formulas that fails is an error. Details: `task`,
    `read` (what was taken for the answer) and `parsed` (whether anything was).
    """

    version: ClassVar[int] = 1
    requires: ClassVar[Mapping[str, str]] = {"math_verify": "math"}
    needs: ClassVar[tuple[str, ...]] = ("answer", "tests", "checker")

    rules: Literal["published", "corrected"] = "corrected"
    """`published`: as graded in autumn 2024; `corrected`: with the faults mended that make a true
    answer wrong (AMPS_Hard, tablereformat, zebra_puzzle, coding_completion), or a wrong one right
    (math_comp, tablereformat)."""
    grade_cut: bool = False
    """Whether a cut or empty response is graded as it stands, as the publisher does."""
    formula_timeout: float = Field(default=5.0, gt=0)
    """Seconds of the clock for one comparison of formulas (AMPS_Hard)."""
    code_timeout: float = Field(default=60.0, gt=0)
    """Seconds of processor time for all tests of one program."""
    allow_weak_sandbox: bool = False
    """Whether to run code where this machine cannot even keep programs off the network."""

    def key(self) -> dict[str, Any]:
        """The settings, and the version of the part that runs code."""
        return super().key() | {"code_tests": CodeTests.version}

    @contextmanager
    def open(self, where: Where) -> Iterator[Work]:
        """Nothing heavy yet: formulas' child process and code's sandbox start with the first
        question that needs them."""
        with ExitStack() as stack:
            grader = _Grader(self, where, stack)
            yield lambda rows: (grader.score(row) for row in rows)


class _Grader:
    """Scores candidates; what it starts is ended with the stack."""

    def __init__(self, part: LiveBench, where: Where, stack: ExitStack) -> None:
        self._part, self._where, self._stack = part, where, stack
        self._formulas: FormulaJudge | None = None
        self._code: CodeJudge | None = None

    def score(self, row: Candidate) -> Score:
        """The score of one response."""
        finish = row.response.finish
        if finish == "error" or (finish == "length" and not self._part.grade_cut):
            return row.unscorable(f"response {finish}")
        if not row.response.text.strip() and not self._part.grade_cut:
            return row.unscorable("response empty")
        try:
            question = self._question(row)
            graded = self._grade(question, row)
        except NotGradedError as error:
            refuse = row.error if error.failed else row.unscorable
            return refuse(error.reason, details=json.dumps({"message": error.details}))
        return _scored(row, question, graded)

    def _question(self, row: Candidate) -> Question:
        try:
            checker = json.loads(row.prompt.checker or "null")
        except ValueError:
            checker = None
        checker = checker if isinstance(checker, dict) else {}
        task = str(checker.get("task"))
        if task not in _BY_TEXT and task not in (_FORMULAS, *_CODE):
            raise NotGradedError("no question of LiveBench", f"task: {task}")
        if task not in _OWN_ANSWER and not row.prompt.answer:
            raise NotGradedError("no gold answer")
        return Question(
            task=task, text=row.prompt.messages[-1].content, answer=row.prompt.answer or "",
            subtask=str(checker.get("subtask") or ""), release=str(checker.get("release") or ""),
            corrected=self._part.rules == "corrected", checker=checker,
        )  # fmt: skip

    def _grade(self, question: Question, row: Candidate) -> Graded:
        text = row.response.text
        if question.task == _FORMULAS:
            formula = math.formula(question, text)
            return self._formula_judge().grade(question, formula)
        if question.task in _CODE:
            code = code_of(question, text)
            return self._code_judge().grade(row, code)
        return _BY_TEXT[question.task](question, text)

    def _formula_judge(self) -> FormulaJudge:
        if self._formulas is None:
            judge = formula_judge(self._part.formula_timeout)
            self._formulas = self._stack.enter_context(judge)
        return self._formulas

    def _code_judge(self) -> CodeJudge:
        if self._code is None:
            part = self._part
            judge = code_judge(self._where, part.code_timeout, part.allow_weak_sandbox)
            self._code = self._stack.enter_context(judge)
        return self._code


def _scored(row: Candidate, question: Question, graded: Graded) -> Score:
    told: dict[str, Any] = {"task": question.task, "parsed": bool(graded.read)}
    if graded.read:
        told["read"] = graded.read[-_TOLD:]
    wrong = "wrong" if graded.read else "no answer in the form asked for"
    reason = "right" if graded.value == 1.0 else "in part" if graded.value > 0 else wrong
    return row.score(graded.value, reason, details=json.dumps(told, ensure_ascii=False))
