"""Code of a response, run against the prompt's tests in the sandbox.

Method: FuseChat-3.0 counts code as correct where it passes static analysis and the test
cases; its tools are not stated. Here the static analysis is that Python compiles it.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

from pydantic import Field

from fusechat.parts import Annotator, Where, Work
from fusechat.records import Candidate, Score
from fusechat.sandbox import Limits, Sandbox, Verdict, VerdictStatus

_LABELS = {"python": frozenset({"python", "python3", "py", "py3"})}
_REMEMBERED = 1000
"""Prompts, and verdicts, remembered in a worker; the candidates of a prompt come together."""
_WALL_TIMES_PROCESSOR = 3.0
_WELL_WITHIN = 0.5
"""Share of a limit that a reference may use where meeting the limit is to count as wrong."""
_LIMITS_MET: dict[VerdictStatus, str] = {
    "timeout": "time limit exceeded",
    "memory": "memory limit exceeded",
    "output": "output limit exceeded",
}


class CodeTests(Annotator):
    """Whether a response's code compiles and passes the prompt's tests: 1.0 or 0.0, sandboxed.

    The code is the last fenced block of the language, else the longest fenced block, else the
    whole text if it compiles. `Prompt.tests` runs after it in the same module and raises where
    the code is wrong. Code that does not compile, fails, or meets a limit of its own making is
    wrong, with that reason; so is a whole response without code. Unscorable are a cut, failed
    or empty response, a prompt without tests, tests that do not compile, that pass without any
    code, or that the prompt's own `reference` fails, and a limit that the reference itself
    comes near (half of the time or of the memory). A failure of the sandbox is an error. The
    level that the sandbox reached here is in each score's details.
    """

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
        with Sandbox(limits, allow_weak=self.allow_weak_sandbox, preload=self.preload) as box:
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


class _Judge:
    """Scores candidates with one sandbox."""

    def __init__(self, part: CodeTests, box: Sandbox) -> None:
        self._part, self._box = part, box
        self._of_tests = lru_cache(maxsize=_REMEMBERED)(self._look_at_tests)
        self._verdicts = lru_cache(maxsize=_REMEMBERED)(box.run)

    def score(self, row: Candidate) -> Score:
        if not row.response.whole:
            cut = row.response.finish in ("length", "error")
            return row.unscorable(f"response {row.response.finish}" if cut else "response empty")
        if not (row.prompt.tests or "").strip():
            return row.unscorable("no tests")
        tests = row.prompt.tests or ""
        reference = row.prompt.reference if self._part.check_reference else None
        found = self._of_tests(tests, reference or "")
        if found.fault:
            details = self._details(found.details)
            refuse = row.error if found.failed else row.unscorable
            return refuse(found.fault, details=details)
        code, fenced = find_code(row.response.text, self._part.language)
        verdict = self._verdicts(code, tests)
        return self._graded(row, verdict, fenced, found)

    def _graded(self, row: Candidate, verdict: Verdict, fenced: bool, found: _TestsFound) -> Score:
        details = self._details(verdict.message)
        if verdict.status == "error":
            return row.error("sandbox failed", details=details)
        if verdict.status == "passed":
            return row.score(1.0, "passed", details=details)
        if verdict.status == "invalid":
            return row.score(0.0, "does not compile" if fenced else "no code", details=details)
        if verdict.status in _LIMITS_MET:
            if verdict.status in found.near:
                return row.unscorable("limit too near the reference's own use", details=details)
            return row.score(0.0, _LIMITS_MET[verdict.status], details=details)
        return row.score(0.0, _failure(verdict), details=details)

    def _look_at_tests(self, tests: str, reference: str) -> _TestsFound:
        """Whether `tests` can tell right from wrong; once for all candidates of a prompt."""
        empty = self._verdicts("", tests)
        faults: dict[VerdictStatus, str] = {
            "error": "sandbox failed",
            "invalid": "tests do not compile",
            "passed": "tests pass without any code",
        }
        if empty.status in faults:
            return _TestsFound(faults[empty.status], empty.status == "error", empty.message)
        code, fenced = find_code(reference, self._part.language)
        own = self._verdicts(code, tests) if code.strip() else None
        if own is None or (own.status == "invalid" and not fenced):
            return _TestsFound()
        if own.status == "passed":
            return _TestsFound(near=self._near(own))
        why = own.message or _LIMITS_MET.get(own.status, own.status)
        fault = faults.get(own.status) if own.status == "error" else None
        return _TestsFound(fault or "tests fail on their own reference solution", bool(fault), why)

    def _near(self, own: Verdict) -> frozenset[VerdictStatus]:
        used: dict[VerdictStatus, float] = {
            "timeout": own.cpu_seconds / self._part.timeout,
            "memory": own.peak_mb / self._part.memory_mb,
        }
        return frozenset(limit for limit, share in used.items() if share > _WELL_WITHIN)

    def _details(self, message: str) -> str:
        told = {"sandbox": self._box.level, **({"message": message} if message else {})}
        return json.dumps(told, ensure_ascii=False)


def _failure(verdict: Verdict) -> str:
    """A short, countable reason: the kind of exception, not its words."""
    if verdict.status == "crashed":
        return f"crashed ({verdict.exception})"
    if verdict.exception == "AssertionError" and verdict.phase == "tests":
        return "a test failed"
    if verdict.exception == "early exit":
        return "ended before its tests were done"
    return f"raised {verdict.exception}"


_FENCE = re.compile(r"^[ \t>]*(`{3,}|~{3,})[ \t]*([^\s`]*)[^`]*$")


def find_code(text: str, language: str = "python") -> tuple[str, bool]:
    """The code of a response, and whether it stood in a fence.

    The last fenced block labelled with the language; else the longest block of any label;
    else the whole text. A fence that is never closed reaches to the end.
    """
    blocks = _fenced_blocks(text)
    labelled = [body for label, body in blocks if label in _LABELS[language]]
    if labelled:
        return labelled[-1], True
    if blocks:
        return max((body for _, body in blocks), key=len), True
    return text, False


def _fenced_blocks(text: str) -> list[tuple[str, str]]:
    blocks: list[tuple[str, str]] = []
    fence, label, lines = "", "", list[str]()
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if not fence:
            if mark:
                fence, label, lines = mark.group(1), mark.group(2).lower().strip("{}."), []
        elif mark and mark.group(1).startswith(fence) and not mark.group(2):
            blocks.append((label, textwrap.dedent("\n".join(lines))))
            fence = ""
        else:
            lines.append(line)
    if fence and lines:
        blocks.append((label, textwrap.dedent("\n".join(lines))))
    return [(label, body) for label, body in blocks if body.strip()]
