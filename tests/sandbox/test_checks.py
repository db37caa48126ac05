"""Counting asserts never changes what tests say of a program."""

from __future__ import annotations

import contextlib
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.sandbox import checks


class Left(BaseException):
    """Stands for the end of the process."""


def leave() -> NoReturn:
    raise Left


def counted(tests: str, names: dict[str, Any] | None = None) -> tuple[str, str, int, int]:
    """The first failure's kind and words (empty: passed), checks that held, checks in all."""
    told: list[BaseException] = []
    ready = checks.instrument(tests)
    board = bytearray(checks.BOARD_BYTES)
    count = checks.Checks(ready, board, told.append, leave)
    try:
        exec(ready.code, {**(names or {}), checks.NAME: count, "__name__": "__main__"})
        count.end()
    except Left:
        pass
    except BaseException as error:  # noqa: BLE001 - the tests may raise anything
        told.append(error)
    found = checks.counted(board, not told)
    kind = (type(told[0]).__name__, str(told[0])) if told else ("", "")
    return (*kind, found["checks_passed"], found["checks_total"])


def plain(tests: str, names: dict[str, Any] | None = None) -> tuple[str, str]:
    try:
        exec(compile(tests, checks.FILE, "exec"), {**(names or {}), "__name__": "__main__"})
    except BaseException as error:  # noqa: BLE001 - the tests may raise anything
        return type(error).__name__, str(error)
    return "", ""


@pytest.mark.parametrize(
    ("tests", "passed", "total"),
    [
        ("assert 1", 1, 1),
        ("assert 1\nassert 0\nassert 1", 2, 3),
        ("assert 1\nassert 1 / 0\nassert no_name\nassert 1", 2, 4),
        ("x = 1", 1, 1),
        ("raise ValueError", 0, 1),
        ("assert 1\nraise ValueError\nassert 1\nassert 1", 1, 3),
        ("for i in range(4):\n    assert i != 2", 3, 4),
        ("def check(n):\n    assert n\n    assert n > 1\ncheck(1)\ncheck(2)", 3, 4),
        ("if 0:\n    assert 0\nassert 1", 1, 1),
        ("assert 1\nassert 1\nraise SystemExit", 2, 3),
        ("try:\n    assert 0\nexcept AssertionError:\n    pass\nassert 1", 1, 1),
        ("def check(n):\n    assert n\ntry:\n    check(0)\nexcept AssertionError:\n    pass", 1, 1),
        (
            "import contextlib\nwith contextlib.suppress(AssertionError):\n    assert 0\nassert 1",
            1,
            1,
        ),
        ("while True:\n    assert 0", 0, 1000),
        ("class A:\n    def __eq__(self, other):\n        assert 0\nassert [A()] != 3", 1, 1),
    ],
)
def test_each_assert_that_is_executed_counts(tests: str, passed: int, total: int) -> None:
    assert counted(tests)[2:] == (passed, total)


def test_the_first_failure_is_the_one_that_is_told() -> None:
    assert counted("assert 0, 'one'\nassert 0, 'two'")[:2] == ("AssertionError", "one")


def test_an_assert_in_a_callback_that_drops_exceptions_stays_silent() -> None:
    def careless(function: Any) -> None:
        with contextlib.suppress(AssertionError):
            function()

    tests = "def check():\n    assert 0\ncareless(check)\nassert 1"
    assert counted(tests, {"careless": careless}) == ("", "", 1, 1)


def test_an_assert_in_a_thread_fails_nothing_as_without_counting() -> None:
    tests = (
        "import threading\nthreading.excepthook = lambda *_: None\n"
        "def check():\n    assert 0\n"
        "t = threading.Thread(target=check); t.start(); t.join()\nassert 1"
    )
    assert counted(tests)[:2] == plain(tests) == ("", "")


def test_tests_too_long_for_a_syntax_tree_are_one_check() -> None:
    tests = "assert 1\n" + "# a long line of words\n" * 50_000
    assert checks.instrument(tests).asserts == 0
    assert counted(tests) == ("", "", 1, 1)


def test_what_does_not_compile_raises_what_python_raises() -> None:
    for text in ("assert (", "return 3", "x = 1\n  y = 2 + assert"):
        with pytest.raises(SyntaxError):
            checks.instrument(text)


VALUES = st.sampled_from(["1", "0", "n", "1 / n", "no_name", "[][n]", "check(n)", "leave()"])


def indented(lines: list[str]) -> str:
    return "\n".join("    " + line for line in "\n".join(lines).splitlines())


def blocks(inner: st.SearchStrategy[list[str]]) -> st.SearchStrategy[str]:
    return st.one_of(
        inner.map(lambda b: f"if n:\n{indented(b)}\nelse:\n    n = 1"),
        inner.map(lambda b: f"for n in range(3):\n{indented(b)}"),
        inner.map(lambda b: f"try:\n{indented(b)}\nexcept AssertionError:\n    n = 0"),
        inner.map(lambda b: f"try:\n{indented(b)}\nexcept Exception:\n    assert n"),
        inner.map(lambda b: f"try:\n{indented(b)}\nfinally:\n    n = 1"),
        inner.map(lambda b: f"with suppress(ZeroDivisionError):\n{indented(b)}"),
        inner.map(lambda b: f"def inner(n):\n{indented(b)}\n    return n\nassert inner(n)"),
        inner.map(lambda b: f"def pairs(n):\n{indented(b)}\n    yield n\nassert list(pairs(1))"),
        inner.map(lambda b: f"class A:\n    n = 0\n{indented(b)}"),
        inner.map(lambda b: f"class A:\n    def __bool__(self):\n        n = 0\n"
                            f"{indented([indented(b)])}\n        return True\nassert A()"),
        inner.map(lambda b: f"def again():\n    n = 1\n{indented(b)}\ncareless(again)"),
    )  # fmt: skip


SUITES = st.recursive(
    st.lists(
        st.one_of(
            VALUES.map(lambda v: f"assert {v}, 'words'"), VALUES.map(lambda v: f"n = {v}"),
            st.just("n = 0"), st.just("pass"),
        ),
        min_size=1, max_size=3,
    ),
    lambda inner: st.lists(
        st.one_of(blocks(inner), VALUES.map(lambda v: f"assert {v}")), min_size=1, max_size=3
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(SUITES)
def test_counting_gives_the_verdict_of_the_tests_run_plainly(suite: list[str]) -> None:
    def careless(function: Any) -> None:
        with contextlib.suppress(Exception):
            function()

    def check(n: Any) -> Any:
        if not n:
            raise KeyError(n)
        return n

    names = {
        "n": 0, "check": check, "careless": careless, "leave": lambda: exec("raise SystemExit(3)"),
        "suppress": contextlib.suppress,
    }  # fmt: skip
    tests = "\n".join(suite)
    told = plain(tests, names)
    kind, words, passed, total = counted(tests, names)
    assert (kind, words) == told
    assert (passed == total) == (told == ("", ""))
    assert 0 <= passed <= total >= 1
