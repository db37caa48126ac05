"""When two plainly written answers are the same for FuseChat-3.0's evaluation.

Written anew from what its Math-Eval does, quirks included: numbers are the same within 1e-4 of each
other, and also where one is 100 times the other; brackets of any kind are the same; a relation is
its difference of sides. `numeric` needs no mathematics; `symbolic` runs in a child process, since
sympy may hang.
"""

from __future__ import annotations

import math
import re
from typing import Any

NEAR = 1e-4
_LETTER = re.compile(r"\b([A-E])\b")


def number(text: str) -> float | None:
    """`1,234.5` and `50\\%` as numbers; None of anything else."""
    bare = text.replace(",", "")
    try:
        return float(bare)
    except ValueError:
        pass
    if not bare.endswith("%"):
        return None
    try:
        return float(bare[:-1].removesuffix("\\")) / 100
    except ValueError:
        return None


def numeric(answer: str, gold: str) -> bool | None:
    """Whether two texts, letters or numbers are the same; None where that takes mathematics."""
    if answer.strip().lower() == gold.strip().lower():
        return True
    if gold in ("A", "B", "C", "D", "E") and _letter(answer) == gold:
        return True
    left, right = number(answer), number(gold)
    if left is not None and right is not None:
        return any(
            math.isclose(left, one, rel_tol=NEAR) for one in (right / 100, right, right * 100)
        )
    return None if answer else False


def _letter(answer: str) -> str:
    found = _LETTER.findall(answer.upper())
    return found[-1] if found else answer.strip().strip(".")


def same(answer: str, gold: str) -> bool:
    """Whether two answers are the same, by everything that the evaluation tries."""
    known = numeric(answer, gold)
    if known is not None:
        return known
    if "pmatrix" in answer and "pmatrix" not in gold:
        gold = _as_matrix(gold)
    if _bare(answer, gold).lower() == _bare(gold, answer).lower():
        return True
    if _parts_same(answer, gold) or _matrices_same(answer, gold):
        return True
    return _equations_same(answer, gold)


def _bare(text: str, other: str) -> str:
    """Without brackets of any kind."""
    square = text.startswith("[") and text.endswith("]") and not other.startswith("(")
    round_ = text.startswith("(") and text.endswith(")") and not other.startswith("[")
    if square or round_:
        text = text.strip("[]()")
    for bracket in "{}()":
        text = text.replace(bracket, "")
    return text


_BRACKETED = re.compile(r"[(\[].+[)\]]")


def _parts_same(answer: str, gold: str) -> bool:
    """Tuples and intervals, part by part, whatever the brackets are."""
    if not (_BRACKETED.match(answer) and _BRACKETED.match(gold)):
        return False
    left, right = answer[1:-1].split(","), gold[1:-1].split(",")
    return len(left) == len(right) and all(map(same, left, right))


def _as_matrix(text: str) -> str:
    found = [row.strip("{}") for row in text.strip().strip("{}").split(",")]
    return "\\begin{pmatrix}" + "\\\\".join(found) + "\\end{pmatrix}"


def _matrices_same(answer: str, gold: str) -> bool:
    left, right = _cells(answer), _cells(gold)
    if left is None or right is None or [len(r) for r in left] != [len(r) for r in right]:
        return False
    pairs = zip(left, right, strict=True)
    return all(same(*cells) for rows in pairs for cells in zip(*rows, strict=True))


def _cells(text: str) -> list[list[str]] | None:
    begin, end = "\\begin{pmatrix}", "\\end{pmatrix}"
    if not (text.startswith(begin) and text.endswith(end)):
        return None
    rows = [row.strip() for row in text[len(begin) : -len(end)].split("\\\\") if row.strip()]
    return [[cell.strip() for cell in row.split("&")] for row in rows]


def _equations_same(answer: str, gold: str) -> bool:
    left, right = answer.split("="), gold.split("=")
    if len(left) == 2 and len(right) == 2:
        one, other = (f"{a.strip()} - ({b.strip()})" for a, b in (left, right))
        return symbolic(one, other) or symbolic(f"-({one})", other)
    if len(left) == 2 and len(left[0].strip()) <= 2 and len(right) == 1:
        return same(left[1], gold)
    if len(right) == 2 and len(right[0].strip()) <= 2 and len(left) == 1:
        return same(answer, right[1])
    return symbolic(answer, gold)


def symbolic(answer: str, gold: str) -> bool:
    """Whether sympy finds two expressions, relations or matrices the same.

    Whatever it cannot read or decide is not the same: so is it there.
    """
    left, right = _parsed(answer), _parsed(gold)
    return any(_tried(test, left, right) for test in (_alike, _zero, _sides, _close, _cellwise))


def _tried(test: Any, left: Any, right: Any) -> bool:
    try:
        return bool(test(left, right))
    except Exception:  # noqa: BLE001 - what one way of comparing cannot do, the next may
        return False


def _parsed(text: str) -> Any:
    """An expression, or the text where nothing reads it.

    The reader here knows more LaTeX than that evaluation's: what it did not know as a list, a mixed
    number or a number with `{,}` in it, is kept from being one.
    """
    if "{,}" in text:
        return text
    text = re.sub(r"(\d)\s*\\frac", r"\1*\\frac", text)
    from latex2sympy2_extended import latex2sympy
    from sympy.parsing.sympy_parser import parse_expr

    spelt = text.replace("\\\\", "\\")
    readers = (parse_expr, latex2sympy) if _list(text) else (latex2sympy, parse_expr)
    for read in readers:
        for one in (spelt, text):
            try:
                return read(one)
            except Exception:  # noqa: BLE001 - the next reader may
                continue
    return text


def _list(text: str) -> bool:
    """Whether a comma stands outside of all brackets."""
    depth = 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not depth:
            return True
    return False


def _alike(left: Any, right: Any) -> bool:
    return str(left) == str(right) or bool(left == right)


def _zero(left: Any, right: Any) -> bool:
    import sympy

    return bool(left.equals(right)) or sympy.simplify(left - right) == 0


def _sides(left: Any, right: Any) -> bool:
    """Relations, whichever way they point."""
    return bool(abs(left.lhs - left.rhs).equals(abs(right.lhs - right.rhs)))


def _close(left: Any, right: Any) -> bool:
    import sympy

    return math.isclose(float(sympy.N(left)), float(sympy.N(right)), rel_tol=NEAR)


def _cellwise(left: Any, right: Any) -> bool:
    if left.shape != right.shape:
        return False
    one, other = (m.applyfunc(lambda x: round(x, 3)) for m in (left, right))
    return bool(one.equals(other))
