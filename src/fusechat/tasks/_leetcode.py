"""Worked examples of LeetCode statements -> tests that can be run. Pure.

A statement shows examples as `Input: nums = [2,7], target = 9` and `Output: [0,1]`. They become
`{"fn_name": ..., "inputs": [[...]], "outputs": [...]}`, a form that `code_tests` reads and calls
as a function or as a method of `Solution`. Where an example does not say all that a right answer
must be (several are right, arguments are changed in place, nodes are built first), there are no
tests: a test that calls right programs wrong would be worse than none.

The published set writes its examples in Markdown with escapes (`\\[0,1\\]`), and with a space
before every quotation mark (`s =  "abc "`); both are undone. Some of its solutions are of other
problems, so a solution names the method only where its parameters are those of the examples.
"""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LABEL = re.compile(
    r"(?:\*\*|__)\s*(Input|Output|Expl[ai]+nation|Example[^*_\n]*|Constraints?|Note|Follow[- ]up)"
    r"(:?)\s*(?:\*\*|__)(:?)",
    re.IGNORECASE,
)
_TAG = re.compile(r"</?(?:p|pre|strong|em|b|i|code|div|span|font|u|ul|li|sup|br)\b[^>]*>", re.I)
_EXAMPLE = re.compile(
    r"Input:?[ \t]*\s*(?P<given>\S.*?)\s*\n?\s*Output:?[ \t]*\s*(?P<wanted>\S.*?)\s*"
    r"(?=\n\s*\n|\n\s*(?:Expl[ai]+nation|Example|Constraints?|Note|Input|Follow)\b|\Z)",
    re.DOTALL,
)
_NAME = re.compile(r"(?:^|,)\s*([A-Za-z_]\w*)\s*=(?!=)")
_SEVERAL = re.compile(
    r"\bany (?:order|valid|of (?:them|the)|one of)|\breturn[\W_]+(?:any|all)\b|\bnot unique\b|"
    r"\b(?:multiple|several|many|more than one) (?:\w+ ){0,2}(?:answers?|solutions?|results?)\b"
    r"(?!.{0,80}\b(?:smallest|largest|shortest|longest|minimum|maximum|earliest|first|last|"
    r"lexicographically)\b)",
    re.IGNORECASE | re.DOTALL,
)
_IN_PLACE = re.compile(
    r"in[- ]place|do not return anything|don't return anything|modify (?:the|nums|board)",
    re.IGNORECASE,
)
_ROUNDED = re.compile(r"\b10\s*\^?\s*(?:<sup>)?\s*[-−]\s*[456]\b|\brounded\b", re.IGNORECASE)
_NODES = re.compile(
    r"\b(?:ListNode|TreeNode|NestedInteger|Node\*|linked[- ]lists?|binary (?:search )?trees?|BSTs?|"
    r"n-ary|quad-?trees?|nested lists?|class Node)\b",
    re.IGNORECASE,
)
_NODE_NAMES = {"root", "root1", "root2", "head", "heada", "headb", "l1", "l2", "list1", "list2"}
_DRAWN = re.compile(r"\brandom(?:ly)?\b|\bprobability of (?:each|being)\b", re.IGNORECASE)
_OWN_FUNCTIONS = re.compile(r"\bAPIs?\b|\binterface\b")
_ESCAPE = re.compile(r"\\([\\\[\]_*`~>#+.!(){}-])")
_NO_EXAMPLE = "no worked example that can be called"


class NoTestsError(ValueError):
    """A statement whose examples cannot be run; the message is a short reason."""


@dataclass(frozen=True)
class Signature:
    """What is called: a name and the names of its parameters."""

    name: str
    parameters: tuple[str, ...]
    source: str = ""
    """The code as the site shows it, `class Solution:` and the empty method."""

    @property
    def starter(self) -> str:
        """The code to be completed."""
        said = ", ".join(("self", *self.parameters))
        return self.source.rstrip() or f"class Solution:\n    def {self.name}({said}):"


