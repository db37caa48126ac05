"""The code of a response, against the tests of HumanEval, MBPP or LiveCodeBench.

`code_tests` judges programs to train on, and leaves out what cannot be judged for sure; this one
gives each answer of a benchmark the verdict that the benchmark's own runner would give.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from fusechat.annotators._code_answers import (
    as_evalplus,
    as_live_code_bench,
    begun_with_fence,
    defining,
    stopped,
)
from fusechat.annotators._code_extract import find_code
from fusechat.annotators._code_forms import UnreadableTestsError, joined
from fusechat.annotators._code_judge import CodeJudge, Ran, code_judge
from fusechat.annotators._code_live import LiveTests, read_place
from fusechat.annotators._code_static import compile_fault
from fusechat.parts import SPEED, Annotator, Where, Work
from fusechat.records import Candidate, Score

_REMEMBERED = 4
"""Problems of LiveCodeBench whose tests, some tens of MB, are kept; samples come together."""
_CODE_AT_MOST = 1_000_000


class CodeBenchmark(Annotator):
    """Whether a response's code passes its benchmark's tests: 1.0 or 0.0, sandboxed.

    `Prompt.tests` is JSON with one key. `evalplus`: a row of EvalPlus's release with its
    `base_input`, perhaps `plus_input`; base inputs decide the value, and where there are plus
    inputs `details` tell under `plus` whether it is right on both. `livecodebench`: where a
    problem's tests are (`file`, a name under `files`; `at`, a byte; `sha256` of the line), or the
    columns of a row of it themselves.

    `paper` takes the code as FuseEval does: EvalPlus's continuation up to its closing fence, the
    lines between the first two fences for LiveCodeBench. `robust` takes the block that defines the
    function, behind the prompt's own text (its imports and helpers); the last block of Python for
    LiveCodeBench. Code that does not compile, fails, or meets a limit is wrong, and so is a
    response without code. A failed response, one that is cut or empty (unless `grade_cut`), code
    that imports what is not installed here, and tests that cannot be read are unscorable.
    Programs of known verdicts are run first; where one gets another, `PartError` is raised.
    """

    needs: ClassVar[tuple[str, ...]] = ("tests",)

    profile: Literal["paper", "robust"] = "robust"
    """Whose extraction: FuseEval's, or the robust one."""
    grade_cut: bool = False
    """Whether cut and empty responses are graded as they are, which FuseEval does."""
    stop: tuple[str, ...] = ()
    """A response is read up to the first of these, as if its model had been stopped there: for
    sources that cannot stop at a text. One that holds any of them counts as whole."""
    files: Annotated[dict[str, str], SPEED] = Field(default_factory=dict)
    """Name in `Prompt.tests` -> file of LiveCodeBench. Prompts know their tests by digest."""
    allow_weak_sandbox: Annotated[bool, SPEED] = False
    """Whether to go on where this machine cannot even keep programs off the network."""

    def faults(self) -> Iterator[tuple[str, str]]:
        """Files that are not there."""
        yield from super().faults()
        for path in self.files.values():
            if not Path(path).is_file():
                yield "files", f"there is no file at {path}. Give LiveCodeBench's test*.jsonl."

    @contextmanager
    def open(self, where: Where) -> Iterator[Work]:
        """Sandboxes, started when the first row of their kind comes."""
        with ExitStack() as stack:
            grader = _Grader(self, stack)
            yield lambda rows: (grader.score(row) for row in rows)


class _Grader:
    """Scores candidates."""

    def __init__(self, part: CodeBenchmark, stack: ExitStack) -> None:
        self._part, self._stack = part, stack
        self._judges: dict[str, CodeJudge] = {}
        self._read = lru_cache(maxsize=_REMEMBERED)(self._live_tests)

    def score(self, row: Candidate) -> Score:
        """The score of one row."""
        text, whole = stopped(row.response.text, self._part.stop)
        finish = row.response.finish
        cut = finish == "length" and not whole
        if finish == "error" or ((cut or not text.strip()) and not self._part.grade_cut):
            said = f"response {finish}" if cut or finish == "error" else "response empty"
            return row.unscorable(said)
        try:
            kind, told = _tests(row.prompt.tests or "")
        except UnreadableTestsError as error:
            return row.unscorable("tests cannot be read", details=_json(message=str(error)))
        judge = self._judge(kind)
        if kind == "evalplus":
            return self._evalplus(row, judge, told, text)
        return self._live(row, judge, text)

    def _judge(self, kind: str) -> CodeJudge:
        if kind not in self._judges:
            opened = code_judge(kind, self._part.allow_weak_sandbox)
            self._judges[kind] = self._stack.enter_context(opened)
        return self._judges[kind]

    def _evalplus(
        self, row: Candidate, judge: CodeJudge, task: Mapping[str, Any], text: str
    ) -> Score:
        begun = begun_with_fence(row.prompt.messages)
        if self._part.profile == "paper":
            code = program = as_evalplus(text, begun)
        else:
            code = defining(text, begun, str(task["entry_point"]))
            program = joined(str(task["prompt"]), code) if code.strip() else ""
        more: dict[str, Any] = {}
        ran = _refused(program) or judge.evalplus(task, program, "base")
        if "plus_input" in task:
            more["plus"] = ran.right
            if ran.right and task["plus_input"]:
                plus = judge.evalplus(task, program, "plus")
                more["plus"] = plus.right
                more |= {} if plus.right else {"plus_reason": plus.reason}
        return _scored(row, ran, judge.level, more)

    def _live(self, row: Candidate, judge: CodeJudge, text: str) -> Score:
        try:
            tests = self._read(row.prompt.tests or "")
        except UnreadableTestsError as error:
            return row.unscorable("tests cannot be read", details=_json(message=str(error)))
        except OSError as error:
            return row.error("the file of the tests cannot be read", details=_json(message=error))
        if self._part.profile == "paper":
            code = as_live_code_bench(text)
        else:
            found = find_code(text)
            code = "" if found.other else found.code
        return _scored(row, _refused(code) or judge.live(tests, code), judge.level, {})

    def _live_tests(self, tests: str) -> LiveTests:
        return read_place(_tests(tests)[1], self._part.files)


def _refused(code: str) -> Ran | None:
    """What is wrong with code that need not be run."""
    if not code.strip():
        return Ran(False, "no code")
    if len(code) > _CODE_AT_MOST:
        return Ran(False, "code too long to judge")
    broken = compile_fault(code)
    return Ran(False, "does not compile", broken) if broken else None


def _scored(row: Candidate, ran: Ran, level: str, more: Mapping[str, Any]) -> Score:
    details = _json(sandbox=level, message=ran.message[:500], **more)
    if ran.right is None:
        refuse = row.error if ran.failed else row.unscorable
        return refuse(ran.reason, details=details)
    return row.score(float(ran.right), ran.reason, details=details)


def _tests(text: str) -> tuple[str, Mapping[str, Any]]:
    """Which benchmark's tests, and what is told of them."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UnreadableTestsError(f"no JSON: {error}") from error
    for kind in ("evalplus", "livecodebench"):
        if isinstance(found, Mapping) and isinstance(found.get(kind), Mapping):
            return kind, found[kind]
    raise UnreadableTestsError("neither 'evalplus' nor 'livecodebench' is in it")


def _json(**said: Any) -> str:
    return json.dumps({k: v for k, v in said.items() if v != ""}, ensure_ascii=False, default=str)
