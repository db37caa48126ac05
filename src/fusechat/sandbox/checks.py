"""Counts the asserts of tests: each that is executed, and each that holds.

`instrument(tests)` rewrites `assert` statements so that one which fails is noted and the tests go
on to the next. Whether the tests pass, and the first failure's kind, words and line, stay what
they are without: a failed assert only goes on where its exception would have reached the top.
Where any of the calling lines stands in a `try` or `with`, or outside of the tests' own text (a
callback of the program, a thread, a test runner), the exception is raised as ever.
"""

from __future__ import annotations

import ast
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, NoReturn

NAME = "__fusechat_checks__"
FILE = "<tests>"
BOARD_BYTES = 32
_BOARD = struct.Struct("QQQQ")
_LONGEST = 1 << 20
"""Characters of tests beyond which syntax trees take too much memory: they count as one check."""
_FAILURES_BORNE = 1000
"""Failed asserts after which the tests stop: a loop that only a failure ends would never end."""


@dataclass(frozen=True)
class Instrumented:
    """Tests that are ready to run."""

    code: CodeType
    asserts: int
    """How many asserts the text has outside of `try` and `with`."""
    guarded: tuple[tuple[int, int], ...] = ()
    """First and last lines of the statements that may catch an exception."""


def instrument(tests: str) -> Instrumented:
    """Compile `tests` with their asserts counted; raises what `compile` raises."""
    if "assert" in tests and len(tests) <= _LONGEST:
        try:
            tree = ast.parse(tests, FILE)
            found = _Asserts()
            tree.body = found.block(tree.body, True)
            code = compile(tree, FILE, "exec", dont_inherit=True)
        except (RecursionError, MemoryError):
            pass
        else:
            return Instrumented(code, found.count, tuple(found.guarded))
    return Instrumented(compile(tests, FILE, "exec", dont_inherit=True), 0)


class _Asserts:
    """Rewrites the asserts of a tree, statement by statement."""

    def __init__(self) -> None:
        self.count = 0
        self.guarded: list[tuple[int, int]] = []

    def block(self, statements: list[Any], exposed: bool) -> list[Any]:
        return [self._statement(statement, exposed) for statement in statements]

    def _statement(self, node: Any, exposed: bool) -> Any:
        if isinstance(node, ast.Assert):
            return self._counted(node) if exposed else node
        if isinstance(node, (ast.Try, ast.TryStar, ast.With, ast.AsyncWith)):
            self.guarded.append((node.lineno, node.end_lineno or node.lineno))
            exposed = False
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            # What Python itself calls (__eq__, __del__, a property) may drop the exception.
            exposed = not node.decorator_list and not node.name.startswith("__")
        for part in ("body", "orelse", "finalbody"):
            inner = getattr(node, part, None)
            if isinstance(inner, list):
                setattr(node, part, self.block(inner, exposed))
        for inner in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            inner.body = self.block(inner.body, exposed)
        return node

    def _counted(self, node: ast.Assert) -> ast.Try:
        self.count += 1
        place: dict[str, Any] = {
            "lineno": node.lineno, "col_offset": node.col_offset,
            "end_lineno": node.end_lineno, "end_col_offset": node.end_col_offset,
        }  # fmt: skip

        def ours(name: str) -> ast.expr:
            return ast.Attribute(
                ast.Name(NAME, ast.Load(), **place), name, ast.Load(), **place
            )  # fmt: skip

        failed = ast.Call(ours("failed"), [], [], **place)
        raise_it = ast.If(
            ast.UnaryOp(ast.Not(), failed, **place), [ast.Raise(None, None, **place)], [], **place
        )
        handler = ast.ExceptHandler(ours("kinds"), None, [raise_it], **place)
        passed = ast.Expr(ast.Call(ours("passed"), [], [], **place), **place)
        return ast.Try([node], [handler], [passed], [], **place)


class Checks:
    """Keeps count while tests run; the tests' namespace holds it under `NAME`.

    `board` is memory shared with the worker, so that the count outlives the process. `tell` is
    called with the first failure; `leave` ends the process where too many asserts fail.
    """

    def __init__(
        self,
        tests: Instrumented,
        board: Any,
        tell: Callable[[BaseException], None],
        leave: Callable[[], NoReturn],
        kinds: tuple[type[BaseException], ...] = (Exception,),
    ) -> None:
        self.kinds = kinds
        self.failures = 0
        self._guarded, self._asserts = tests.guarded, tests.asserts
        self._board, self._tell, self._leave = board, tell, leave
        self._passed = self._ended = 0
        self._show()

    def passed(self) -> None:
        """An assert held."""
        self._passed += 1
        self._show()

    def failed(self) -> bool:
        """An assert failed, with the exception under way; whether the tests may go on."""
        error = sys.exc_info()[1]
        assert error is not None
        if self.failures == 0:
            if not self._reaches_the_top(sys._getframe(1)):
                return False
            self._tell(error)
        self.failures += 1
        self._show()
        if self.failures >= _FAILURES_BORNE:
            self._leave()
        return True

    def end(self) -> None:
        """The tests ran to their end."""
        self._ended = 1
        self._show()

    def _show(self) -> None:
        executed = self._passed + self.failures
        _BOARD.pack_into(self._board, 0, self._passed, executed, self._asserts, self._ended)

    def _reaches_the_top(self, frame: FrameType | None) -> bool:
        while frame is not None and frame.f_code.co_filename == FILE:
            line = frame.f_lineno
            if any(first <= line <= last for first, last in self._guarded):
                return False
            if frame.f_code.co_name == "<module>":
                return True
            frame = frame.f_back
        return False


def counted(board: Any, passed: bool) -> dict[str, int]:
    """Checks passed and in all, from the memory that `Checks` wrote to; `passed` is the verdict.

    Where the tests ran to their end, the asserts executed count; one that was not reached is in
    a branch not taken. Else the asserts of the text that were not reached count as not passed,
    and so does at least one. Tests without a counted assert are one check.
    """
    held, executed, asserts, ended = _BOARD.unpack_from(board, 0)
    if passed:
        whole = max(held, 1)
        return {"checks_passed": whole, "checks_total": whole}
    held = min(held, executed)
    total = max(executed, 1) if ended else max(executed, asserts, 1)
    return {"checks_passed": held, "checks_total": max(total, held + 1)}
