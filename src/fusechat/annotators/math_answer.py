"""Final answers of mathematics, held against the gold answer by math-verify.

Method: FuseChat-3.0 compares the final answer of a response with the label of the prompt
set; which equality it used is not stated. Here it is math-verify 0.9.0 with the ANTLR runtime
4.13.2: with 4.11 it says, without a warning, that `10\\%` is not `10`.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar, Literal

from pydantic import Field

from fusechat.children import KillableChild, Outcome
from fusechat.errors import MissingExtraError, PartError
from fusechat.parts import Annotator, Where, Work
from fusechat.records import Candidate, Score

Form = Literal["boxed", "hashes", "line", "sentence"]
FORMS: tuple[Form, ...] = ("boxed", "hashes", "line", "sentence")

_PERCENT = (r"\boxed{10\%}", r"\boxed{10}")
_MEMORY_MB = 4096
_CACHED = 200_000


class MathAnswer(Annotator):
    """Whether the final answer equals the gold answer: 1.0 or 0.0, by math-verify.

    The final answer is looked for in the order of `extract`: the last `\\boxed{...}`; the last
    line `#### x`; a last line `A: x`, or the last line `Answer: x`; the last "the answer is x"
    or "答案是 x". A whole response that states none is wrong ("no final answer"); with
    `last_number` its last number is taken instead. A cut, failed or empty response, and a
    prompt without a gold answer that can be parsed, is unscorable; where math-verify takes
    longer than `timeout` seconds, dies or raises, the score is an error.
    """

    requires: ClassVar[Mapping[str, str]] = {"math_verify": "math"}

    needs: ClassVar[tuple[str, ...]] = ("answer",)

    timeout: float = Field(default=5.0, gt=0)
    """Seconds of wall-clock time for one comparison."""
    extract: tuple[Form, ...] = Field(default=FORMS, min_length=1)
    last_number: bool = False
    """Whether the last number of the text counts as a final answer where none is stated. Off,
    since it makes right what was only mentioned."""

    @contextmanager
    def open(self, where: Where) -> Iterator[Work]:
        """One child process with math-verify in it, and a cache of its verdicts."""
        if importlib.util.find_spec("math_verify") is None:
            raise MissingExtraError("math_answer", "math-verify", "math")
        target = "fusechat.annotators.math_answer:compare"
        with KillableChild(
            target, self.timeout, memory_mb=_MEMORY_MB, preload=("math_verify",)
        ) as child:
            percent = child.call(*_PERCENT)
            if percent.value != "equal":
                raise PartError(
                    "math_answer: math-verify does not say here that 10\\% is 10 "
                    f"({percent.value or percent.reason}), so its grades would be wrong. Install "
                    "the pinned packages: pip install 'fusechat[math]'"
                )
            compared = lru_cache(maxsize=_CACHED)(child.call)
            yield lambda rows: (self._judge(row, compared) for row in rows)

    def _judge(self, row: Candidate, compared: Callable[[str, str], Outcome]) -> Score:
        if not row.response.whole:
            cut = row.response.finish in ("length", "error")
            return row.unscorable(f"response {row.response.finish}" if cut else "response empty")
        gold = gold_answer(row.prompt.answer or "")
        if not gold:
            return row.unscorable("no gold answer")
        stated = final_answer(row.response.text, self.extract, self.last_number)
        details = {"answer": stated and stated[:200], "gold": gold[:200]}
        outcome = same_number(gold, stated or "") or compared(
            as_maths(gold), as_maths(stated) if stated else ""
        )
        return _score(row, outcome, details)


def _score(row: Candidate, outcome: Outcome, details: dict[str, Any]) -> Score:
    if not outcome.ok:
        told = json.dumps({**details, "error": outcome.details}, ensure_ascii=False)
        return row.error(f"math-verify {outcome.reason}", details=told)
    told = json.dumps(details, ensure_ascii=False)
    if outcome.value == "gold answer cannot be parsed":
        return row.unscorable(outcome.value, details=told)
    return row.score(1.0 if outcome.value == "equal" else 0.0, outcome.value, details=told)


_STATED_AT_MOST = 300
"""Characters of a final answer in words; what is longer is a text, not an answer."""
_TIDIED_AT_MOST = 1000
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_HASHES = re.compile(r"^.*####[ \t]*(\S.*)$", re.MULTILINE)
_MARKS = r"[ \t>*_#]*"
_LAST_LINE = re.compile(rf"^{_MARKS}A{_MARKS}[::]{_MARKS}(\S.*)$")
_LINE = re.compile(
    rf"^{_MARKS}(?:the[ \t]+)?(?:final[ \t]+)?(?:answer|(?:最终|最后)?答案)"
    rf"{_MARKS}[::]{_MARKS}(.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = re.compile(
    r"\b(?:answer|solution)[ \t]+(?:is|equals|=)[ \t]*[::]?|答案(?:应该|应)?[是为][::]?",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"\n|[.!][ \t\n]|[.!]$|。|;|I hope")
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?%?")


def final_answer(
    text: str, forms: tuple[Form, ...] = FORMS, last_number: bool = False
) -> str | None:
    """The final answer that `text` states, in the first of `forms` that it has; else none.

    The text between the marks, as it stands: `\\boxed{\\frac12}` gives `\\frac12`.
    """
    finders: dict[Form, Callable[[str], str | None]] = {
        "boxed": _boxed, "hashes": _hashes, "line": _line, "sentence": _sentence,
    }  # fmt: skip
    for form in forms:
        found = finders[form](text)
        if found and (form in ("boxed", "hashes") or len(found) <= _STATED_AT_MOST):
            return found
    numbers = _NUMBER.findall(text) if last_number else []
    return numbers[-1] if numbers else None


def _boxed(text: str) -> str | None:
    closes, opened = {}, []
    for mark in re.finditer(r"(?<!\\)[{}]", text):
        if mark.group() == "{":
            opened.append(mark.start())
        elif opened:
            closes[opened.pop()] = mark.start()
    found = None
    for box in _BOX.finditer(text):
        start = box.end() - 1
        inside = text[start + 1 : closes[start]].strip() if start in closes else ""
        found = inside or found
    return found


def _hashes(text: str) -> str | None:
    found = _HASHES.findall(text)
    return found[-1].strip() if found else None


def _line(text: str) -> str | None:
    lines = text.strip().splitlines()
    last = _LAST_LINE.match(lines[-1]) if lines else None
    if last:
        return last.group(1).strip()
    found = list(_LINE.finditer(text))
    if not found:
        return None
    here = found[-1].group(1).strip(" \t*_")
    below = text[found[-1].end() :].strip().split("\n", 1)[0]
    return here or below.strip() or None


def _sentence(text: str) -> str | None:
    found = list(_SENTENCE.finditer(text))
    if not found:
        return None
    rest = text[found[-1].end() :].lstrip()
    end = _SENTENCE_END.search(rest)
    return (rest[: end.start()] if end else rest).strip() or None


def gold_answer(text: str) -> str:
    """The gold answer within a prompt set's label, which may hold a whole solution."""
    return (final_answer(text, ("boxed", "hashes", "line")) or text).strip()


