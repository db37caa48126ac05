"""Tests that stand in the text of an instruction or of an answer. Pure."""

from __future__ import annotations

import ast
import re

_BLOCK = re.compile(
    r"^[ \t]*```(?:python|py)?[\d.]*[ \t]*\n(.*?)^[ \t]*```", re.DOTALL | re.M | re.I
)
_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)


def code_and_tests(text: str) -> tuple[str, str]:
    """The code of the fenced blocks without its tests, and its tests; either may be empty.

    Tests are what stands behind the last definition of a block that asserts something, and
    whole test functions (`test_...`, `check_...`) where something calls them.
    """
    code: list[str] = []
    tests: list[str] = []
    for block in _BLOCK.findall(text):
        try:
            body = ast.parse(block).body
        except (SyntaxError, ValueError, RecursionError):
            continue
        own, checks = _parted(body)
        code += [_source(block, node) for node in own]
        tests += [_source(block, node) for node in checks]
    return "\n".join(code), "\n".join(tests)


def _parted(body: list[ast.stmt]) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """The statements of a program, and those that test it."""
    first = 0
    for number, node in enumerate(body):
        if isinstance(node, _DEFINES) and not _is_test(node):
            first = number + 1
    own, checks = body[:first], body[first:]
    early = [node for node in own if isinstance(node, _DEFINES) and _is_test(node)]
    runs = any(not isinstance(node, (*_DEFINES, *_IMPORTS)) for node in checks)
    asserts = any(isinstance(n, ast.Assert) for node in (*early, *checks) for n in ast.walk(node))
    if not (runs and asserts):
        return body, []
    return [node for node in own if node not in early], [*early, *checks]


def _is_test(node: ast.stmt) -> bool:
    return getattr(node, "name", "").lower().startswith(("test", "check"))


def _source(block: str, node: ast.stmt) -> str:
    lines = block.splitlines()
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
    return "\n".join(lines[first - 1 : node.end_lineno])
