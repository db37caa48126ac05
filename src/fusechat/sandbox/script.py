"""Runs a program as a script, in a fork: with a standard input, for what it prints.

The fork gives the script what a process of its own would: `__main__`, descriptors 0 and 1 (so
that `open(0)`, `sys.stdin.buffer` and `os.write(1, ...)` work), exit handlers, and an end that
harms nobody else.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import json
import math
import os
import resource
import signal
import sys
import types
from typing import Any, NoReturn

NAME = "__run_script__"
_WORDS = 300


def run_script(program: str, stdin: str) -> str:
    """What `program` prints to standard output, run as a script with this standard input.

    `sys.exit(0)` and `os._exit(0)` are normal ends; another exit code raises `SystemExit`, an
    exception of the script is raised again as the same built-in one (`RuntimeError` for one of
    its own). A signal that ends the script ends the caller too. Its processor time counts
    towards the caller's.
    """
    given, printed = _scratch(), _scratch()
    _write_all(given, stdin.encode("utf-8", "replace"))
    os.lseek(given, 0, os.SEEK_SET)
    reader, writer = os.pipe()
    sys.stdout.flush()
    used = _time_used()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_script(program, (given, printed, writer), used)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as stream:
            told = stream.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.lseek(printed, 0, os.SEEK_SET)
        with os.fdopen(os.dup(printed), "rb") as stream:
            said = stream.read()
    finally:
        os.close(given)
        os.close(printed)
    _raise_end(told, code)
    return said.decode("utf-8", "replace")


def _raise_end(told: bytes, code: int) -> None:
    if code < 0:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    if told:
        name, words = json.loads(told)
        kind = getattr(builtins, name, RuntimeError)
        own = isinstance(kind, type) and issubclass(kind, BaseException)
        try:
            error = kind(words) if own else RuntimeError(words)
        except TypeError:
            error = RuntimeError(f"{name}: {words}")
        raise error
    if code:
        raise SystemExit(code)


def _scratch() -> int:
    """A file without a name."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            return os.memfd_create("text")
    path = f".text-{os.getpid()}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    return descriptor


def _write_all(descriptor: int, text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _be_script(program: str, descriptors: tuple[int, int, int], used: float) -> NoReturn:
    """In the fork; whatever happens, this process ends here."""
    leave, code = os._exit, 1
    given, printed, writer = descriptors
    try:
        _limit_time(used)
        os.dup2(given, 0)
        os.dup2(printed, 1)
        sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        atexit._clear()
        told = _outcome(program)
        if isinstance(told, int):
            code = told
        else:
            _write_all(writer, json.dumps(told).encode())
    finally:
        leave(code)


def _outcome(program: str) -> int | tuple[str, str]:
    """The exit code, or the exception's name and words."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    told: int | tuple[str, str] = 0
    try:
        exec(compile(program, "<program>", "exec", dont_inherit=True), module.__dict__)
    except SystemExit as error:
        told = _exit_code(error.code)
    except BaseException as error:  # noqa: BLE001 - a script may raise anything at all
        told = (type(error).__name__, _words(error))
    with contextlib.suppress(BaseException):
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    return told


def _exit_code(code: Any) -> int:
    if code is None:
        return 0
    return code & 0xFF if type(code) is int else 1


def _words(error: BaseException) -> str:
    try:
        return str(error)[:_WORDS]
    except BaseException:  # noqa: BLE001 - an exception may fail to print itself
        return ""


def _time_used() -> float:
    """Processor seconds of this process and of the scripts before."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


def _limit_time(used: float) -> None:
    """Leave the script the processor time that its caller has left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_CPU, (max(1, math.ceil(soft - used)), hard))
