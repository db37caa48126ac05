"""Code of a response, run against the prompt's tests in the sandbox.

Method: FuseChat-3.0 counts code as correct where it passes static analysis and the test
cases; its tools are not stated. Here the static analysis is that Python compiles the code and
that it uses no undefined name (pyflakes).
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

from pydantic import Field

from fusechat.annotators._code_canaries import check_canaries
from fusechat.annotators._code_extract import Found, find_code
from fusechat.annotators._code_forms import (
    CALL_SETUP,
    SCRIPT,
    PromptTests,
    UnreadableTestsError,
    call_names,
    joined,
    read_tests,
)
from fusechat.annotators._code_static import (
    Parsed,
    compile_fault,
    modules,
    names_given,
    needs_a_name,
    parse,
    steady,
    suspicious,
    undefined_names,
)
from fusechat.annotators._code_verdicts import LIMITS_MET, failure, missing_module
from fusechat.parts import Annotator, Where, Work
from fusechat.records import Candidate, Score
from fusechat.sandbox import Limits, Sandbox, Verdict, VerdictStatus

_REMEMBERED = 1000
"""Prompts, and verdicts, remembered in a worker; the candidates of a prompt come together."""
_TREES_REMEMBERED = 64
"""Programs whose syntax trees, some hundred kB each, are remembered."""
_WALL_TIMES_PROCESSOR = 3.0
_STOPPED_BY_THE_CLOCK = 0.8
"""Share of the processor time below which a time-out may be the machine's doing."""
_WELL_WITHIN = 0.5
"""Share of a limit that a reference may use where meeting the limit is to count as wrong."""
_CODE_AT_MOST = 1_000_000
_ALWAYS_GIVEN = frozenset(dir(builtins)) | {SCRIPT, "__name__", "__doc__", "__file__"}
_NOT_STRICT = "tests cannot be judged in strict mode"
_OTHER_SEED = "__import__('random').seed(1)"


class CodeTests(Annotator):
    """Whether a response's code compiles and passes the prompt's tests: 1.0 or 0.0, sandboxed.

    The code is the last fenced block of the language, else the longest fenced block, else the
    whole text if it compiles. `Prompt.tests` (source with asserts, or the JSON of HumanEval,
    LeetCodeDataset, MBPP, APPS, TACO and LiveCodeBench) runs after it in the same module and
    raises where the code is wrong. Code that does not compile, uses an undefined name, fails,
    or meets a limit of its own making is wrong, with that reason; so is a whole response
    without code. Unscorable are a cut, failed or empty response, code in another language or
    that imports what is not installed here, a prompt without tests, tests that cannot be read,
    do not compile, need a module that is not here, pass without any code, are flaky, or that
    the prompt's own `reference` fails, and a limit that the reference itself comes near (half
    of the time or of the memory). A failure of the sandbox is an error. Each score's details
    hold the level that the sandbox reached here and how many checks passed of how many.
    Programs of known verdicts are run first; where one gets another, `PartError` is raised.
    """

    version: ClassVar[int] = 3
    needs: ClassVar[tuple[str, ...]] = ("tests",)

    language: Literal["python"] = "python"
    timeout: float = Field(default=10.0, gt=0)
    """Seconds of processor time for one program; it is stopped after three times as long on
    the clock."""
    memory_mb: int = Field(default=512, ge=64)
    """Memory of one process of a program beyond the interpreter's."""
    output_kb: int = Field(default=1024, ge=1)
    processes: int = Field(default=16, ge=1)
    """Processes and threads of one program."""
    preload: tuple[str, ...] = ()
    """Modules to import once beforehand: large ones (numpy), or ones that only the user who
    runs this can read."""
    check_reference: bool = True
    """Whether the tests must pass on the prompt's reference. One that is prose is passed over."""
    undefined_names: bool = True
    """Whether code that uses a name that nothing defines is wrong, even where no test gets
    there: the method asks for static analysis and tests."""
    strict: bool = False
    """Whether the tests run in a process of their own, which code that games its tests cannot
    reach; tests that hand over more than plain values cannot be judged so."""
    allow_weak_sandbox: bool = False
    """Whether to go on where this machine cannot even keep programs off the network."""

    def sees(self, candidate: Candidate) -> Any:
        """As for any annotator, with the reference, which decides whether the tests count."""
        reference = candidate.prompt.reference if self.check_reference else None
        return [super().sees(candidate), reference]

    @contextmanager
    def open(self, where: Where) -> Iterator[Work]:
        """One sandbox worker; what is found of a prompt's tests is remembered."""
        limits = Limits(
            seconds=self.timeout, wall_seconds=self.timeout * _WALL_TIMES_PROCESSOR,
            memory_mb=self.memory_mb, output_kb=self.output_kb, processes=self.processes,
        )  # fmt: skip
        with Sandbox(
            limits, strict=self.strict, allow_weak=self.allow_weak_sandbox, preload=self.preload
        ) as box:
            check_canaries(box, self.preload, "code_tests")
            judge = _Judge(self, box)
            yield lambda rows: (judge.score(row) for row in rows)


