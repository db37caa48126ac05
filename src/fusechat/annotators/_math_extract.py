"""Where a response states its final answer, and which of several statements stands."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from fusechat.annotators._math_reading import is_value

Form = Literal["boxed", "hashes", "line", "sentence"]
FORMS: tuple[Form, ...] = ("boxed", "hashes", "line", "sentence")

_STATED_AT_MOST = 300
"""Characters of a final answer in words; what is longer is a text, not an answer."""
_LOOKED_AT = 100
"""Statements in words that are looked at, from the end of the text."""
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"(?<!\\)[{}]")
_HASHES = re.compile(r"^.*####[ \t]*(\S.*)$", re.MULTILINE)
_MARKS = r"[ \t>*_#]*"
_LAST_LINE = re.compile(rf"^{_MARKS}A{_MARKS}[::]{_MARKS}(\S.*)$")
_LINE = re.compile(
    rf"^{_MARKS}(?:the[ \t]+)?(?:final[ \t]+)?(?:answer|(?:最终|最后)?答案|答)"
    rf"{_MARKS}[::]{_MARKS}(.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_HEADING = re.compile(
    r"^[ \t>]*(?:#+|\*\*|__)[ \t*_]*(?:the[ \t]+)?(?:final[ \t]+)?(?:answer|(?:最终|最后)?答案)"
    rf"{_MARKS}$",
    re.IGNORECASE | re.MULTILINE,
)
_BELOW = re.compile(r"\s*(\\\[[^$]{1,300}?\\\]|\$\$[^$]{1,300}\$\$|[^\n]*)")
_SENTENCE = re.compile(
    r"\b(?:answer|solution)[ \t]+(?:(?:is|equals)\b(?!['’])|=|(?:should|must|would)[ \t]+be\b)"
    r"[ \t]*[::]?"
    r"|答案(?:应该|应)?[是为][::]?|故(?:答案)?选[::]?",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"\n|[.!][ \t\n]|[.!]$|。|;|I hope")
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?%?")

_BETWEEN = re.compile(
    r"[\s$.]*(?:\\[\])])?[\s$]*(?:[,;]|,?\s*(?:\\text\s*\{\s*)?(?:and|or)\b(?:\s*\})?)"
    r"(?:\s|[$,;~]|\\quad|\\[(\[,;: ])*"
)
"""What stands between two boxes that are one list."""
_OR = re.compile(
    r"[\s$]*(?:\\[\])])?[\s$,]*(?:\\text\s*\{\s*)?or\b(?:\s*\})?[\s$]*(?:\\[(\[])?\s*(-?\d[\d.,/]*)"
)
_DENIED = re.compile(
    r"(?:\b(?:not|never)|n['’]t|\bcannot)(?:\s+(?:be|equal|to))*\s*[:$(\[\\ ]*$", re.IGNORECASE
)
_DENIES = re.compile(r"[*_$\s]*(?:\\text\s*\{\s*)?(?:not|never|neither)\b", re.IGNORECASE)
_IT_IS = (
    r"\b(?:it|that|this|answer|value|result)"
    r"(?:['’]s|[ \t]+(?:is|equals|should[ \t]+(?:be|have[ \t]+been)|must[ \t]+be))"
    r"[ \t]*:?[ \t]*(?:actually|really|in[ \t]fact)?[ \t]*"
)
_REVISED = re.compile(
    r"\b(?:wait|actually|sorry|oops|mistake|wrong|incorrect|(?-i:No[,.]))[^\n]{0,80}?" + _IT_IS,
    re.I,
)
_REVISED_SHORTLY = re.compile(
    r"(?:\b(?:wait|actually|sorry|oops|correction|edit|I[ \t]+mean)\b[ \t,:.!–—-]*"
    r"|\bno[,:!–—][ \t]*"
    r"|\b(?:correct(?:ed)?|final|right|true)[ \t]+(?:answer|value|result)[ \t]*(?:is|=|:)[ \t]*)"
    r"(?=[-$\\]?[\d$(\\])",
    re.IGNORECASE,
)
_NOT_BUT = re.compile(r"\bnot\b[^\n]{0,80}?" + _IT_IS, re.IGNORECASE)
"""Behind a denial only: "the answer is not 5, it is 6"."""
_WITHDRAWN = re.compile(
    r"(?:^[\s$.*)\]]*|\b(?:that|this|it|answer|calculation)[ \t]*)(?:is|was|['’]s)[ \t]+"
    r"(?:wrong|incorrect|not[ \t]+(?:right|correct)|a[ \t]+mistake)\b"
    r"|\bI(?:['’]ve|[ \t]+have)?[ \t]+made[ \t]+an?[ \t]+(?:mistake|error)\b|\bscratch[ \t]+that\b",
    re.IGNORECASE,
)
_IS_NOT = re.compile(r"\b(?:is[ \t]+not|isn['’]t|cannot[ \t]+be|can['’]t[ \t]+be)[ \t]+([^\s,;]+)")
_LAST_WORDS = 200
"""Characters behind the last statement within which it may be withdrawn."""


@dataclass(frozen=True)
class _Stated:
    start: int
    end: int
    text: str


def final_answer(
    text: str, forms: tuple[Form, ...] = FORMS, last_number: bool = False
) -> str | None:
    """The final answer that `text` states and that stands at its end; else none.

    The first of `forms` that the text has, at its last place; a later statement in another
    form, or a correction ("wait, no: it is 6"), replaces it where it is a value. Statements
    that say what the answer is not do not count, and one that is withdrawn at the end of the
    text leaves none. The text between the marks, as it stands: `\\boxed{\\frac12}` gives
    `\\frac12`; boxes joined by a comma, "and" or "or" give a list.
    """
    found = {form: list(_FINDERS[form](text)) for form in forms}
    first = next((f for f in forms if any(_usable(f, s) for s in found[f])), None)
    first = first or next((form for form in forms if found[form]), None)
    if first is None:
        numbers = _NUMBER.findall(text) if last_number else []
        return numbers[-1] if numbers else None
    chosen = _last(first, found[first])
    later = [s for form in forms for s in found[form] if _replaces(form, s, chosen)]
    for stated in sorted([*later, *_revisions(text, chosen)], key=lambda s: s.start):
        chosen = stated
    return chosen.text if chosen.text and not _withdrawn(text, chosen) else None


@lru_cache(maxsize=2048)
def gold_answer(text: str) -> str:
    """The gold answer within a prompt set's label, which may hold a whole solution."""
    return (final_answer(text, ("boxed", "hashes", "line")) or text).strip()


