"""What runs inside a confined fork: the program, then its tests, then the verdict.

Untrusted code runs below `run_program`; nothing here may be relied on once it has begun.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NoReturn

from fusechat.sandbox import checks, script
from fusechat.sandbox.watch import PASSED, passed_line

Phase = Literal["program", "tests"]
NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)


class Teller:
    """Writes verdict lines, each behind the nonce, to the worker's descriptor."""

    def __init__(self, descriptor: int, nonce: str) -> None:
        self._descriptor, self._nonce = descriptor, nonce
        self._write, self._dumps, self._whoami = os.write, json.dumps, os.getpid
        self._leave = os._exit
        self.texts: dict[Phase, str] = {}

    def tell(self, status: str, **fields: Any) -> None:
        """Write one line; the first that the worker gets is the verdict."""
        if status == PASSED:
            line = passed_line(self._nonce, self._whoami())
        else:
            told = {"nonce": self._nonce, "pid": self._whoami(), "status": status, **fields}
            line = self._dumps(told).encode()
        self._write(self._descriptor, line + b"\n")

    def failure(self, phase: Phase, error: BaseException) -> None:
        """Write down that an exception was the end."""
        memory = isinstance(error, MemoryError)
        status = "memory" if memory else "failed"
        message = "" if memory else words_of(error) + self.where(error)
        self.tell(status, phase=phase, exception=_kind(error), message=message)

    def where(self, error: BaseException) -> str:
        """The last line of the tests, else of the program, that the exception passed through."""
        found: dict[str, int] = {}
        trace = error.__traceback__
        while trace is not None:
            found[trace.tb_frame.f_code.co_filename] = trace.tb_lineno
            trace = trace.tb_next
        phase: Phase
        for phase in ("tests", "program"):
            line = found.get(f"<{phase}>")
            lines = self.texts.get(phase, "").splitlines()
            if line is not None and line <= len(lines):
                return f" ({phase}, line {line}: {lines[line - 1].strip()[:200]})"
        return ""

    def leave(self) -> NoReturn:
        """End this process; what was told stands."""
        self._leave(0)

    def compiled(self, phase: Phase, text: str, how: Callable[[str], Any]) -> Any:
        """`how(text)`, a compilation; tells and leaves where the text is not Python."""
        self.texts[phase] = text
        try:
            return how(text)
        except NOT_PYTHON as error:
            kind = type(error).__name__
            self.tell("invalid", phase=phase, exception=kind, message=words_of(error))
            self.leave()


def run_program(
    program: str, tests: str, ready: checks.Instrumented | None, told: tuple[int, str, Any]
) -> NoReturn:
    """Run `program`, then `tests` in the same module, and write the verdict.

    The program sees `__name__ == "solution"`, so that what is under a main guard does not
    run; the tests see `"__main__"`. `ready` is the tests compiled beforehand, where they were;
    `told` the descriptor for the verdict, the nonce and the board. Never returns.
    """
    descriptor, nonce, board = told
    teller = Teller(descriptor, nonce)
    code = teller.compiled("program", program, compile_program)
    if ready is None:
        ready = teller.compiled("tests", tests, checks.instrument)
    teller.texts["tests"] = tests
    count = checks.Checks(ready, board, partial(teller.failure, "tests"), teller.leave)
    module = solution_module()
    try:
        exec(code, module.__dict__)
    except BaseException as error:  # noqa: BLE001 - a program may raise anything at all
        teller.failure("program", error)
        teller.leave()
    module.__dict__[script.NAME] = partial(script.run_script, program)
    run_tests(module, ready, teller, count)


def run_tests(
    module: types.ModuleType, ready: checks.Instrumented, teller: Teller, count: checks.Checks
) -> NoReturn:
    """Run tests in `module`, tell the verdict and leave."""
    module.__name__ = "__main__"
    module.__dict__[checks.NAME] = count
    try:
        exec(ready.code, module.__dict__)
    except BaseException as error:  # noqa: BLE001 - a program may raise anything at all
        if not count.failures:
            teller.failure("tests", error)
        teller.leave()
    count.end()
    if not count.failures:
        teller.tell(PASSED)
    teller.leave()


def compile_program(program: str) -> types.CodeType:
    """The program's code, as of a file of its own."""
    return compile(program, "<program>", "exec", dont_inherit=True)


def solution_module() -> types.ModuleType:
    """The module that programs and their tests run in, also as `import solution`."""
    module = types.ModuleType("solution")
    sys.modules["solution"] = sys.modules["__main__"] = module
    sys.argv = ["solution.py"]
    return module


def _kind(error: BaseException) -> str:
    kind = type(error)
    own = getattr(builtins, kind.__name__, None) is not kind
    return "an exception of its own" if own else kind.__name__


def words_of(error: BaseException) -> str:
    """The exception's name and words, of which it may have none."""
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:  # noqa: BLE001 - an exception may fail to print itself
        return type(error).__name__
