"""Runs programs against the tests of HumanEval, MBPP and LiveCodeBench, in the sandbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fusechat.annotators._code_canaries import check_canaries
from fusechat.annotators._code_evalplus import (
    BY_THE_CLOCK,
    REFERENCE_FAULT,
    TOO_SLOW,
    plus_tests,
)
from fusechat.annotators._code_live import TOO_SLOW as LIVE_TOO_SLOW
from fusechat.annotators._code_live import LiveTests
from fusechat.annotators._code_verdicts import failure, missing_module
from fusechat.sandbox import Limits, Sandbox, Verdict

_BASE_SECONDS, _PLUS_SECONDS, _LIVE_SECONDS = 60.0, 180.0, 90.0
_MEMORY_MB, _OUTPUT_KB = 4096, 1 << 16
_WALL_TIMES_PROCESSOR = 3.0
_IDLE = 0.8
"""Share of the processor time below which a time-out may be the machine's doing."""


@dataclass(frozen=True)
class Ran:
    """What became of a program: right, wrong, or (None) not to be said, with the reason."""

    right: bool | None
    reason: str
    message: str = ""
    failed: bool = False
    """Whether nothing is known because the sandbox failed."""


class CodeJudge:
    """Runs programs; made by `code_judge()`. Sandboxes are started when they are first needed."""

    def __init__(self, boxes: Mapping[str, Sandbox]) -> None:
        self._boxes = boxes

    @property
    def level(self) -> str:
        """What the sandbox reached here."""
        return self._boxes["base"].level

    def evalplus(self, row: Mapping[str, Any], program: str, inputs: str) -> Ran:
        """A program against the `base` or the `plus` inputs of a row of EvalPlus's release."""
        tests = plus_tests(str(row["task_id"]), {"plus_input": (), **row}, (inputs,))
        box = self._boxes[inputs]
        verdict = box.run(program, tests)
        if _by_the_clock(verdict, _PLUS_SECONDS if inputs == "plus" else _BASE_SECONDS):
            verdict = box.run(program, tests)
        return _ran(verdict)

    def live(self, tests: LiveTests, code: str) -> Ran:
        """A program against all tests of a problem of LiveCodeBench; the first that fails ends."""
        program, box = tests.program(code), self._boxes["live"]
        for source in tests.chunks(code):
            verdict = box.run(program, source)
            if _by_the_clock(verdict, _LIVE_SECONDS):
                verdict = box.run(program, source)
            if (ran := _ran(verdict)).right is not True:
                return ran
        return Ran(True, "passed")


@contextmanager
def code_judge(kind: str, allow_weak: bool) -> Iterator[CodeJudge]:
    """A judge for `evalplus` or `livecodebench`; raises `PartError` without a working sandbox."""
    seconds = (
        {"base": _BASE_SECONDS, "plus": _PLUS_SECONDS} if kind == "evalplus"
        else {"base": _BASE_SECONDS, "live": _LIVE_SECONDS}
    )  # fmt: skip
    boxes = {name: Sandbox(_limits(most), allow_weak=allow_weak) for name, most in seconds.items()}
    with boxes["base"]:
        try:
            check_canaries(boxes["base"], (), "code_benchmark")
            yield CodeJudge(boxes)
        finally:
            for box in boxes.values():
                box.close()


def _limits(seconds: float) -> Limits:
    return Limits(
        seconds=seconds, wall_seconds=seconds * _WALL_TIMES_PROCESSOR,
        memory_mb=_MEMORY_MB, output_kb=_OUTPUT_KB,
    )  # fmt: skip


def _by_the_clock(verdict: Verdict, seconds: float) -> bool:
    """Whether it may be the machine that was slow, not the program."""
    if verdict.status == "timeout":
        return verdict.cpu_seconds < seconds * _IDLE and verdict.seconds > seconds
    return verdict.exception == "TimeoutError" and BY_THE_CLOCK in verdict.message


def _ran(verdict: Verdict) -> Ran:
    if verdict.status == "passed":
        return Ran(True, "passed")
    if verdict.status == "error":
        return Ran(None, "sandbox failed", verdict.message, failed=True)
    if REFERENCE_FAULT in verdict.message:
        return Ran(None, "the task's own solution fails here", verdict.message)
    if module := missing_module(verdict):
        return Ran(None, f"imports '{module}', which is not here", verdict.message)
    slow = verdict.exception == "TimeoutError" and (
        TOO_SLOW in verdict.message or LIVE_TOO_SLOW in verdict.message
    )
    return Ran(False, "time limit exceeded" if slow else failure(verdict), verdict.message)
