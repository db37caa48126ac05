"""LiveCodeBench's tests: read from its files, and turned into source for the sandbox.

The rules are those of its `testing_util.py` (2024-11): a program is run as a script or called by
name, with the imports that contest sites provide; outputs are compared line by line, as text, or
else number by number as decimals; results of calls by `==`, a tuple counting as a list. A test may
take 6 seconds, here of processor time (there by the clock), and is stopped after 18 by the clock.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusechat import plain_pickles
from fusechat.annotators._code_forms import SCRIPT, UnreadableTestsError, as_script, joined

SECONDS = 6.0
"""Of one test."""
MOST_TOGETHER = 10
"""Tests of one run of a program."""
_MOST_CHARACTERS = 1 << 21
_MODULES = [
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random",
    "statistics", "itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing",
]  # fmt: skip
SETUP = "".join(
    [
        *(f"from {name} import *\n" for name in _MODULES),
        f"import {', '.join(_MODULES)}\n",
        "sys.setrecursionlimit(50000)\n",
    ]
)
"""Runs before every program."""
TOO_SLOW = "a test took longer than LiveCodeBench allows"
_HARNESS = f"""\
import json, math, resource, signal
from decimal import Decimal, InvalidOperation
def _fusechat_slow(number, frame):
    raise TimeoutError({TOO_SLOW!r})
signal.signal(signal.SIGALRM, _fusechat_slow)
signal.signal(signal.SIGVTALRM, _fusechat_slow)
def _fusechat_used():
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, kinds))
def _fusechat_lines(text):
    return [line.strip() for line in text.strip().split("\\n")]
def _fusechat_numbers(line):
    try:
        return [Decimal(word) for word in line.split()]
    except InvalidOperation:
        return None
def _fusechat_same(got, wanted):
    if got == wanted:
        return True
    numbers = _fusechat_numbers(got)
    return numbers is not None and numbers == _fusechat_numbers(wanted)
def _fusechat_script(stdin, wanted):
    begun = _fusechat_used()
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = math.ceil(begun + _FUSECHAT_SECONDS) + 1
    most = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (most, hard))
    signal.setitimer(signal.ITIMER_REAL, 3 * _FUSECHAT_SECONDS)
    said = {SCRIPT}(stdin)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if _fusechat_used() - begun > _FUSECHAT_SECONDS:
        raise TimeoutError({TOO_SLOW!r})
    got, right = _fusechat_lines(said), _fusechat_lines(wanted)
    if len(got) != len(right) or not all(map(_fusechat_same, got, right)):
        raise AssertionError(f"prints {{said!r:.100}}, not {{wanted!r:.100}}")
def _fusechat_call(function, given, wanted):
    arguments = [json.loads(line) for line in given.split("\\n")]
    right = json.loads(wanted)
    signal.setitimer(signal.ITIMER_VIRTUAL, _FUSECHAT_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 3 * _FUSECHAT_SECONDS)
    got = function(*arguments)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    got = list(got) if isinstance(got, tuple) else got
    if not got == right:
        raise AssertionError(f"gives {{got!r:.100}}, not {{wanted!r:.100}}")
"""


@dataclass(frozen=True)
class LiveTests:
    """The tests of one problem, shown and hidden."""

    cases: tuple[tuple[str, str], ...]
    """What goes in, and what must come out."""
    function: str = ""
    """What is called; empty where the program is a script."""

    def program(self, code: str) -> str:
        """The code as the sandbox is given it."""
        whole = joined(SETUP, code)
        return whole if self.function else as_script(whole)

    def chunks(self, code: str) -> Iterator[str]:
        """Sources that test a program, one after the other."""
        called = self.function
        if "class Solution" in code:
            called = f"Solution().{self.function}"
        for cases in _together(self.cases):
            lines = [
                f"_fusechat_call({called}, {given!r}, {wanted!r})\n" if self.function
                else f"_fusechat_script({given!r}, {wanted!r})\n"
                for given, wanted in cases
            ]  # fmt: skip
            yield f"_FUSECHAT_SECONDS = {SECONDS}\n{_HARNESS}{''.join(lines)}"


def _together(cases: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    chunk: list[tuple[str, str]] = []
    size = 0
    for case in cases:
        more = sum(map(len, case))
        if chunk and (len(chunk) == MOST_TOGETHER or size + more > _MOST_CHARACTERS):
            yield chunk
            chunk, size = [], 0
        chunk.append(case)
        size += more
    if chunk:
        yield chunk


def read_place(place: Mapping[str, Any], files: Mapping[str, str]) -> LiveTests:
    """The tests that `Prompt.tests` names by file, byte and digest, or holds itself.

    Raises `UnreadableTestsError` where they are not there or not the ones that are meant, and
    `OSError` where the file cannot be read.
    """
    if "file" not in place:
        return read_problem(place)
    role = str(place["file"])
    if role not in files:
        raise UnreadableTestsError(f"no file is named for '{role}'; name it under 'files'")
    with open(files[role], "rb") as handle:
        handle.seek(int(place["at"]))
        line = handle.readline()
    if hashlib.sha256(line).hexdigest() != place["sha256"]:
        raise UnreadableTestsError(f"{files[role]} is another file than the prompts were made from")
    return read_problem(json.loads(line))


def read_problem(row: Mapping[str, Any]) -> LiveTests:
    """The tests of a row of LiveCodeBench's layout; raises `UnreadableTestsError`."""
    cases = [*_cases(row.get("public_test_cases")), *_cases(row.get("private_test_cases"))]
    if not cases:
        raise UnreadableTestsError("the problem has no tests")
    told = row.get("metadata") or "{}"
    metadata = _json(told) if isinstance(told, str) else told
    function = metadata.get("func_name") if isinstance(metadata, Mapping) else None
    if function and (not isinstance(function, str) or not function.isidentifier()):
        raise UnreadableTestsError("'func_name' must be the name of a function")
    return LiveTests(tuple(cases), function or "")


def _cases(told: Any) -> Iterator[tuple[str, str]]:
    found = told
    if isinstance(told, str):
        found = _json(told) if told.lstrip()[:1] in ("[", "") else _json(unpacked(told))
    for case in found or ():
        if not isinstance(case, Mapping) or not all(
            isinstance(case.get(name), str) for name in ("input", "output")
        ):
            raise UnreadableTestsError("a test is no object with texts 'input' and 'output'")
        yield case["input"], case["output"]


def _json(text: str) -> Any:
    try:
        return json.loads(text) if text.strip() else None
    except (ValueError, RecursionError) as error:
        raise UnreadableTestsError(f"tests are no JSON: {error}") from error


def unpacked(text: str) -> str:
    """The text behind base64, zlib and pickle; `UnreadableTestsError` where it is none."""
    try:
        return plain_pickles.unpacked(text)
    except ValueError as error:
        raise UnreadableTestsError(str(error)) from error
