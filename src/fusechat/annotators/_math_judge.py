"""The verdict on one stated answer: by text, by number, or by math-verify in killable children.

Whoever grades mathematics, the annotator of a run or `fusechat grade math`, grades here.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fusechat.annotators._math_numbers import is_plain_number, same_number
from fusechat.annotators._math_reading import Reading, read
from fusechat.annotators._math_text import TEXT
from fusechat.children import KillablePool, Outcome
from fusechat.errors import MissingExtraError, PartError
from fusechat.records import Status

TARGET = "fusechat.annotators._math_judge:compare"
MEMORY_MB = 2048
_CACHED = 200_000
_PERCENT = (r"\boxed{10\%}", r"\boxed{10}")


@dataclass(frozen=True)
class Verdict:
    """What became of a comparison; `equal` is there iff the status is ok."""

    status: Status
    equal: bool | None
    reason: str
    """Short and countable."""
    details: str = ""


class Pending:
    """A verdict that is there, or that a child process is at."""

    def __init__(
        self,
        verdict: Verdict | None = None,
        future: Future[Outcome] | None = None,
        judged: Callable[[Outcome], Verdict] | None = None,
    ) -> None:
        self._verdict, self._future, self._judged = verdict, future, judged

    def done(self) -> bool:
        """Whether `result()` does not wait."""
        return self._future is None or self._future.done()

    def result(self) -> Verdict:
        """The verdict; waits for the child process."""
        if self._verdict is None:
            assert self._future is not None
            assert self._judged is not None
            self._verdict = self._judged(self._future.result())
        return self._verdict


class MathJudge:
    """Compares stated answers with gold answers; made by `math_judge()`."""

    def __init__(self, pool: KillablePool) -> None:
        self._pool = pool
        self._asked: dict[tuple[str, str], Future[Outcome]] = {}

    def verdict(self, gold: str, stated: str | None) -> Verdict:
        """The verdict on `stated` (none: no final answer), held against `gold`."""
        return self.begin(gold, stated).result()

    def begin(self, gold: str, stated: str | None) -> Pending:
        """The same, without waiting for the child process that is at it."""
        left, right = read(gold), read(stated or "")
        told = _by_text(left, right)
        if told:
            return Pending(_unless_conflict(left, right, told))
        asked, answer = left.query, right.query
        if left.names and left.names == right.names:
            asked, answer = rf"\boxed{{{left.groups}}}", rf"\boxed{{{right.groups}}}"
        answer = "" if not stated or right.fault else answer
        future = self._ask(asked, answer)
        return Pending(None, future, lambda outcome: _by_maths(left, right, outcome))

    def _ask(self, gold: str, answer: str) -> Future[Outcome]:
        key = (gold, answer)
        future = self._asked.get(key)
        if future is None:
            if len(self._asked) >= _CACHED:
                del self._asked[next(iter(self._asked))]
            future = self._asked[key] = self._pool.submit(gold, answer)
        return future


@contextmanager
def math_judge(timeout: float, children: int) -> Iterator[MathJudge]:
    """A judge with `children` child processes; each comparison may take `timeout` seconds.

    Raises `MissingExtraError` without math-verify, `PartError` where it reads percent wrongly
    (with an ANTLR runtime other than the pinned one).
    """
    if importlib.util.find_spec("math_verify") is None:
        raise MissingExtraError("math_answer", "math-verify", "math")
    with KillablePool(
        TARGET, timeout, children, memory_mb=MEMORY_MB, preload=("math_verify",)
    ) as pool:
        percent = pool.call(*_PERCENT)
        if percent.value != "equal":
            why = percent.value or ": ".join(filter(None, (percent.reason, percent.details)))
            raise PartError(
                f"math_answer: math-verify does not say here that 10\\% is 10 ({why}), so its "
                "grades would be wrong. Install the pinned packages: pip install 'fusechat[math]'"
            )
        yield MathJudge(pool)


UNPARSED = "gold answer cannot be parsed"
_FAULTS = {
    "denied": Verdict("ok", False, "no final answer"),
    "several values": Verdict("unscorable", None, "final answer holds several values"),
    "in words": Verdict("unscorable", None, "final answer in words"),
    "too long": Verdict("unscorable", None, "final answer too long to judge"),
}
_GOLD_FAULTS = {
    "denied": UNPARSED, "several values": "gold answer holds several values",
    "in words": "gold answer in words", "too long": "gold answer too long to judge",
}  # fmt: skip


def _by_text(gold: Reading, answer: Reading) -> Verdict | None:
    """The verdict where no mathematics is needed."""
    if not gold.same_as:
        return Verdict("unscorable", None, "no gold answer")
    if gold.same_as == answer.same_as and re.search(r"\w", gold.same_as):
        return Verdict("ok", True, "equal")
    if gold.fault:
        return Verdict("unscorable", None, _GOLD_FAULTS[gold.fault])
    if _chosen(answer) and _LETTER.fullmatch(gold.same_as):
        same = _chosen(answer) == gold.same_as.strip("()")
        return Verdict("ok", same, "equal" if same else "not equal")
    return _by_number(gold, answer) if is_plain_number(gold.plain) else None


_LETTER = re.compile(r"\(?[A-J]\)?")
_OPTION = re.compile(r"(?:\(([A-J])\)|([A-J])\s*[).:、])\s*\S")


def _chosen(answer: Reading) -> str:
    """`B` of an answer like `(B) 5 cm` that names one option and what it says; else empty."""
    text = TEXT.sub(r"\1", answer.plain)
    option = None if answer.fault == "denied" else _OPTION.match(text)
    if option is None or len(set(re.findall(r"(?<![A-Za-z\\])[A-J](?![A-Za-z])", text))) > 1:
        return ""
    return option.group(1) or option.group(2)


def _by_number(gold: Reading, answer: Reading) -> Verdict | None:
    if not answer.plain:
        return Verdict("ok", False, "no final answer")
    if answer.fault:
        return _FAULTS[answer.fault]
    if not is_plain_number(answer.plain):
        return None
    same = same_number(gold.plain, answer.plain)
    return Verdict("ok", same, "equal" if same else "not equal")


def _by_maths(gold: Reading, answer: Reading, outcome: Outcome) -> Verdict:
    if not outcome.ok:
        return Verdict("error", None, f"math-verify {outcome.reason}", outcome.details)
    if outcome.value == UNPARSED:
        return Verdict("unscorable", None, UNPARSED)
    if answer.fault:
        return _FAULTS[answer.fault]
    return _unless_conflict(gold, answer, Verdict("ok", outcome.value == "equal", outcome.value))


_LEADING_RELATION = re.compile(
    r"\s*(?:\\neq?|\\neg|\\lnot|\\not|≠|!=|\\sim|~|[<>≤≥]|\\(?:le|ge|leq|geq|lt|gt))(?![a-z])"
)
_BASE = re.compile(r"[0-9A-F]\}?_\{?(\d+)\}?$")
_RELATION = re.compile(r"[<>≤≥]|\\(?:le|ge|leq|geq|lt|gt)(?![a-z])")


def _unless_conflict(left: Reading, right: Reading, verdict: Verdict) -> Verdict:
    """Not equal after all where they differ in what math-verify leaves out in reading."""
    if not verdict.equal:
        return verdict
    gold, answer = left.plain, right.plain
    conflict = ""
    if bool(_LEADING_RELATION.match(gold)) != bool(_LEADING_RELATION.match(answer)):
        conflict = "not equal (relation)"
    bases = [found.group(1) for text in (gold, answer) if (found := _BASE.search(text))]
    if len(bases) == 2 and bases[0] != bases[1]:
        conflict = "not equal (other base)"
    if left.unit and right.unit and left.unit != right.unit:
        conflict = "not equal (other unit)"
    joins = [set(re.findall(r"\b(?:and|or)\b", text)) for text in (gold, answer)]
    if all(map(_RELATION.search, (gold, answer))) and {"and"} in joins and {"or"} in joins:
        conflict = "not equal (and for or)"
    return Verdict("ok", False, conflict) if conflict else verdict


def compare(gold: str, answer: str) -> str:
    """Run in the child: `equal`, `not equal`, or which of the two cannot be parsed.

    An empty `answer` is one that was not stated. No time limit of math-verify's own (a signal
    that a long multiplication holds up): the child is killed from outside.
    """
    import math_verify

    left = _parsed(gold)
    if not left:
        return UNPARSED
    if not answer:
        return "no final answer"
    right = _parsed(answer)
    if not right:
        return "final answer cannot be parsed"
    same = math_verify.verify(left, right, timeout_seconds=None, raise_on_error=True)
    return "equal" if same else "not equal"


@lru_cache(maxsize=2048)
def _parsed(text: str) -> list[Any]:
    """What math-verify makes of `text`; empty where that is only its own text again."""
    import math_verify

    found = math_verify.parse(text, parsing_timeout=None, raise_on_error=True)
    return [] if all(isinstance(value, str) for value in found) else found