_WORD = re.compile(r"(?<![\\\w{])[^\W\d_]{2,}(?=[\s.,])")


def stated_or_whole(text: str) -> str | None:
    """The final answer that `text` states, else the whole text, unless that is a long prose."""
    stated = final_answer(text)
    whole = text.strip()
    prose = len(whole) > _STATED_AT_MOST and len(_WORD.findall(whole[:2000])) >= 5
    return stated or (None if prose else whole or None)


def _usable(form: Form, stated: _Stated) -> bool:
    """Whether it decides the form. In need only: a denial, a heading (`#### Step 1`), and words
    that are no name (`the answer is always here`)."""
    named = form in ("boxed", "line") or (form == "sentence" and not stated.text[:1].islower())
    return bool(stated.text) and (named or is_value(stated.text))


def _last(form: Form, found: list[_Stated]) -> _Stated:
    return next((s for s in reversed(found) if _usable(form, s)), found[-1])


def _replaces(form: Form, stated: _Stated, chosen: _Stated) -> bool:
    letters = stated.text.strip("()").isalpha() and not chosen.text.strip("()").isalpha()
    return stated.start >= chosen.end and is_value(stated.text) and not letters


def _revisions(text: str, chosen: _Stated) -> Iterator[_Stated]:
    start = chosen.end if chosen.text else max(0, chosen.start - 8)
    for pattern in (_REVISED, _REVISED_SHORTLY, *([] if chosen.text else [_NOT_BUT])):
        for mark in pattern.finditer(text, start):
            said = _until_sentence_end(text, mark.end())
            if is_value(said):
                yield _Stated(mark.end(), mark.end() + len(said), said)


