"""What is said of Python source without running it."""

from __future__ import annotations

import builtins

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.annotators._code_static import (
    compile_fault,
    names_given,
    needs_a_name,
    parse,
    steady,
    suspicious,
    undefined_names,
)
from fusechat.annotators.code_tests import CodeTests

BUILTINS = frozenset(dir(builtins))
NOTHING: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    return helper(x)",
        "class A:\n    size = 3\n    def f(self):\n        return helper + size",
        "def f(x):\n    if False:\n        return helper(x)\n    return x",
        "f = lambda x: [helper(y) for y in x]",
        "try:\n    helper\nexcept ValueError:\n    pass",
    ],
)
def test_a_name_that_nothing_defines_is_found_even_where_it_is_never_reached(code: str) -> None:
    assert "helper" in undefined_names(parse(code), NOTHING)
    assert "helper" not in undefined_names(parse(code), frozenset({"helper"}))


@pytest.mark.parametrize(
    "code",
    [
        "def f(n):\n    return g(n - 1) if n else 0\ndef g(n):\n    return f(n)",
        "import os.path as p, math\nprint(p.join('a', str(math.pi)), __name__, __file__)",
        "from math import *\ndef f(x):\n    return sqrt(x)",
        "exec('y = 1')\nprint(y)",
        "globals()['y'] = 1\nprint(y)",
        "try:\n    unicode\nexcept NameError:\n    unicode = str",
        "def f(x: List[int], *a: Q) -> 'np.ndarray':\n    y: Tree = x\n    return y",
        "def f():\n    global total\n    total = 1\ndef g():\n    return total",
        "match 3:\n    case x if x:\n        print(x)",
        "def f(): return __class__ if 0 else (n := 3) + n\nclass B:\n    def m(self): __class__",
        "x = 1 if True else 2\ndel x",
    ],
)
def test_code_whose_names_are_defined_or_cannot_be_known_is_not_accused(code: str) -> None:
    assert set(undefined_names(parse(code), NOTHING)) <= {"__class__"}


def test_no_code_is_accused_where_the_names_given_are_not_known() -> None:
    assert undefined_names(parse("helper"), None) == ()
    assert names_given(parse("from os import *")) is None
    assert names_given(parse("exec('a = 1')")) is None
    assert names_given(parse("def f(:")) is None


def test_the_names_that_a_source_gives_are_those_bound_in_its_module() -> None:
    source = (
        "import a.b, c as d\nfrom e import f as g\nh: int = 1\n(i, [j]), *k = l = x\n"
        "for m in x: n = 1\nwith x as o: pass\ntry: p = 1\nexcept E as q: pass\n"
        "def r(s):\n    global t\n    u = 1\nclass v:\n    w = 1\nif (y := 1): pass\n"
        "match x:\n    case [z, *za]: pass\n"
    )
    given = "a d g h i j k l m n o p q r t v y z za"
    assert names_given(parse(source)) == frozenset(given.split())


@pytest.mark.parametrize(
    ("tests", "certain"),
    [
        ("assert f(1) == 2", True),
        ("assert not f(1)", True),
        ("assert sorted(f([2, 1])) == [1, 2]", True),
        ("x = f(1)\nassert x == 2", True),
        ("def check(c):\n    assert c(1) == 2\ncheck(f)", True),
        ("import math\nassert math.isclose(math.pi, f(3))", True),
        ("assert True", False),
        ("assert True or f(1)", False),
        ("assert 1 if True else f(1)", False),
        ("assert [f(x) for x in []] == []", False),
        ("assert (lambda: f(1))", False),
        ("try:\n    f(1)\nexcept NameError:\n    pass", False),
        ("if False:\n    assert f(1)", False),
        ("def test():\n    assert f(1)", False),
        ("def f(x): return 2\nassert f(1) == 2", False),
        ("exec('f = abs')\nassert f(1) == 1", False),
        ("from solution import *\nassert f(1) == 1", False),
        ("assert 0 < 1 < f(1)", False),
    ],
)
def test_only_tests_that_certainly_need_a_name_are_said_to(tests: str, certain: bool) -> None:
    assert needs_a_name(parse(tests), BUILTINS) is certain
    if certain:
        with pytest.raises(NameError):
            exec(tests, {})


