"""The code in a response: which block is meant, and in which language it is."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

from fusechat.annotators._code_static import Parsed, parse

_PYTHON = re.compile(r"(python|py|ipython|sage)[\d.]*|python-repl|pycon")
_LANGUAGES = {
    "javascript": "javascript js jsx node nodejs mjs", "typescript": "typescript ts tsx",
    "java": "java", "c": "c h", "c++": "c++ cpp cxx cc hpp", "c#": "c# cs csharp",
    "go": "go golang", "rust": "rust rs", "ruby": "ruby rb", "php": "php", "kotlin": "kotlin kt",
    "swift": "swift", "scala": "scala", "r": "r", "perl": "perl pl", "haskell": "haskell hs",
    "lua": "lua", "julia": "julia jl", "dart": "dart", "matlab": "matlab octave",
    "racket": "racket rkt scheme lisp clojure", "elixir": "elixir ex erlang", "ocaml": "ocaml ml",
    "fortran": "fortran f90", "pascal": "pascal delphi", "objective-c": "objective-c objc",
}  # fmt: skip
_BESIDE = {
    "shell": "bash sh shell zsh console terminal powershell cmd bat", "sql": "sql mysql",
    "html": "html xml css svg vue", "": "json yaml toml ini csv output markdown md",
}  # fmt: skip
"""What stands beside an answer: taken for it only where there is nothing else."""
_NAME_OF = {label: name for name, labels in _LANGUAGES.items() for label in labels.split()}
_BESIDE_OF = {label: name for name, labels in _BESIDE.items() for label in labels.split()}
_SHAPES = (
    ("php", r"<\?php"),
    ("c++", r"^[ \t]*(#include\s*<(bits/stdc|iostream|vector|string|map)|using namespace \w+;)"),
    ("c", r"^[ \t]*#include\s*[<\"]"),
    ("c#", r"^[ \t]*using System\b|Console\.(Write|Read)"),
    ("java", r"^[ \t]*(import java\.|public (static |final )*(class|void|int|boolean|String)\b)"
             r"|System\.out\.print"),
    ("go", r"^[ \t]*package \w+[ \t]*$|^func (\(\w+ \*?\w+\) )?\w+\("),
    ("rust", r"^[ \t]*(pub )?fn \w+ ?[(<].*\{|\bprintln!\("),
    ("javascript", r"^[ \t]*(export |async )*function *\w* *\(.*\{|^[ \t]*(const|let|var) \w+ *=|"
                   r"\bconsole\.log\("),
    ("ruby", r"^[ \t]*def \w+[?!]?(\(.*\))?[ \t]*\n(?:(?!end\b).*\n){0,50}?[ \t]*end[ \t]*$"),
)  # fmt: skip
_SHAPE_OF = tuple((name, re.compile(pattern, re.MULTILINE)) for name, pattern in _SHAPES)
_LOOKED_AT = 20_000


@dataclass(frozen=True)
class Found:
    """The code of a response."""

    code: str
    fenced: bool
    """Whether it stood in a fence."""
    parsed: Parsed
    other: str = ""
    """The language it is in, where that is not Python."""


def find_code(text: str) -> Found:
    """The last fenced block labelled Python; else the longest block; else the whole text.

    Blocks labelled as shell, data or output count only where there are no others. A fence that
    is never closed reaches to the end. The language is that of the label; without a label,
    that of its shape where Python cannot parse it.
    """
    blocks = fenced_blocks(text)
    labelled = [body for label, body in blocks if _PYTHON.fullmatch(label)]
    if labelled:
        return Found(labelled[-1], True, parse(labelled[-1]))
    main = [block for block in blocks if block[0] not in _BESIDE_OF] or blocks
    if not main:
        return _without_label(text, False)
    label, code = max(main, key=lambda block: len(block[1]))
    named = _NAME_OF.get(label) or _BESIDE_OF.get(label)
    return Found(code, True, Parsed(), named) if named else _without_label(code, True)


def _without_label(code: str, fenced: bool) -> Found:
    parsed = parse(code)
    start = code[:_LOOKED_AT]
    other = ""
    if parsed.fault:
        other = next((name for name, shape in _SHAPE_OF if shape.search(start)), "")
    return Found(code, fenced, parsed, other)


_FENCE = re.compile(r"^[ \t>]*(`{3,}|~{3,})[ \t]*([^\s`]*)[^`]*$")


def fenced_blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks that are not blank: label in small letters, and code. A fence that is
    never closed reaches to the end."""
    blocks: list[tuple[str, str]] = []
    fence, label, lines = "", "", list[str]()
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if not fence:
            if mark:
                fence, label, lines = mark.group(1), mark.group(2).lower().strip("{}."), []
        elif mark and mark.group(1).startswith(fence) and not mark.group(2):
            blocks.append((label, textwrap.dedent("\n".join(lines))))
            fence = ""
        else:
            lines.append(line)
    if fence and lines:
        blocks.append((label, textwrap.dedent("\n".join(lines))))
    return [(label, body) for label, body in blocks if body.strip()]
