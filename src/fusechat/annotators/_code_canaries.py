"""Programs whose verdict is known, run before any other: a broken sandbox gives false zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fusechat.annotators._code_forms import as_script
from fusechat.errors import PartError
from fusechat.sandbox import Sandbox, Verdict

_LIBRARY = """\
import bisect, collections, copy, dataclasses, datetime, decimal, enum, fractions, functools
import hashlib, heapq, io, itertools, json, math, operator, os, random, re, statistics, string
import sys, time, typing, unicodedata

@dataclasses.dataclass
class Word:
    text: str
    def count(self) -> typing.Dict[str, int]:
        return dict(collections.Counter(self.text))

def work(n):
    table = [[j * i for j in range(100)] for i in range(n)]
    words = sorted(Word("abba").count().items())
    text = json.dumps([words, re.sub("a+", "b", "caat"), str(decimal.Decimal("0.1") * 3)])
    return sum(map(sum, table)) + math.gcd(12, 18), text, hashlib.sha256(b"a").hexdigest()[:4]
"""
_LIBRARY_TESTS = """\
total, text, mark = work(100)
assert total == 24502506
assert text == '[[["a", 2], ["b", 2]], "cbt", "0.3"]'
assert mark == "ca97"
"""
_SCRIPT = "n = int(input())\nprint(*[int(x) * n for x in input().split()])\n"


@dataclass(frozen=True)
class _Canary:
    what: str
    program: str
    tests: str
    status: str
    exception: str = ""


_CANARIES = (
    _Canary("right code", _LIBRARY, _LIBRARY_TESTS, "passed"),
    _Canary("wrong code", "def f(x):\n    return x + 1\n", "assert f(1) == 3\n", "failed",
            "AssertionError"),
    _Canary("code that raises", "def f(x):\n    return x.y\n", "assert f(1) == 3\n", "failed",
            "AttributeError"),
    _Canary("code that leaves early", "import sys\nsys.exit(0)\n", "assert f(1) == 3\n", "failed"),
    _Canary("code that does not compile", "def f(x:\n", "assert f(1) == 3\n", "invalid"),
    _Canary("a script", as_script(_SCRIPT),
            "assert __run_script__('3\\n1 2\\n').strip() == '3 6'\n", "passed"),
)  # fmt: skip


def check_canaries(box: Sandbox, preload: Sequence[str], who: str) -> None:
    """Raise `PartError` where a known program gets another verdict than its own here."""
    for canary in (*_CANARIES, *_imports(preload)):
        verdict = box.run(canary.program, canary.tests)
        right = verdict.status == canary.status
        if not right or (canary.exception and verdict.exception != canary.exception):
            raise PartError(
                f"{who}: {canary.what} must be '{canary.status}' in the sandbox, and it is "
                f"'{verdict.status}' here ({_said(verdict)}); verdicts would be false, so nothing "
                "was judged. Give it more memory or time, see that the Python of this run can be "
                "read by other users, and that the modules under 'preload' work."
            )


def _imports(preload: Sequence[str]) -> list[_Canary]:
    return [
        _Canary(f"code that imports {name}", f"import {name}\n\ndef f():\n    return 1\n",
                "assert f() == 1\n", "passed")
        for name in preload
    ]  # fmt: skip


def _said(verdict: Verdict) -> str:
    return verdict.message or verdict.exception or f"level {verdict.level}"
