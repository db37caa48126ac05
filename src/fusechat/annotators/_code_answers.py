"""The program in an answer to a code benchmark: as FuseEval takes it, and as it can be found.

An answer may go on from a beginning with an opened fence; its text has no opening fence then.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from fusechat.annotators._code_extract import fenced_blocks, find_code
from fusechat.annotators._code_static import Parsed, parse
from fusechat.records import Message

FENCE = "```"
_TRIED = 200
"""Most lines that are left out at the end of code that does not compile."""


def begun_with_fence(messages: Sequence[Message]) -> bool:
    """Whether the answer was begun with an opened fence."""
    last = messages[-1]
    return last.role == "assistant" and last.content.count(FENCE) % 2 == 1


def as_evalplus(text: str, begun: bool) -> str:
    """The text up to the closing fence, tabs as four spaces; of an answer that was not begun, its
    first fenced block, or all of it where it has none."""
    if begun:
        return text.partition(f"\n{FENCE}")[0].replace("\t", "    ")
    blocks = fenced_blocks(text)
    return (blocks[0][1] if blocks else text).replace("\t", "    ")


def stopped(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text up to the first of the stop strings, and whether there was one."""
    ends = [at for one in stop if one and (at := text.find(one)) >= 0]
    return (text[: min(ends)], True) if ends else (text, False)


def as_live_code_bench(text: str) -> str:
    """The lines between the first two lines with a fence; empty where there are fewer."""
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if FENCE in line]
    return "\n".join(lines[fences[0] + 1 : fences[1]]) if len(fences) > 1 else ""


def defining(text: str, begun: bool, name: str) -> str:
    """The program that defines `name`: the last fenced block that does so and compiles.

    Where none does: the beginning of the longest such block that compiles, then what `find_code`
    finds.
    """
    whole = f"{FENCE}python\n{text}" if begun else text
    found = find_code(whole)
    blocks = [body for _, body in fenced_blocks(whole)] or [found.code]
    if begun:  # a model may open the fence once more
        blocks = [*(body for _, body in fenced_blocks(text)), *blocks]
    for body in reversed(blocks):
        if defines(parse(body), name):
            return body
    for body in sorted(blocks, key=len, reverse=True):
        if shorter := _compiling(body, name):
            return shorter
    return found.code


def defines(parsed: Parsed, name: str) -> bool:
    """Whether a program gives `name` a value at its top level."""
    for node in parsed.tree.body if parsed.tree else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name == name:
                return True
        elif isinstance(node, ast.Assign):
            if any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
                return True
        elif isinstance(node, ast.Import | ast.ImportFrom) and any(
            (alias.asname or alias.name) == name for alias in node.names
        ):
            return True
    return False


def _compiling(code: str, name: str) -> str:
    """The longest beginning of the code, by lines, that compiles and defines `name`."""
    lines = code.splitlines()
    for upto in range(len(lines) - 1, max(0, len(lines) - _TRIED), -1):
        shorter = "\n".join(lines[:upto])
        if defines(parse(shorter), name):
            return shorter
    return ""
