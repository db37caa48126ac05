"""The judge's side of strict mode: runs trusted tests against a program in another process."""

from __future__ import annotations

import builtins
import importlib
import math
import types
from collections.abc import Collection
from functools import partial
from typing import Any, NoReturn

from fusechat.sandbox import checks, script
from fusechat.sandbox.program import Teller, run_tests, solution_module
from fusechat.sandbox.proxies import Gone, Link, Unsupported
from fusechat.sandbox.wire import NotPlain, Pipe

_SAFE_LIBRARY = frozenset({
    "bisect", "cmath", "collections", "collections.abc", "copy", "dataclasses", "datetime",
    "decimal", "enum", "fractions", "functools", "heapq", "itertools", "json", "math", "numbers",
    "operator", "random", "re", "statistics", "string", "typing",
})  # fmt: skip
"""Modules of which the tests may use what the program imported: the judge imports its own."""
_OWN_MODULES = _SAFE_LIBRARY | {"base64", "calendar", "hashlib", "os", "sys", "textwrap", "time"}
"""Modules that the tests get under their own names where the program imported them."""
_SHORT_NAMES = {"np": "numpy", "pd": "pandas"}
_RESERVED = frozenset(dir(builtins)) | frozenset(dir(math)) | _SAFE_LIBRARY | _SHORT_NAMES.keys()
_NEEDS_ONE_PROCESS = {
    "inspect": "inspect", "getsource": "inspect", "dis": "dis", "gc": "gc", "ctypes": "ctypes",
    "patch": "patching", "monkeypatch": "patching", "settrace": "tracing", "setprofile": "tracing",
    "redirect_stdout": "redirected output", "redirect_stderr": "redirected output",
    "capsys": "redirected output", "stdin": "a standard input of their own",
}  # fmt: skip
"""Names in tests that look into the program's process, and what to call them."""


class _JudgeTeller(Teller):
    """As in the one process, but knows the ends that only two processes have."""

    def failure(self, phase: Any, error: BaseException) -> None:
        if isinstance(error, Gone):
            self.tell("gone")
        elif isinstance(error, Unsupported):
            self.tell("unsupported", phase="tests", message=f"not judged in strict mode: {error}")
        elif isinstance(error, NotPlain):
            message = str(error) + self.where(error)
            self.tell("failed", phase=phase, exception="a value that is not plain", message=message)
        else:
            super().failure(phase, error)


def run_judge(
    tests: str, pipe: Pipe, told: tuple[int, str, Any], preloaded: Collection[str]
) -> NoReturn:
    """Run `tests` against the candidate at the other end of `pipe` and write the verdict.

    The program's names are proxies, plain constants as they were when it was loaded, stand-ins
    of its exception classes, or the judge's own library. `told` is as in `run_program`. Never
    returns.
    """
    descriptor, nonce, board = told
    teller = _JudgeTeller(descriptor, nonce)
    ready = teller.compiled("tests", tests, checks.instrument)
    link = Link(pipe)
    count = checks.Checks(
        ready, board, partial(teller.failure, "tests"), teller.leave, (Exception, NotPlain)
    )
    module = solution_module()
    used = _names_used(ready.code)
    try:
        _fit_for_two_processes(ready.code)
        names = _told_names(link, teller)
        module.__dict__.update(_Names(link, used, preloaded).bound(names))
    except BaseException as error:  # noqa: BLE001 - a program may raise anything at all
        teller.failure("program", error)
        teller.leave()
    module.__dict__[script.NAME] = partial(_run_script, link)
    run_tests(module, ready, teller, count)


def _run_script(link: Link, stdin: str) -> str:
    said = link.ask("script", stdin)
    if type(said) is not str:
        raise NotPlain("the program's process broke the protocol")
    return said


def _told_names(link: Link, teller: Teller) -> list[Any]:
    match link.hello():
        case ["ok", list() as names]:
            return names
        case ["raised", str() as name, own, list() as args]:
            raise link.exception(name, own, args)
        case ["invalid", str() as kind, str() as message]:
            teller.tell("invalid", phase="program", exception=kind, message=message)
            teller.leave()
    raise NotPlain("the program's process broke the protocol")


class _Names:
    """Turns the names that the candidate tells into what the tests may use."""

    def __init__(self, link: Link, used: set[str], preloaded: Collection[str]) -> None:
        self._link, self._used, self._preloaded = link, used, preloaded

    def bound(self, names: list[Any]) -> dict[str, Any]:
        """A namespace. Names of built-ins, of `math` and of safe modules are reserved.

        A reserved name is only taken from the program where the tests use no other of its
        names. So a program's own `abs` is not what tests compare with, and a task to write `sum`
        or `gcd` works.
        """
        made: dict[str, Any] = {}
        own = set()
        for name, told in names:
            if type(name) is not str or (name.startswith("__") and name.endswith("__")):
                raise NotPlain("the program's process broke the protocol")
            found = self._one(name, *told)
            if found is not None:
                made[name] = found[0]
            if told[0] in ("object", "constant", "exception"):
                own.add(name)
        if (own & self._used) - _RESERVED:
            for name in own & _RESERVED:
                del made[name]
                if name in _SAFE_LIBRARY:
                    made[name] = importlib.import_module(name)
                elif hasattr(math, name) and not hasattr(builtins, name):
                    made[name] = getattr(math, name)
        return made

    def _one(self, name: str, how: str, *details: Any) -> tuple[Any] | None:
        """The value in a tuple; none where the judge has no such thing."""
        if how in ("object", "constant"):
            return (details[0],)
        if how == "exception":
            return (self._exception(*details),)
        home = str(details[0])
        if how == "module":
            usual = home in (name, _SHORT_NAMES.get(name))
            known = home in _OWN_MODULES or home in self._preloaded
            return (importlib.import_module(home),) if usual and known else None
        if how == "library" and home in _SAFE_LIBRARY:
            module = importlib.import_module(home)
            return (getattr(module, name),) if hasattr(module, name) else None
        return None

    def _exception(self, name: str, bases: list[str], nearest: str) -> type[BaseException]:
        """A class of the same name and bases: what an `except` in the tests needs."""
        known = self._link.exceptions
        found = [known.get(base) or getattr(builtins, base, None) for base in (*bases, nearest)]
        kinds = [k for k in found if isinstance(k, type) and issubclass(k, BaseException)]
        known[name] = type(name, tuple(kinds[:-1] or kinds), {})
        return known[name]


def _names_used(code: types.CodeType) -> set[str]:
    """Names and texts in the code, for `globals()["f"]` uses a name too."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_used(constant)
        elif isinstance(constant, str):
            names.add(constant)
    return names


def _fit_for_two_processes(code: types.CodeType) -> None:
    for name in code.co_names:
        if name in _NEEDS_ONE_PROCESS:
            raise Unsupported(f"tests use {_NEEDS_ONE_PROCESS[name]}")
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _fit_for_two_processes(constant)