_WRAPPED = re.compile(r"\$\$(.+)\$\$|\$([^$]+)\$|\\\((.+)\\\)|\\\[(.+)\\\]", re.DOTALL)
_CURRENCY = re.compile(r"^([-+]?)\s*(?:\\?\$|[€£¥]|US\$|USD|Rs\.?)\s*(?=[-+\d.])")
_COUNTED = re.compile(
    r"([-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+))\s*(?:[^\W\d_]{2,}|[\u4e00-\u9fff])[^\d\\$]*"
)
_JOINED = re.compile(
    r"\b(?:and|or|to|plus|minus|times|over|pi|sqrt|percent|percentage|pct)\b", re.I
)
_FORMULA = re.compile(r"\$[^$]+\$|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)
_PROSE = re.compile(r"(?<![\\\w{])[A-Za-z]{2,}\s+\S*\d|\d\S*\s+[A-Za-z]{2,}")


def bare(answer: str) -> str:
    """An answer without emphasis, maths marks, currency signs, counted things and full stop."""
    text = answer.strip()
    if len(text) > _TIDIED_AT_MOST:
        return text
    for _ in range(4):
        before = text
        text = text.strip(" \t\n*_`").rstrip(".。,!").strip()
        wrapped = _WRAPPED.fullmatch(text)
        if wrapped:
            text = next(group for group in wrapped.groups() if group)
        text = _boxed(text) or text
        text = _CURRENCY.sub(r"\1", text)
        if text == before:
            break
    counted = _COUNTED.fullmatch(text)
    return counted.group(1) if counted and not _JOINED.search(text) else text


def as_maths(answer: str) -> str:
    """An answer as math-verify is asked: a box around a formula, or a sentence as it stands."""
    text = bare(answer)
    if len(text) > _TIDIED_AT_MOST:
        return rf"\boxed{{{text}}}"
    if _FORMULA.search(text) or _PROSE.search(text):
        return f"The final answer is {text}"
    return rf"\boxed{{{text}}}"


_EXACT_DIGITS = 15
_PLAIN = re.compile(r"[-+]?(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d{1,6})?")


def same_number(gold: str, answer: str) -> Outcome | None:
    """The verdict where both are plain numbers, or there is no answer; else none: ask math-verify.

    Up to 15 digits, 6 of them after the point, where math-verify's equality (rounded to six
    places) is that of the numbers.
    """
    if not answer:
        return None
    left, right = bare(gold), bare(answer)
    if not all(_plain(text) for text in (left, right)):
        return None
    same = Decimal(left.replace(",", "")) == Decimal(right.replace(",", ""))
    return Outcome(True, "equal" if same else "not equal")


def _plain(text: str) -> bool:
    return bool(_PLAIN.fullmatch(text)) and sum(map(str.isdigit, text)) <= _EXACT_DIGITS


def compare(gold: str, answer: str) -> str:
    """Run in the child: `equal`, `not equal`, or which of the two cannot be parsed.

    An empty `answer` is one that was not stated. No time limit of math-verify's own (a signal
    that a long multiplication holds up): the child is killed from outside.
    """
    import math_verify

    left = _parsed(gold)
    if not left:
        return "gold answer cannot be parsed"
    if not answer:
        return "no final answer"
    right = _parsed(answer)
    if not right:
        return "final answer cannot be parsed"
    same = math_verify.verify(left, right, timeout_seconds=None, raise_on_error=True)
    return "equal" if same else "not equal"


@lru_cache(maxsize=256)
def _parsed(text: str) -> list[Any]:
    """What math-verify makes of `text`; empty where that is only its own text again."""
    import math_verify

    found = math_verify.parse(text, parsing_timeout=None, raise_on_error=True)
    return found if any(not isinstance(value, str) for value in found) else []
