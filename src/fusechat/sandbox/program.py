"""What runs inside a confined fork: the program, then its tests, then the verdict.

Untrusted code runs below `run_program`; nothing here may be relied on once it has begun.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
import types
from typing import Any, Literal

Phase = Literal["program", "tests"]
_NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)


def run_program(program: str, tests: str, descriptor: int, nonce: str) -> None:
    """Run `program`, then `tests` in the same module, and write one verdict line.

    The program sees `__name__ == "solution"`, so that what is under a main guard does not
    run; the tests see `"__main__"`. Never returns: the process ends here.
    """
    write, dumps, whoami, leave = os.write, json.dumps, os.getpid, os._exit

    def say(status: str, **fields: Any) -> None:
        line = dumps({"nonce": nonce, "pid": whoami(), "status": status, **fields})
        write(descriptor, line.encode() + b"\n")
        leave(0)

    module = types.ModuleType("solution")
    sys.modules["solution"] = sys.modules["__main__"] = module
    sys.argv = ["solution.py"]
    phase: Phase = "program"
    texts: dict[Phase, str] = {"program": program, "tests": tests}
    codes: dict[Phase, types.CodeType] = {}
    try:
        for phase, text in texts.items():
            codes[phase] = compile(text, f"<{phase}>", "exec", dont_inherit=True)
    except _NOT_PYTHON as error:
        say("invalid", phase=phase, exception=type(error).__name__, message=_words(error))
    try:
        for phase, name in (("program", "solution"), ("tests", "__main__")):
            module.__name__ = name
            exec(codes[phase], module.__dict__)
    except BaseException as error:  # noqa: BLE001 - a program may raise anything at all
        memory = isinstance(error, MemoryError)
        status = "memory" if memory else "failed"
        message = "" if memory else _words(error) + _where(error, texts)
        say(status, phase=phase, exception=_kind(error), message=message)
    say("passed")


def _kind(error: BaseException) -> str:
    kind = type(error)
    own = getattr(builtins, kind.__name__, None) is not kind
    return "an exception of its own" if own else kind.__name__


def _words(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:  # noqa: BLE001 - an exception may fail to print itself
        return type(error).__name__


def _where(error: BaseException, texts: dict[Phase, str]) -> str:
    """The last line of the tests, else of the program, that the exception passed through."""
    found: dict[str, int] = {}
    trace = error.__traceback__
    while trace is not None:
        found[trace.tb_frame.f_code.co_filename] = trace.tb_lineno
        trace = trace.tb_next
    phase: Phase
    for phase in ("tests", "program"):
        line = found.get(f"<{phase}>")
        lines = texts[phase].splitlines()
        if line is not None and line <= len(lines):
            return f" ({phase}, line {line}: {lines[line - 1].strip()[:200]})"
    return ""