def _withdrawn(text: str, chosen: _Stated) -> bool:
    tail = text[chosen.end : chosen.end + _LAST_WORDS + 1]
    if len(tail) > _LAST_WORDS:
        return False
    said = {found.group(1).strip("$.*()\\") for found in _IS_NOT.finditer(tail)}
    return chosen.text.strip("$.*()\\") in said or bool(_WITHDRAWN.search(tail))


def _boxed(text: str) -> Iterator[_Stated]:
    """Every box with something in it; an empty text where the box is denied."""
    closes: dict[int, int] = {}
    opened: list[int] = []
    boxes = list(_BOX.finditer(text))
    for mark in _BRACE.finditer(text) if boxes else ():
        if mark.group() == "{":
            opened.append(mark.start())
        elif opened:
            closes[opened.pop()] = mark.start()
    before: _Stated | None = None
    for box in boxes:
        start = box.end() - 1
        inside = text[start + 1 : closes[start]].strip() if start in closes else ""
        if not inside or (before and box.start() < before.end):
            if inside and before:  # a box within a box: the inner one is the answer
                before = _Stated(before.start, before.end, inside)
            continue
        if before:
            joined = _BETWEEN.fullmatch(text, before.end, min(box.start(), before.end + 60))
            if joined and joined.end() == box.start() and before.text and before.text != inside:
                link = " or " if re.search(r"\bor\b", joined.group()) else ", "
                before = _Stated(before.start, closes[start] + 1, before.text + link + inside)
                continue
            yield before
        denied = _DENIED.search(text[max(0, box.start() - 40) : box.start()])
        before = _Stated(box.start(), closes[start] + 1, "" if denied else inside)
    if before:
        other = _OR.match(text, before.end)
        more = f" or {other.group(1).rstrip('.,')}" if other and before.text else ""
        yield _Stated(before.start, before.end, before.text + more)


def _hashes(text: str) -> Iterator[_Stated]:
    for found in _HASHES.finditer(text):
        said = found.group(1).strip()
        yield _Stated(found.start(1), found.end(1), "" if _denies(said) else said)


def _line(text: str) -> Iterator[_Stated]:
    kept = text.rstrip()
    start = max(kept.rfind("\n"), kept.rfind("\r")) + 1
    marks = [*_LINE.finditer(text), *_HEADING.finditer(text)]
    for found in sorted(marks, key=lambda mark: mark.start())[-_LOOKED_AT:]:
        said, end = (found.group(1) if found.re is _LINE else "").strip(" \t*_"), found.end()
        start = end - len(said)
        if not said:
            below = _BELOW.match(text, found.end())
            said, end = (" ".join(below.group(1).split()), below.end()) if below else ("", end)
        if said and len(said) <= _STATED_AT_MOST:
            yield _Stated(start, end, "" if _denies(said) else _calm(said))
    last = _LAST_LINE.match(kept[start:])
    if last and len(last.group(1)) <= _STATED_AT_MOST:
        said = last.group(1).strip()
        yield _Stated(start + last.start(1), len(kept), "" if _denies(said) else _calm(said))


def _calm(said: str) -> str:
    """The first sentence where that is a value; without its exclamation mark (no factorial)."""
    first = _until_sentence_end(said, 0)
    return first if is_value(first) else said


def _sentence(text: str) -> Iterator[_Stated]:
    for found in deque(_SENTENCE.finditer(text), maxlen=_LOOKED_AT):
        said = _until_sentence_end(text, found.end())
        if said and len(said) <= _STATED_AT_MOST:
            start = found.end()
            yield _Stated(start, start + len(said) + 1, "" if _denies(said) else said)


def _until_sentence_end(text: str, start: int) -> str:
    stop = min(len(text), start + 4 * _STATED_AT_MOST)
    while start < stop and text[start].isspace():
        start += 1
    end = _SENTENCE_END.search(text, start, stop)
    return text[start : end.start() if end else stop].strip()


def _denies(said: str) -> bool:
    return bool(_DENIES.match(said)) and any(map(str.isdigit, said))


_FINDERS: dict[Form, Callable[[str], Iterator[_Stated]]] = {
    "boxed": _boxed, "hashes": _hashes, "line": _line, "sentence": _sentence,
}  # fmt: skip