@pytest.mark.parametrize(
    ("source", "same"),
    [
        ("import math\nfrom collections import Counter\nx = Counter([math.pi])", True),
        ("import random\nx = random.random()", False),
        ("import time", True),
        ("import time\nx = time.time()", False),
        ("from time import *", False),
        ("def f():\n    from datetime import datetime\n    return datetime.now()", False),
        ("import random as chance\nx = chance.random()", False),
        ("x = id(3)", False),
        ("x = __import__('time')", False),
        ("x = open('f')", False),
        ("def f(:", False),
    ],
)
def test_source_is_steady_only_without_clocks_chance_and_files(source: str, same: bool) -> None:
    assert steady(parse(source)) is same
    assert not steady(parse("import threading"), parse("threading.Thread()"))


@pytest.mark.parametrize(
    ("code", "sign"),
    [
        ("class A:\n    def __eq__(self, o):\n        return True", "__eq__"),
        ("import sys\nsys._getframe(1).f_locals", "_getframe"),
        ("import os\nos._exit(0)", "os._exit"),
        ("import builtins\nbuiltins.abs = len", "builtins.abs ="),
        ("import unittest\nunittest.TestCase.assertEqual = print", "unittest"),
        ("import gc\ngc.get_objects()", "get_objects"),
    ],
)
def test_code_that_games_its_tests_is_flagged(code: str, sign: str) -> None:
    assert any(sign in found for found in suspicious(parse(code), code))


@pytest.mark.parametrize(
    "code",
    [
        "class A:\n    def __eq__(self, o):\n        return self.x == o.x",
        "class A:\n    def __eq__(self, o):\n        return NotImplemented",
        "import sys, os\nsys.setrecursionlimit(9999)\nprint(os.path)",
        "class A:\n    def __bool__(self): return False",
    ],
)
def test_ordinary_code_is_not_flagged(code: str) -> None:
    assert suspicious(parse(code), code) == ()


@pytest.mark.parametrize(
    "source",
    ["x = " + "(" * 90_000, "x = " + "-" * 90_000 + "1", "x = " + "1+" * 40_000 + "1", "\0",
     "\ud800", "x = " + "a." * 45_000 + "b", "if 1:\n" * 90, "assert " + "1+" * 2500 + "1",
     "x = '" + "a" * 2_000_000],
)  # fmt: skip
def test_hostile_source_is_answered_without_a_crash(source: str) -> None:
    parsed = parse(source)
    assert undefined_names(parsed, NOTHING) == ()
    assert needs_a_name(parsed, BUILTINS) is False
    assert names_given(parsed) in (None, frozenset(), frozenset({"x"}))
    assert isinstance(compile_fault(source[:100_000]), str)
    suspicious(parsed, source)


def test_a_warning_of_the_compiler_is_no_fault() -> None:
    assert parse("x = '\\d'\nassert (x, 'y')").fault == ""
    assert compile_fault("x = '\\d' is 3") == ""


@given(st.text(max_size=200))
def test_any_text_is_either_a_tree_or_has_a_fault(text: str) -> None:
    parsed = parse(text)
    assert (parsed.tree is None) == bool(parsed.fault)
    assert bool(parsed.fault) <= bool(compile_fault(text))


def test_strict_and_undefined_names_are_in_the_key_and_the_defaults_are_not() -> None:
    keys = [part.digest() for part in (CodeTests(), CodeTests(strict=True),
                                       CodeTests(undefined_names=False))]  # fmt: skip
    assert len(set(keys)) == 3
    assert CodeTests().key() == {"use": "code_tests", "version": 3, "settings": {}}
