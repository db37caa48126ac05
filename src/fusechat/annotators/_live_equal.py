"""Whether two formulas of AMPS_Hard are equal, found out in child processes that can be killed.

Upstream reads both with sympy's LaTeX parser on ANTLR 4.11 and takes them for equal where the
simplified difference is below 0.001. Here the reader is that of math-verify (ANTLR 4.13), which
reads all that the other does and more. Both take `\\log` for the logarithm of base 10, though the
ground truth was written by Mathematica, where it is the natural one: an answer with `\\ln` is wrong
by the rules of autumn 2024. Corrected, `\\log` is natural. The other reader stumbles over the
blank `\\ `, which two ground truths have; the rules of autumn 2024 are kept to that.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from fusechat.annotators._live_question import Graded, NotGradedError, Question
from fusechat.children import KillablePool
from fusechat.errors import MissingExtraError

TARGET = "fusechat.annotators._live_equal:compare"
MEMORY_MB = 2048
_CLOSE = 0.001
_SAME = 1e-9
_POINTS = (0.7310585, 1.2917243, 0.4137651, 1.8713927, 2.3391713)
_STEP = 0.1372549
"""By how much the value of each further symbol is larger."""
_UNREAD = "formula cannot be read"
_UNREAD_TRUTH = "gold answer cannot be read"
_REMEMBERED = 10_000
_NATURAL = re.compile(r"\\log(?![a-z]|\s*_)")
"""A logarithm without a base."""
_NO_TRUTH = "Aborted}"
"""One integral of the release has Mathematica's `$Aborted` for its ground truth, which no answer
equals."""


class FormulaJudge:
    """Compares formulas; made by `formula_judge()`."""

    def __init__(self, pool: KillablePool) -> None:
        self._pool = pool
        self._ask = lru_cache(maxsize=_REMEMBERED)(pool.call)

    def grade(self, question: Question, formula: str | None) -> Graded:
        """1 where `formula` equals the ground truth. By the rules of autumn 2024 a comparison that
        does not end is 0 as well; corrected, it is a failure of the grader."""
        if formula is None:
            return Graded(0.0)
        truth = question.answer
        if _NO_TRUTH in truth:
            if not question.corrected:
                return Graded(0.0, formula)
            raise NotGradedError("the gold answer is none: computing it was aborted")
        if question.corrected and "".join(formula.split()) == "".join(truth.split()):
            return Graded(1.0, formula)
        told = self._ask(truth, formula, question.corrected)
        if not told.ok:
            if not question.corrected:
                return Graded(0.0, formula)
            raise NotGradedError(f"comparison of formulas {told.reason}", told.details, failed=True)
        if told.value == _UNREAD_TRUTH and question.corrected:
            raise NotGradedError(_UNREAD_TRUTH)
        return Graded(float(told.value == "equal"), None if told.value == _UNREAD else formula)


@contextmanager
def formula_judge(timeout: float) -> Iterator[FormulaJudge]:
    """A judge with a child process; each comparison may take `timeout` seconds of the clock.

    Raises `MissingExtraError` without math-verify.
    """
    if importlib.util.find_spec("math_verify") is None:
        raise MissingExtraError("live_bench", "math-verify", "math")
    with KillablePool(
        TARGET, timeout, 1, memory_mb=MEMORY_MB, preload=("latex2sympy2_extended",)
    ) as pool:
        yield FormulaJudge(pool)


def compare(truth: str, formula: str, corrected: bool = True) -> str:
    """Run in the child: `equal`, `not equal`, or which of the two cannot be read.

    A difference that is 0.001 or more at one of five points is no zero: then nothing need be
    simplified. Corrected, two formulas that agree at all of them are equal, also where sympy
    cannot simplify the difference away.
    """
    left, right = _read(truth, corrected), _read(formula, corrected)
    if left is None or right is None:
        return _UNREAD_TRUTH if left is None else _UNREAD
    try:
        return "equal" if _vanishes(left - right, corrected) else "not equal"
    except (TypeError, AttributeError):  # of other kinds, or a difference that stays a formula
        return "not equal"


def _vanishes(difference: Any, corrected: bool) -> bool:
    sizes = list(_sizes(difference))
    if any(size >= _CLOSE for size in sizes):
        return False
    if sizes and not difference.free_symbols:
        return True
    if corrected and len(sizes) == len(_POINTS) and max(sizes) < _SAME:
        return True
    return _simplifies(difference)


def _simplifies(difference: Any) -> bool:
    """Whether sympy makes it a number below 0.001; `TypeError` where it stays a formula."""
    import sympy

    return bool(sympy.Abs(sympy.simplify(difference)) < _CLOSE)


def _sizes(difference: Any) -> Iterator[float]:
    """The absolute value at each of the points where there is one."""
    symbols = sorted(difference.free_symbols, key=str)
    for point in _POINTS if symbols else _POINTS[:1]:
        values = {symbol: point * (1 + _STEP * k) for k, symbol in enumerate(symbols)}
        with contextlib.suppress(TypeError, ValueError, OverflowError, ZeroDivisionError):
            size = abs(complex(difference.evalf(30, subs=values)))
            if math.isfinite(size):
                yield size


@lru_cache(maxsize=2048)
def _read(text: str, corrected: bool) -> Any:
    """What a formula is to sympy; None where it is none."""
    from latex2sympy2_extended import latex2sympy

    if not corrected and "\\ " in text:
        return None
    text = _NATURAL.sub(r"\\ln", text) if corrected else text
    try:
        return latex2sympy(text)
    except Exception:  # noqa: BLE001 - the reader raises whatever it stumbles over
        return None