@dataclass(frozen=True)
class _TestsFound:
    """What is known of a prompt's tests: why they cannot be used, or which limits are too near."""

    fault: str = ""
    failed: bool = False
    """Whether `fault` is the sandbox's, not the tests'."""
    details: str = ""
    near: frozenset[VerdictStatus] = frozenset()
    given: frozenset[str] | None = None
    """Names that a program may use without defining them, besides builtins."""
    needed: frozenset[str] = frozenset()
    """Modules that the tests import."""


class _Judge:
    """Scores candidates with one sandbox."""

    def __init__(self, part: CodeTests, box: Sandbox) -> None:
        self._part, self._box = part, box
        self._of_tests = lru_cache(maxsize=_REMEMBERED)(self._look_at_tests)
        self._read = lru_cache(maxsize=_REMEMBERED)(read_tests)
        self._verdicts = lru_cache(maxsize=_REMEMBERED)(self._run)
        self._code = lru_cache(maxsize=_TREES_REMEMBERED)(find_code)
        self._undefined = lru_cache(maxsize=_TREES_REMEMBERED)(undefined_names)

    def score(self, row: Candidate) -> Score:
        if not row.response.whole:
            cut = row.response.finish in ("length", "error")
            return row.unscorable(f"response {row.response.finish}" if cut else "response empty")
        try:
            tests = self._read(row.prompt.tests or "")
        except UnreadableTestsError as error:
            return row.unscorable("tests cannot be read", details=self._details(str(error)))
        if not tests.source.strip():
            return row.unscorable("no tests")
        reference = row.prompt.reference if self._part.check_reference else None
        found = self._of_tests(tests, reference or "")
        if found.fault:
            details = self._details(found.details)
            refuse = row.error if found.failed else row.unscorable
            return refuse(found.fault, details=details)
        return self._score_code(row, tests, found)

    def _run(self, program: str, tests: str) -> Verdict:
        """The verdict; a program that the clock stopped, not its own work, gets a second try."""
        verdict = self._box.run(program, tests)
        idle = verdict.cpu_seconds < self._part.timeout * _STOPPED_BY_THE_CLOCK
        return self._box.run(program, tests) if verdict.status == "timeout" and idle else verdict

    def _score_code(self, row: Candidate, tests: PromptTests, found: _TestsFound) -> Score:
        code = self._code(row.response.text)
        if code.other:
            reason = f"code in another language: {code.other}"
            return row.unscorable(reason, details=self._details(""))
        if len(code.code) > _CODE_AT_MOST:
            return row.unscorable("code too long to judge", details=self._details(""))
        broken = code.parsed.fault or (compile_fault(code.code) if tests.script else "")
        if broken:
            reason = "does not compile" if code.fenced else "no code"
            return row.score(0.0, reason, details=self._details(broken))
        undefined = self._part.undefined_names and self._undefined(code.parsed, found.given)
        if undefined:
            details = self._details(f"undefined: {', '.join(undefined)[:300]}")
            return row.score(0.0, "undefined name", details=details)
        verdict = self._verdicts(tests.program(code.code), tests.for_program(code.parsed))
        return self._not_judged(row, verdict, code, found) or self._graded(row, verdict, code)

    def _not_judged(
        self, row: Candidate, verdict: Verdict, code: Found, found: _TestsFound
    ) -> Score | None:
        told = self._details(verdict.message, verdict)
        if verdict.status == "error":
            return row.error("sandbox failed", details=told)
        if verdict.status == "unsupported":
            return row.unscorable(_NOT_STRICT, details=told)
        if verdict.status in found.near:
            return row.unscorable("limit too near the reference's own use", details=told)
        module = missing_module(verdict)
        if not module:
            return None
        own = module in (modules(code.parsed.tree) if code.parsed.tree else ())
        reason = f"imports '{module}', which is not here"
        return row.unscorable(
            _needs(module) if module in found.needed and not own else reason,
            details=self._details(_mend(module), verdict),
        )

    def _graded(self, row: Candidate, verdict: Verdict, code: Found) -> Score:
        if verdict.status == "passed":
            signs = () if self._part.strict else suspicious(code.parsed, code.code)
            told = self._details(verdict.message, verdict, signs)
            return row.score(1.0, "passed, looks suspicious" if signs else "passed", details=told)
        prose = verdict.status == "invalid" and not code.fenced
        reason = "no code" if prose else failure(verdict)
        return row.score(0.0, reason, details=self._details(verdict.message, verdict))

    def _look_at_tests(self, tests: PromptTests, reference: str) -> _TestsFound:
        """Whether `tests` can tell right from wrong; once for all candidates of a prompt."""
        source = tests.for_program(Parsed())
        broken = compile_fault(source) or compile_fault(tests.setup)
        if broken:
            return _TestsFound("tests do not compile", details=broken)
        parsed, setup = parse(source), parse(tests.setup)
        own = names_given(parsed)
        before = call_names() if tests.setup == CALL_SETUP else names_given(setup)
        if before is None or not needs_a_name(parsed, before | _ALWAYS_GIVEN):
            empty = self._verdicts(tests.program(""), source)
            fault = _fault_of(empty, passed="tests pass without any code")
            if fault:
                return fault
        given = None if own is None or before is None else own | before | {SCRIPT}
        needed = frozenset(
            name for part in (parsed, setup) if part.tree for name in modules(part.tree)
        )
        found = self._try_reference(tests, reference)
        return _TestsFound(
            found.fault, found.failed, found.details, found.near, given, needed
        )  # fmt: skip

    def _try_reference(self, tests: PromptTests, reference: str) -> _TestsFound:
        code = find_code(reference)
        prose = not code.fenced and (code.parsed.fault or not code.code.strip())
        if code.other or prose:
            return _TestsFound()
        source, program = tests.for_program(code.parsed), tests.program(code.code)
        own = self._verdicts(program, source)
        if own.status == "invalid" and own.phase == "program" and not code.fenced:
            return _TestsFound()
        if own.status != "passed":
            return _fault_of(own) or _TestsFound(
                "tests fail on their own reference solution",
                details=own.message or LIMITS_MET.get(own.status, own.status),
            )
        if not steady(parse(source), parse(tests.setup), code.parsed):
            again = self._run(program, joined(_OTHER_SEED, source))
            if again.status != "passed":
                return _fault_of(again) or _TestsFound("tests are flaky", details=again.message)
        used: dict[VerdictStatus, float] = {
            "timeout": own.cpu_seconds / self._part.timeout,
            "memory": own.peak_mb / self._part.memory_mb,
        }
        return _TestsFound(
            near=frozenset(limit for limit, share in used.items() if share > _WELL_WITHIN)
        )

    def _details(
        self, message: str, verdict: Verdict | None = None, signs: tuple[str, ...] = ()
    ) -> str:
        told: dict[str, Any] = {"sandbox": self._box.level}
        if message:
            told["message"] = message
        if verdict is not None and verdict.checks_total:
            told |= {"passed": verdict.checks_passed, "of": verdict.checks_total}
        if signs:
            told["suspicious"] = signs
        return json.dumps(told, ensure_ascii=False)


def _fault_of(verdict: Verdict, passed: str = "") -> _TestsFound | None:
    """What a run of the tests without a candidate says against them."""
    if verdict.status == "error":
        return _TestsFound("sandbox failed", True, verdict.message)
    if verdict.status == "unsupported":
        return _TestsFound(_NOT_STRICT, details=verdict.message)
    if verdict.status == "passed" and passed:
        return _TestsFound(passed)
    module = missing_module(verdict)
    return _TestsFound(_needs(module), details=_mend(module)) if module else None


def _needs(module: str) -> str:
    return f"tests need the module '{module}', which is not here"


def _mend(module: str) -> str:
    return (
        f"install '{module}' for the Python of this run; where it is installed and only its user "
        f"can read it, name it under 'preload'"
    )
