"""The forms in which a prompt's tests come, each turned into Python source with asserts.

- Python source: `assert f(1) == 2`.
- `{"test": ..., "entry_point": "f", "setup": ...}` (HumanEval, LeetCodeDataset): source that
  defines `check(candidate)`, called with the entry point, which may be `Solution().f`.
- `{"test_list": [...], "test_setup_code": ...}` (MBPP).
- `{"fn_name": "f", "inputs": [[1, 2], ...], "outputs": [3, ...]}` (APPS, TACO, LiveCodeBench):
  calls of a function, or of the method of a class `Solution`. An input is the list of the
  arguments, or a text with one argument as JSON on each line.
- `{"inputs": ["1 2\\n", ...], "outputs": ["3\\n", ...]}`: what a script reads and must print.
- `[{"input": ..., "output": ..., "testtype": "stdin" or "functional"}, ...]`: the same as a list.

`setup` (also `prompt`, `test_setup_code`, `test_imports`) runs before the program. Calls get
the imports that their sites provide (`typing`, `collections`, `math`, ...) where there is none.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fusechat.annotators._code_static import Parsed, parse

SCRIPT = "__run_script__"
"""What the sandbox calls its runner of scripts: from standard input to standard output."""
CALL_SETUP = """\
import bisect, collections, copy, datetime, functools, heapq, itertools, math, operator, random, re
import string
from string import *
from operator import *
from bisect import *
from collections import *
from functools import *
from heapq import *
from itertools import *
from math import *
from typing import *
from builtins import *
"""
"""Imported before a program that is called as on LeetCode, where these are there already."""


@cache
def call_names() -> frozenset[str]:
    """Names that `CALL_SETUP`, our own text, gives to a program."""
    names: dict[str, Any] = {}
    exec(CALL_SETUP, names)
    return frozenset(names)


_PRELUDE = """\
def _fusechat_close(got, wanted):
    import math
    if not (math.isfinite(got) and math.isfinite(wanted)):
        return got == wanted
    return abs(got - wanted) <= 1e-6 * max(1.0, abs(wanted))
def _fusechat_same(got, wanted):
    if isinstance(got, tuple):
        got = list(got)
    if isinstance(wanted, list):
        return (isinstance(got, list) and len(got) == len(wanted)
                and all(map(_fusechat_same, got, wanted)))
    if isinstance(wanted, dict):
        return (isinstance(got, dict) and len(got) == len(wanted)
                and all(str(k) in wanted and _fusechat_same(v, wanted[str(k)])
                        for k, v in got.items()))
    if isinstance(wanted, float) and type(got) in (int, float):
        return _fusechat_close(got, wanted)
    return got == wanted
def _fusechat_either(got, wanted):
    return _fusechat_same(got, wanted) or _fusechat_same(got, wanted[0])
def _fusechat_same_number(got, wanted):
    from decimal import Decimal, InvalidOperation
    if "_" in got + wanted:
        return False
    try:
        if Decimal(got) == Decimal(wanted):
            return True
        if wanted.lstrip("+-").isdigit() or float(wanted) in (float("inf"), -float("inf")):
            return False
        return _fusechat_close(float(got), float(wanted))
    except (InvalidOperation, ValueError):
        return False
def _fusechat_same_output(got, wanted):
    got, wanted = ([line.rstrip() for line in text.rstrip().split("\\n")]
                   for text in (got, wanted))
    if len(got) != len(wanted):
        return False
    return all(
        len(line) == len(right) and all(a == b or _fusechat_same_number(a, b)
                                        for a, b in zip(line, right))
        for line, right in ((a.split(" "), b.split(" ")) for a, b in zip(got, wanted)))
"""


class UnreadableTestsError(ValueError):
    """Tests in JSON that are none of the forms; the message says what is wrong."""


@dataclass(frozen=True)
class PromptTests:
    """A prompt's tests as Python source; `setup` runs before the program."""

    source: str
    setup: str = ""
    function: str = ""
    """The function that `source` calls, where that may be a method of `Solution` as well."""
    script: bool = False
    """Whether the program is run as a script, not called."""

    def program(self, code: str) -> str:
        """The code as the sandbox is given it: behind the setup, and kept from running at once
        where it is a script."""
        whole = joined(self.setup, code)
        return as_script(whole) if self.script and code.strip() else whole

    def for_program(self, program: Parsed) -> str:
        """The source that tests this program."""
        if not self.function:
            return self.source
        method = any(
            isinstance(node, ast.ClassDef)
            and node.name == "Solution"
            and any(getattr(inner, "name", "") == self.function for inner in node.body)
            for node in (program.tree.body if program.tree else ())
        )
        called = f"Solution().{self.function}" if method else self.function
        return f"{_PRELUDE}_fusechat_call = {called}\n{self.source}"


def read_tests(text: str) -> PromptTests:
    """Tests of any form. Raises `UnreadableTestsError` for JSON that is none."""
    start = text.lstrip()[:1]
    if start not in ("{", "["):
        return PromptTests(text)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        if parse(text).tree is not None:
            return PromptTests(text)
        raise UnreadableTestsError(f"neither Python nor JSON: {error}") from error
    if isinstance(found, list):
        return _from_list(found)
    if "test" in found:
        return _from_check(found)
    if "test_list" in found:
        return PromptTests("\n".join(_texts(found, "test_list")), _setup(found))
    return _from_columns(found)