def signature_of(code: str, parameters: Sequence[str] | None = None) -> Signature | None:
    """A function, or a method of `Solution`, that a solution in Python defines.

    With `parameters` the first that has just these, in any order; else the first. None where
    there is none, or the code does not parse.
    """
    try:
        body = ast.parse(_code_in(code)).body
    except (SyntaxError, ValueError, RecursionError):
        return None
    own = next((n for n in body if isinstance(n, ast.ClassDef) and n.name == "Solution"), None)
    for node in own.body if own else body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            names = tuple(arg.arg for arg in node.args.args)[1 if own else 0 :]
            if parameters is None or sorted(names) == sorted(parameters):
                return Signature(node.name, names)
    return None


def example_tests(content: str, slug: str, solution: str) -> tuple[str, Signature]:
    """Tests from a statement's examples, as JSON, and what they call.

    Raises `NoTestsError` with the reason where there are none. `solution`, in Python, gives the
    method's name where it fits the examples; else that is the `slug` in camel case.
    """
    plain = plain_text(content)
    for pattern, reason in (
        (_SEVERAL, "several answers are right"),
        (_IN_PLACE, "changes its arguments in place"),
        (_ROUNDED, "answers are rounded"),
        (_DRAWN, "answers are drawn at random"),
        (_OWN_FUNCTIONS, "calls functions of the site"),
        (_NODES, "its examples are built of nodes"),
    ):
        if pattern.search(plain):
            raise NoTestsError(reason)
    cases = _cases(plain)
    if not cases:
        raise NoTestsError(_NO_EXAMPLE)
    names = tuple(cases[0][0])
    if any(tuple(given) != names for given, _ in cases):
        raise NoTestsError("its examples have different arguments")
    if {name.lower() for name in names} & _NODE_NAMES:
        raise NoTestsError("its examples are built of nodes")
    called = signature_of(solution, names) or Signature(_camel(slug), names)
    inputs = [[given[name] for name in called.parameters] for given, _ in cases]
    outputs = [wanted for _, wanted in cases]
    form = {"fn_name": called.name, "inputs": inputs, "outputs": outputs}
    return json.dumps(form, ensure_ascii=False), called


def _camel(slug: str) -> str:
    first, *rest = re.findall(r"[a-z0-9]+", slug.lower()) or ["solve"]
    name = first + "".join(word.capitalize() for word in rest)
    return name if name[0].isalpha() else f"solve{name.capitalize()}"


def plain_text(content: str) -> str:
    """A statement in Markdown or HTML without the marks around its words."""
    text = content.replace("```", "\n").replace("`", "").replace("\r", "")
    if re.search(r"<(?:p|pre)\b", content):
        text = html.unescape(_TAG.sub("", text))
    elif re.search(r"\\[\[\]_*]", text):
        text = _ESCAPE.sub(r"\1", text)
    return _LABEL.sub(r"\1\2\3", text).replace("\xa0", " ")


def _cases(plain: str) -> list[tuple[Mapping[str, Any], Any]]:
    """Arguments and result of each example that can be read."""
    matches = list(_EXAMPLE.finditer(plain))
    shown = "".join(match[0] for match in matches)
    spaced = '"' in shown and not re.search('(?<! )"', shown)
    found: list[tuple[Mapping[str, Any], Any]] = []
    for match in matches:
        texts = (
            match[name].replace(' "', '"') if spaced else match[name]
            for name in ("given", "wanted")
        )
        given, wanted = next(texts), _value(next(texts))
        arguments = _arguments(given)
        if arguments is not None and wanted is not _UNREAD:
            found.append((arguments, wanted))
    return found


def _arguments(text: str) -> Mapping[str, Any] | None:
    """Names and values of `nums = [1,2], k = 3`; None where it is not of that form."""
    names = list(_NAME.finditer(text))
    if not names or text[: names[0].start()].strip():
        return None
    out: dict[str, Any] = {}
    for number, match in enumerate(names):
        end = names[number + 1].start() if number + 1 < len(names) else len(text)
        value = _value(text[match.end() : end])
        if value is _UNREAD or match[1] in out:
            return None
        out[match[1]] = value
    return out


_UNREAD = object()


def _value(text: str) -> Any:
    """A value as the site writes it (JSON, or Python's literals); `_UNREAD` where it is none."""
    text = text.strip().rstrip(",;")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _UNREAD
    return value if isinstance(value, (str, int, float, list)) else _UNREAD


def _code_in(text: str) -> str:
    """The code of a column, which may stand in a fence with an explanation behind it."""
    match = re.search(r"```\w*[ \t]*\n(.*?)```", text, re.DOTALL)
    return match[1] if match else text
