"""Whole programs for HumanEval and MBPP, run against the tasks' tests in the sandbox."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pydantic import BaseModel, field_validator

from fusechat.annotators._code_canaries import check_canaries
from fusechat.annotators._code_evalplus import BY_THE_CLOCK, REFERENCE_FAULT, TOO_SLOW, where_failed
from fusechat.annotators._code_static import parse
from fusechat.annotators._code_verdicts import failure, missing_module
from fusechat.errors import Fault, RecipeError
from fusechat.grading._code_tasks import CodeTask, TaskName, load_tasks, task_key
from fusechat.grading.rows import LISTED, read_rows
from fusechat.sandbox import Limits, Sandbox, Verdict

_PLUS_SECONDS, _PLAIN_SECONDS, _LOADING_SECONDS = 180.0, 20.0, 5.0
_MEMORY_MB, _OUTPUT_KB = 4096, 1 << 16
_WALL_TIMES_PROCESSOR = 3.0
_STOPPED_BY_THE_CLOCK = 0.8
_AHEAD = 8
"""Rows under way for each sandbox."""


class CodeSample(BaseModel):
    """A row of the user's file."""

    task_id: str | int
    solution: str

    @field_validator("solution")
    @classmethod
    def _without_mark(cls, solution: str) -> str:
        """Without the byte-order mark that editors on Windows write and Python files may have."""
        return solution.removeprefix("\ufeff")


@dataclass(frozen=True)
class _Graded:
    verdict: str
    reason: str
    by_the_clock: bool = False


def grade(
    path: Path,
    task: TaskName,
    data_dir: Path | None = None,
    *,
    strict: bool = False,
    allow_weak_sandbox: bool = False,
    processes: int | None = None,
) -> Iterator[dict[str, Any]]:
    """One verdict for each row of `path`, in its order: `{task_id, verdict, reason}`.

    `verdict` is `pass`, `fail` (also what does not compile), `timeout`, `unscorable` (the
    program imports what is not installed here, or the task's own solution fails here) or
    `error` (the sandbox failed). With EvalPlus's data a program must be right on base and plus
    inputs, by EvalPlus's rules (`_code_evalplus`), and the reason says at which it failed. One
    sandbox per core (`processes`); a program that the clock stopped, not its processor time,
    is run again while nothing else runs.
    Raises `RecipeError` with all faults of the file, unknown task ids among them, and
    `PartError` where known programs get wrong verdicts here; then nothing was graded.
    """
    rows = read_rows(path, CodeSample)
    tasks, origin = load_tasks(task, data_dir)
    mend = f"Its ids are like '{next(iter(tasks), '')}'; see that --task {task} is meant."
    unknown = [
        Fault(f"{path}:{number}", "task_id", f"'{row.task_id}' is no task of {origin}. {mend}")
        for number, row in rows
        if task_key(task, row.task_id) not in tasks
    ]
    if unknown:
        more = len(unknown) - LISTED
        rest = [Fault(str(path), "", f"and {more} more such lines.")] if more > 0 else []
        raise RecipeError([*unknown[:LISTED], *rest])
    print(f"grade code: {len(rows)} rows; {len(tasks)} tasks from {origin}", file=sys.stderr)
    work = [(row.task_id, tasks[task_key(task, row.task_id)], row.solution) for _, row in rows]
    return _graded(work, strict, allow_weak_sandbox, processes or _cores())


def _cores() -> int:
    mine = getattr(os, "sched_getaffinity", None)
    return len(mine(0)) if mine else os.cpu_count() or 1


def _graded(
    work: Sequence[tuple[str | int, CodeTask, str]], strict: bool, weak: bool, processes: int
) -> Iterator[dict[str, Any]]:
    plus = any(task.plus for _, task, _ in work)
    seconds = _PLUS_SECONDS if plus else _PLAIN_SECONDS
    count = max(1, min(processes, len(work)))
    with ExitStack() as stack:
        boxes = [
            _Boxes(
                stack.enter_context(Sandbox(_limits(seconds), strict=strict, allow_weak=weak)),
                stack.enter_context(Sandbox(_limits(_LOADING_SECONDS), allow_weak=weak))
                if plus
                else None,
            )
            for _ in range(count)
        ]
        if work:
            check_canaries(boxes[0].tests, (), "grade code")
        grader = _Grader(boxes, seconds)
        pool = ThreadPoolExecutor(count)
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        waiting: deque[tuple[str | int, Future[_Graded]]] = deque()
        for task_id, task, solution in work:
            waiting.append((task_id, pool.submit(grader.grade, task, solution)))
            while len(waiting) >= count * _AHEAD:
                yield _told(*waiting.popleft())
        while waiting:
            yield _told(*waiting.popleft())


