"""Strict mode: the judge is another process than the program."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from fusechat.sandbox import Limits, Sandbox
from sandbox.hostile_programs import ROWS, WRONG, Row

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="strict mode needs its means")

LIMITS = Limits(seconds=1, wall_seconds=3, memory_mb=256, output_kb=128)


@pytest.fixture(scope="module")
def strict() -> Iterator[Sandbox]:
    with Sandbox(LIMITS, strict=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def plain() -> Iterator[Sandbox]:
    with Sandbox(LIMITS) as opened:
        yield opened


ALWAYS = (
    "class Yes:\n    def yes(self, *others): return True\n"
    "    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __contains__ = yes\n"
    "    __ne__ = lambda self, other: False\n    __hash__ = lambda self: 0\n"
    "    __sub__ = __rsub__ = lambda self, other: 0\n    startswith = issubset = yes\n"
)
FRAMES = (
    "import sys, json, os\n"
    "def frames():\n    f = sys._getframe()\n    while f: yield f; f = f.f_back\n"
)
FORGERIES = {
    "an object equal to everything": (ALWAYS + "def f(x): return Yes()", "assert f(3) == 9"),
    "an object near everything": (
        ALWAYS + "def f(x): return Yes()", "assert abs(f(3) - 9.0) < 1e-6",
    ),
    "an object less than everything": (ALWAYS + "def f(x): return Yes()", "assert f(3) < 9"),
    "an object that holds everything": (ALWAYS + "def f(x): return Yes()", "assert 9 in f(3)"),
    "an object that starts with everything": (
        ALWAYS + "def f(x): return Yes()", "assert f('a').startswith('b')",
    ),
    "a list of such objects": (ALWAYS + "def f(x): return [Yes()]", "assert f(3) == [9]"),
    "a number that is equal to all": (
        "class N(int):\n    def __eq__(self, other): return True\ndef f(x): return N(0)",
        "assert f(3) == 9",
    ),
    "a class in the function's place": (
        "class f:\n    def __init__(self, x): pass\n    def __eq__(self, other): return True",
        "assert f(3) == 9",
    ),
    "a constant in the function's place": (
        ALWAYS + "class M(type):\n    __eq__ = lambda *_: True\nclass f(metaclass=M):\n"
        "    def __new__(cls, x): return cls", "assert f(3) == 9",
    ),
    "a patched built-in": (
        "import builtins\nbuiltins.abs = lambda x: 0\ndef f(x): return 0",
        "assert abs(f(3) - 9.0) < 1e-6",
    ),
    "a built-in of its own": (
        "def all(xs): return True\ndef f(x): return 0", "assert all([f(3) == 9])",
    ),
    "a patched library": (
        "import math\nmath.isclose = lambda *_, **__: True\ndef f(x): return 0",
        "import math\nassert math.isclose(f(3), 9)",
    ),
    "a library of its own": (
        "class math:\n    isclose = lambda *_: True\ndef f(x): return 0",
        "assert math.isclose(f(3), 9)",
    ),
    "a patched test runner": (
        "import unittest\nunittest.TestCase.assertEqual = lambda *_: None\ndef f(x): return 0",
        "import unittest\n"
        "class T(unittest.TestCase):\n    def test(self): self.assertEqual(f(3), 9)\n"
        "suite = unittest.defaultTestLoader.loadTestsFromTestCase(T)\n"
        "result = unittest.TestResult()\nsuite.run(result)\nassert result.wasSuccessful()",
    ),
    "a skipped test": (
        "import unittest\ndef f(x): raise unittest.SkipTest",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): assert f(3) == 9\n"
        "result = unittest.TestResult()\nT('test').run(result)\nassert result.wasSuccessful()",
    ),
    "a stolen nonce": (
        FRAMES + "for f in frames():\n    if 'nonce' in f.f_locals:\n"
        "        told = {'nonce': f.f_locals['nonce'], 'pid': os.getpid(), 'status': 'passed'}\n"
        "        os.write(f.f_locals['descriptor'], json.dumps(told).encode() + b'\\n')\n"
        "os._exit(0)", "assert f(3) == 9",
    ),
    "an answer read from the tests": (
        FRAMES + "def f(x):\n    for g in frames():\n        for v in list(g.f_locals.values()):\n"
        "            if isinstance(v, str) and v[:6] == 'assert': return int(v.split('== ')[1])\n",
        "assert f(3) == 9",
    ),
    "a counter that counts no failures": (
        FRAMES + "def f(x):\n    for g in frames():\n"
        "        c = g.f_globals.get('__fusechat_checks__')\n"
        "        if c: c.failed = lambda: True\n", "assert f(3) == 9",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_passes_in_one_process_as_documented(plain: Sandbox, name: str) -> None:
    assert plain.run(*FORGERIES[name]).status == "passed"


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_does_not_pass_in_strict_mode(strict: Sandbox, name: str) -> None:
    verdict = strict.run(*FORGERIES[name])
    assert verdict.status == "failed"
    assert verdict.checks_passed == 0


def test_the_judge_cannot_be_killed_traced_or_written_to(strict: Sandbox) -> None:
    program = (
        "import os, ctypes\nlibc = ctypes.CDLL(None)\n"
        "def f(x):\n    me = os.getpid()\n"
        "    for pid in [1, *range(me - 8, me), *range(me + 1, me + 8), os.getppid(), -1]:\n"
        "        if pid == -1: continue\n"
        "        memory = f'/proc/{pid}/mem'\n"
        "        for attack in (lambda: os.kill(pid, 9), lambda: open(memory, 'r+b')):\n"
        "            try: attack(); return 'done'\n            except OSError: pass\n"
        "        if libc.ptrace(16, pid, 0, 0) == 0: return 'done'\n"
        "    return 'no way'\n"
    )
    assert strict.run(program, "assert f(3) == 'no way'").status == "passed"
    assert strict.run(program, "assert f(3) == 'done'").status == "failed"


def test_killing_everything_does_not_pass(strict: Sandbox) -> None:
    program = (
        "import os\ndef f(x):\n    try: os.kill(-1, 9)\n    except OSError: pass\n    return 0"
    )
    assert strict.run(program, "assert f(3) == 9").status in WRONG


def test_the_tests_are_nowhere_in_the_programs_memory(strict: Sandbox, plain: Sandbox) -> None:
    program = (
        "import gc, ctypes\ndef f(x):\n"
        "    texts = [s for o in gc.get_objects() if type(o) is dict for s in o.values()]\n"
        "    return any(type(s) is str and 'the' + ' secret' in s for s in texts)\n"
    )
    tests = "# the secret\nfound = f(3)\nassert not found"
    assert strict.run(program, tests).status == "passed"
    assert strict.run(program, tests).status == "passed", "nor in what the worker remembers"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_hostile_program_is_contained(strict: Sandbox, row: Row) -> None:
    if strict.level not in row.needs and not any(word in strict.means for word in row.needs):
        pytest.skip(f"level {strict.level} does not contain it")
    if row.name.endswith("!"):
        pytest.skip("limits on time and disk are the same as in one process")
    assert strict.run(row.program, row.tests).status in (*row.ends, "failed", "crashed")
    assert strict.run("def f(x): return x", "assert f(1) == 1").status == "passed"


STACK = (
    "class Stack:\n    kind = 'lifo'\n    def __init__(self, *xs): self.xs = list(xs)\n"
    "    def push(self, x): self.xs.append(x); return self\n"
    "    def pop(self): return self.xs.pop()\n"
    "    def __len__(self): return len(self.xs)\n    def __iter__(self): return iter(self.xs)\n"
    "    def __eq__(self, other): return self.xs == other.xs\n"
    "    def __add__(self, other): return Stack(*self.xs, *other.xs)\n"
    "    @property\n    def top(self): return self.xs[-1]\n"
    "    @staticmethod\n    def of(x): return Stack(x)\n"
    "    def __repr__(self): return f'Stack{self.xs}'\n"
)
RIGHT = {
    "a function": ("def f(x): return x * x", "assert f(3) == 9\nassert f(x=2) == 4"),
    "import from solution": ("def f(x): return x", "from solution import f as g\nassert g(1) == 1"),
    "import solution": ("def f(x): return x", "import solution\nassert solution.f(1) == 1"),
    "globals": ("def f(x): return x", "assert globals()['f'](1) == 1"),
    "exact types": ("def f(): return {1: (True, {2.0}, None, b'x', frozenset([1j]))}",
                    "assert repr(f()) == repr({1: (True, {2.0}, None, b'x', frozenset([1j]))})"),
    "nan": ("def f(): return float('nan')", "import math\nassert math.isnan(f())"),
    "LeetCode": ("class Solution:\n    def twoSum(self, a, t): return [0, 1]",
                 "assert Solution().twoSum([2, 7], 9) == [0, 1]"),
    "an object": (STACK, "s = Stack(1)\ns.push(2).push(3)\nassert len(s) == 3 and s.pop() == 3\n"
                  "assert list(s) == [1, 2] and s.top == 2 and Stack.kind == 'lifo'\n"
                  "assert isinstance(s, Stack)\n"
                  "assert Stack(1) == Stack.of(1) and Stack(1) != Stack(2)\n"
                  "assert repr(Stack(1) + Stack(2)) == str(s) == f'{s}' == 'Stack[1, 2]'\n"
                  "s.xs = [5]\nassert s.xs == [5] and 5 in s and s"),
    "an argument changed in place": (
        "def f(a, d, s):\n    a.sort(); d['k'] = [1]; s.discard(1); a[0].append(9)",
        "row = [0]\na, d, s = [[1], row], {}, {1, 2}\nf(a, d, s)\n"
        "assert (a, d, s) == ([[0, 9], [1]], {'k': [1]}, {2})"),
    "a built-in exception": (
        "def f(x):\n    if x < 0: raise ValueError('small', x)\n    return {}[x]",
        "try: f(-1)\nexcept ValueError as e: assert e.args == ('small', -1)\nelse: assert 0\n"
        "try: f(1)\nexcept LookupError as e: assert e.args == (1,)\nelse: assert 0"),
    "an exception of its own": (
        "class Base(Exception): pass\nclass Low(Base, ValueError): pass\ndef f(): raise Low('x')",
        "for kind in (Low, Base, ValueError):\n    try: f()\n    except kind as e: seen = str(e)\n"
        "    assert seen == 'x'"),
    "a generator": ("def f():\n    n = 0\n    while True: yield n; n += 1",
                    "import itertools\nassert list(itertools.islice(f(), 3)) == [0, 1, 2]\n"
                    "g = f()\nassert next(g) == 0 and next(g) == 1"),
    "a closure": ("def f(n):\n    def g(): nonlocal n; n += 1; return n\n    return g",
                  "g = f(1)\nassert (g(), g()) == (2, 3)"),
    "a callback": ("def f(k, xs): return sorted(map(k, xs))",
                   "seen = []\nassert f(lambda x: seen.append(x) or -x, [1, 2]) == [-2, -1]\n"
                   "assert seen == [1, 2] and f(str, [1]) == ['1']"),
    "a callback that raises": ("def f(k):\n    try: k()\n    except KeyError as e: return repr(e)",
                               "def k(): raise KeyError('a')\nassert 'a' in f(k)"),
    "constants": ("LIMIT, names = 3, ['a']\nimport math\nfrom math import isclose\n",
                  "assert LIMIT == 3 and names == ['a'] and math.pi > 3 and isclose(1, 1)"),
    "the name of a built-in": ("def sum(a, b): return a + b", "assert sum(1, 2) == 3"),
    "the name of the library": ("def gcd(a, b): return -1", "assert gcd(4, 6) == -1"),
    "a linked list": (
        "class Node:\n    def __init__(self, v, n=None): self.val, self.next = v, n\n"
        "def f(n):\n    out = None\n    while n: out, n = Node(n.val, out), n.next\n    return out",
        "n, found = f(Node(1, Node(2))), []\nwhile n: found.append(n.val); n = n.next\n"
        "assert found == [2, 1]"),
    "a script": ("if __name__ == '__main__':\n    print(int(input()) * 2)",
                 "assert __run_script__('4\\n') == '8\\n'\nassert __run_script__('5') == '10\\n'"),
    "no assert": ("def f(): return 1", "if f() != 1: raise ValueError"),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("mode", ["strict", "plain"])
def test_a_right_program_passes(request: pytest.FixtureRequest, mode: str, name: str) -> None:
    verdict = request.getfixturevalue(mode).run(*RIGHT[name])
    assert (verdict.status, verdict.message) == ("passed", "")


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        ("import inspect\nassert inspect.signature(f)", "inspect"),
        ("assert f.__code__.co_argcount == 1", "__code__"),
        ("class Mine: pass\nassert f(Mine())", "Mine"),
        ("class T(S): pass", "derive"),
        ("import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()): f(1)", "output"),
        ("import sys, io\nsys.stdin = io.StringIO('1')\nassert f(1)", "standard input"),
        ("from unittest.mock import patch\nassert f(1)", "patching"),
    ],
)
def test_tests_that_need_one_process_are_no_failure(strict: Sandbox, tests: str, why: str) -> None:
    verdict = strict.run("def f(x): return x\nclass S: pass", tests)
    assert verdict.status == "unsupported"
    assert why in verdict.message


@pytest.mark.parametrize(
    ("program", "status", "exception"),
    [
        ("def f(x): return x + 1", "failed", "AssertionError"),
        ("def f(x): return {}[x]", "failed", "KeyError"),
        ("def f(", "invalid", "SyntaxError"),
        ("raise KeyError", "failed", "KeyError"),
        ("", "failed", "NameError"),
        ("import os\ndef f(x): os._exit(0)", "failed", "early exit"),
        ("def f(x): exit()", "failed", "SystemExit"),
        ("import os\ndef f(x): os.abort()", "crashed", "SIGABRT"),
        ("def f(x):\n    while True: pass", "timeout", ""),
        ("def f(x): return [0] * 10 ** 9", "memory", "MemoryError"),
        ("def f(x):\n    while True: print('x' * 10 ** 5)", "output", ""),
        ("def f(x): return lambda: x", "failed", "a value that is not plain"),
    ],
)
def test_a_wrong_program_ends_as_in_one_process(
    strict: Sandbox, program: str, status: str, exception: str
) -> None:
    verdict = strict.run(program, "assert f(1) == 1")
    assert (verdict.status, verdict.exception) == (status, exception)
    assert (verdict.checks_passed, verdict.checks_total) == (0, 1)


def test_checks_are_counted_and_the_first_failure_told(strict: Sandbox) -> None:
    tests = "assert f(1) == 1\nassert f(2) == 5\nassert f(None)\nassert f(3) == 3"
    verdict = strict.run("def f(x): return x + 0", tests)
    assert (verdict.checks_passed, verdict.checks_total) == (2, 4)
    assert "line 2: assert f(2) == 5" in verdict.message