def as_script(program: str) -> str:
    """The program in a form that does nothing unless it is run as a script."""
    compiled = f"compile({program!r}, '<program>', 'exec', dont_inherit=True)"
    return f"if __name__ == '__main__':\n    exec({compiled}, globals())\n"


def joined(setup: str, program: str) -> str:
    """The program behind its setup; `from __future__` imports go first, where they must be."""
    tree = parse(program).tree if setup and "__future__" in program else None
    first = [
        node
        for node in (tree.body if tree else ())
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
    ]
    if not setup or not first:
        return f"{setup.rstrip()}\n{program}" if setup.strip() else program
    lines = program.splitlines()
    for node in first:
        for number in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[number] = ""
    kept = "\n".join(lines)
    return "\n".join([*map(ast.unparse, first), setup.rstrip(), kept])


def _from_check(found: Mapping[str, Any]) -> PromptTests:
    test = found["test"]
    if not isinstance(test, str):
        raise UnreadableTestsError("'test' must be Python source")
    called = found.get("entry_point")
    if called is None:
        return PromptTests(test, _setup(found))
    if not isinstance(called, str) or parse(called).tree is None:
        raise UnreadableTestsError("'entry_point' must be the name of a function")
    return PromptTests(f"{test}\ncheck({called})\n", _setup(found))


def _from_columns(found: Mapping[str, Any]) -> PromptTests:
    inputs, outputs = found.get("inputs"), found.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        raise UnreadableTestsError("no 'test', no 'test_list', no lists 'inputs' and 'outputs'")
    if len(inputs) != len(outputs):
        raise UnreadableTestsError(f"{len(inputs)} inputs, but {len(outputs)} outputs")
    if "fn_name" in found:
        return _calls(found["fn_name"], inputs, outputs, _setup(found))
    return _scripts(inputs, outputs, _setup(found))


def _from_list(found: Sequence[Any]) -> PromptTests:
    if not all(isinstance(row, dict) and {"input", "output"} <= row.keys() for row in found):
        raise UnreadableTestsError("a list of other things than objects with 'input' and 'output'")
    kinds = {row.get("testtype", "stdin") for row in found}
    inputs, outputs = [row["input"] for row in found], [row["output"] for row in found]
    if kinds <= {"stdin"}:
        return _scripts(inputs, outputs, "")
    names = {row.get("fn_name") or row.get("func_name") for row in found}
    if kinds != {"functional"} or len(names) != 1 or None in names:
        raise UnreadableTestsError(
            "'testtype' must be 'stdin' in all rows, or 'functional' with the same 'fn_name'"
        )
    return _calls(names.pop(), inputs, outputs, "")


def _calls(name: Any, inputs: Sequence[Any], outputs: Sequence[Any], setup: str) -> PromptTests:
    if not isinstance(name, str) or not name.isidentifier():
        raise UnreadableTestsError("'fn_name' must be the name of a function")
    wrapped = all(isinstance(out, list) and len(out) == 1 for out in outputs)
    lines = []
    for number, (given, out) in enumerate(zip(inputs, outputs, strict=True)):
        arguments = ", ".join(map(_literal, _arguments(given, number)))
        wanted = _from_json(out, number) if isinstance(given, str) else out
        same = "_fusechat_either" if wrapped else "_fusechat_same"
        lines.append(f"assert {same}(_fusechat_call({arguments}), {_literal(wanted)})\n")
    return PromptTests("".join(lines), setup or CALL_SETUP, name)


def _arguments(given: Any, number: int) -> Iterator[Any]:
    if isinstance(given, list):
        yield from given
    elif isinstance(given, str):
        for line in given.strip().split("\n"):
            yield _from_json(line, number)
    else:
        yield given


def _from_json(text: Any, number: int) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError) as error:
        raise UnreadableTestsError(
            f"test {number + 1}: {text[:40]!r} is no JSON, as an argument or a result of a call "
            f"must be: {error}"
        ) from error


def _scripts(inputs: Sequence[Any], outputs: Sequence[Any], setup: str) -> PromptTests:
    lines = []
    for number, (given, out) in enumerate(zip(inputs, outputs, strict=True)):
        stdin, wanted = _printed(given, number), _printed(out, number)
        lines.append(f"assert _fusechat_same_output({SCRIPT}({stdin!r}), {wanted!r})\n")
    return PromptTests(_PRELUDE + "".join(lines) if lines else "", setup, script=True)


def _printed(value: Any, number: int) -> str:
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    if isinstance(value, str | int | float):
        return str(value)
    raise UnreadableTestsError(f"test {number + 1}: input and output of a script must be texts")


def _setup(found: Mapping[str, Any]) -> str:
    keys = ("test_imports", "setup", "prompt", "test_setup_code")
    parts = [part for key in keys for part in _texts(found, key)]
    return "\n".join(part for part in parts if part.strip())


def _texts(found: Mapping[str, Any], key: str) -> list[str]:
    value = found.get(key) or []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UnreadableTestsError(f"'{key}' must be Python source, or a list of it")
    return texts


def _literal(value: Any) -> str:
    """Python source of a JSON value."""
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k!r}: {_literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, float) and repr(value) in ("inf", "-inf", "nan"):
        return f"float({repr(value)!r})"
    return repr(value)