def _limits(seconds: float) -> Limits:
    return Limits(
        seconds=seconds, wall_seconds=seconds * _WALL_TIMES_PROCESSOR,
        memory_mb=_MEMORY_MB, output_kb=_OUTPUT_KB,
    )  # fmt: skip


def _told(task_id: str | int, future: Future[_Graded]) -> dict[str, Any]:
    found = future.result()
    return {"task_id": task_id, "verdict": found.verdict, "reason": found.reason}


@dataclass(frozen=True)
class _Boxes:
    """Where one program at a time runs."""

    tests: Sandbox
    loading: Sandbox | None
    """Where a program is loaded without tests first: the limit of all plus inputs together is
    far too long for one that never gets to them."""


class _Grader:
    """Runs programs on whichever sandbox is free; a retry waits until all are."""

    def __init__(self, boxes: Sequence[_Boxes], seconds: float) -> None:
        self._seconds, self._count = seconds, len(boxes)
        self._free: SimpleQueue[_Boxes] = SimpleQueue()
        for box in boxes:
            self._free.put(box)
        self._alone = threading.Lock()
        self._references: dict[str, _Graded] = {}

    def grade(self, task: CodeTask, solution: str) -> _Graded:
        boxes = self._free.get()
        try:
            found = self._once(boxes, task, solution)
        finally:
            self._free.put(boxes)
        return self._again_alone(task, solution) if found.by_the_clock else found

    def _again_alone(self, task: CodeTask, solution: str) -> _Graded:
        with self._alone:
            held = [self._free.get() for _ in range(self._count)]
            try:
                return self._once(held[0], task, solution)
            finally:
                for boxes in held:
                    self._free.put(boxes)

    def _once(self, boxes: _Boxes, task: CodeTask, solution: str) -> _Graded:
        box, program = boxes.tests, task.tests.program(solution)
        if boxes.loading is not None:
            loaded = boxes.loading.run(program, "")
            if loaded.status == "timeout":
                idle = loaded.cpu_seconds < _LOADING_SECONDS * _STOPPED_BY_THE_CLOCK
                return _Graded("timeout", "time limit exceeded (before any test)", idle)
        verdict = box.run(program, task.tests.for_program(parse(solution)))
        if REFERENCE_FAULT in verdict.message or missing_module(verdict):
            own = self._reference(box, task)
            if own.verdict != "pass":
                return own
        found = self._words(verdict)
        where = where_failed(verdict.message) if task.plus else ""
        told = found.verdict in ("fail", "timeout") and where
        return replace(found, reason=f"{found.reason} ({where})") if told else found

    def _reference(self, box: Sandbox, task: CodeTask) -> _Graded:
        """What the task's own solution gets here; it says whether the task can be graded."""
        found = self._references.get(task.task_id)
        if found is None:
            verdict = box.run(task.reference, task.tests.for_program(parse(task.reference)))
            found = self._words(verdict)
            if found.verdict not in ("pass", "error"):
                module = missing_module(verdict)
                why = f"'{module}' is not here" if module else found.reason
                found = _Graded("unscorable", f"the task's own solution fails here: {why}")
            self._references[task.task_id] = found
        return found

    def _words(self, verdict: Verdict) -> _Graded:
        if verdict.status == "passed":
            return _Graded("pass", "passed")
        if verdict.status == "error":
            return _Graded("error", f"sandbox failed: {verdict.message}")
        if verdict.status == "unsupported":
            return _Graded("unscorable", "tests cannot be judged in strict mode")
        slow = verdict.exception == "TimeoutError" and TOO_SLOW in verdict.message
        if verdict.status == "timeout" or slow:
            idle = verdict.cpu_seconds < self._seconds * _STOPPED_BY_THE_CLOCK
            clock = BY_THE_CLOCK in verdict.message if slow else idle
            return _Graded("timeout", "time limit exceeded", clock)
        module = missing_module(verdict)
        if module:
            return _Graded("unscorable", f"imports '{module}', which is not here")
        return _Graded("fail", failure(verdict))
