"""How an answer is understood: as one value, as a list, or as nothing that can be compared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from fusechat.annotators._math_numbers import is_plain_number, same_ratio
from fusechat.annotators._math_text import (
    FORMULA,
    NUMBER,
    OPERATED,
    TEXT,
    TIDIED_AT_MOST,
    bare,
    clean,
    mended,
    same_text,
)  # fmt: skip
from fusechat.annotators._math_units import unit_of

JUDGED_AT_MOST = 5000
"""Characters of an answer that is no plain number; what is longer costs more than it can tell."""

_WORD_NUMBER = re.compile(
    r"\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty"
    r"|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|half|third|quarter"
    r"|dozen)\b",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"\b(?:not|never|neither|nor|cannot|wrong|incorrect|anything\s+but|other\s+than|except)\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)
_CONTRAST = re.compile(
    r"(?<=\S)\s*(?:[,;(]\s*(?:and\s+)?not|\brather\s+than|\binstead\s+of)\b.*", re.S
)
_PROSE = re.compile(r"(?<![\\\w{])[A-Za-z]{2,}\s+\S*\d|\d\S*\s+[A-Za-z]{2,}")
_CHINESE = "\u4e00-\u9fff"
_CHINESE_BORDER = re.compile(
    rf"(?<=[{_CHINESE}])(?=[^{_CHINESE}])|(?<=[^{_CHINESE}])(?=[{_CHINESE}])"
)
_CHINESE_NUMBER = re.compile("[零一二两三四五六七八九十百千万亿半]")
_CHINESE_OPERATED = re.compile("[分倍乘除加减负和或到至约余多少比平立根百千万亿半不非]")
"""Signs that make another value of the number beside them, or that may."""
_BESIDE = re.compile(rf"(?<![\w.,]){NUMBER}(?:/\d+)?(?:\s*\\?%)?(?![\w])")
_AND = re.compile(
    r"\s*[,;]?\s*(?:\\(?:text|textrm|mathrm|mbox)\s*\{\s*,?\s*(?:and|or)\s*\}|\{\s*(?:and|or)\s*\}"
    r"|(?<![A-Za-z\\{])(?:and|or)(?![A-Za-z]))(?:\s|\\quad|\\qquad|\\[,;: ])*"
)
_SPACES = re.compile(r"(?:\\quad|\\qquad|\\[,;:!]|~)+")
_INEQUALITY = re.compile(r"[<>≤≥]|\\(?:l|g|le|ge|leq|geq|lt|gt|in|cup|cap|subset)(?![a-z])|\\n?e")


@dataclass(frozen=True)
class Reading:
    """An answer as it is compared: `query` is what math-verify is asked, unless `fault`."""

    plain: str
    """The bare text."""
    query: str
    same_as: str
    """Equal for answers that are the same text but for spacing and marks."""
    fault: str = ""
    """`denied`, `several values`, `in words` or `too long`: it is not one value to judge."""
    names: tuple[str, ...] = ()
    """Where it is groups of assignments (`p=5,q=2;p=7,q=2`): their names, sorted."""
    groups: str = ""
    """Those groups as tuples in the order of `names`: `(5, 2), (7, 2)`."""
    unit: str = ""


@lru_cache(maxsize=4096)
def read(answer: str) -> Reading:
    """How a stated answer, or a gold answer, is understood."""
    if len(answer) > TIDIED_AT_MOST:
        plain = tidy = answer.strip()
    else:
        kept = _CONTRAST.sub("", answer)
        plain = bare(kept)
        tidy = mended(plain)
        if _denies(kept):
            return Reading(plain, "", same_text(kept), "denied")
    same_as = same_text(plain)
    plain = tidy if is_plain_number(tidy) or not tidy else plain
    if is_plain_number(plain):
        return Reading(plain, rf"\boxed{{{plain}}}", same_as, unit=unit_of(answer))
    if len(tidy) > JUDGED_AT_MOST:
        return Reading(plain, "", same_as, "too long")
    if len(tidy) > TIDIED_AT_MOST:
        return Reading(plain, rf"\boxed{{{tidy}}}", same_as)
    names, groups = _groups(tidy)
    listed = _listed(tidy)
    query, fault = (listed, "") if listed else _one_value(tidy)
    asked = rf"\boxed{{{query.strip()}}}" if query else ""
    return Reading(plain, asked, same_as, fault, names, groups, unit_of(answer))


def is_value(text: str) -> bool:
    """Whether a statement is a value with at most two words beside it, and no sentence."""
    if len(text) > TIDIED_AT_MOST:
        return True
    plain = clean(text).strip(" \t*_`.")
    words = re.sub(r"\b(?:and|or)\b", " ", TEXT.sub("", plain))
    words = re.sub(r"\\[A-Za-z]+", " ", FORMULA.sub("1 ", words))
    wordy = len(re.findall(r"[^\W\d_]{2,}", words))
    letter = re.fullmatch(r"\(?[A-Za-z]\)?", plain)
    there = letter or any(map(str.isdigit, plain)) or "\\" in plain or "$" in plain
    return (
        bool(there)
        and wordy <= 2
        and not (wordy and (OPERATED.search(words) or _DENIAL.search(words)))
    )


def _denies(answer: str) -> bool:
    """Whether it says what the answer is not. Words alone are an answer (`not possible`)."""
    text = TEXT.sub(r" \1 ", clean(answer))
    return any(map(str.isdigit, text)) and bool(_DENIAL.search(text))


def _one_value(tidy: str) -> tuple[str, str]:
    """(what is asked, fault) of what is no list."""
    if _INEQUALITY.search(tidy) and not FORMULA.search(tidy):
        return re.sub(r"\s+(and|or)\s+", r" \\text{ \1 } ", tidy), ""
    chinese = bool(re.search(f"[{_CHINESE}]", tidy)) and any(map(str.isdigit, tidy))
    prose = bool(FORMULA.search(tidy) or _PROSE.search(tidy) or chinese)
    if not prose:
        number = _WORD_NUMBER.search(tidy) or _CHINESE_NUMBER.search(tidy)
        words = not any(map(str.isdigit, tidy)) and "\\" not in tidy and number
        return (tidy, "in words" if words else "")
    tidy = _CHINESE_BORDER.sub(" ", tidy)
    outside = TEXT.sub(r" \1 ", FORMULA.sub(" ", tidy))
    formulas = [next(g for g in found.groups() if g).strip() for found in FORMULA.finditer(tidy)]
    values = dict.fromkeys(formulas or _BESIDE.findall(outside))
    if len(values) > 1:
        return "", "several values"
    if not any(values) or OPERATED.search(outside) or _CHINESE_OPERATED.search(outside):
        percent = re.search(rf"^({NUMBER})\s+(?:percent|percentage|pct)\b", tidy, re.IGNORECASE)
        return (rf"{percent.group(1)}\%", "") if percent else ("", "in words")
    return next(iter(values)), ""


def _listed(text: str) -> str:
    """`a, b, and c` as `a, b, c`; empty where it is no list of values joined by and/or."""
    body = re.sub(r"^(?:either|both)\s+", "", text, flags=re.IGNORECASE)
    if _INEQUALITY.search(body) or not _AND.search(body):
        return ""
    pieces = [bare(_SPACES.sub(" ", piece)).strip(" ,;") for piece in _AND.split(body)]
    pieces = [piece for piece in pieces if piece]
    fine = all(is_value(p) and not _PROSE.search(p) and not _DENIAL.search(p) for p in pieces)
    return ", ".join(_without_repeats(pieces)) if pieces and fine else ""


def _without_repeats(pieces: list[str]) -> list[str]:
    """`1/2 or 0.5` and `1/3 or 0.33` state one value, in two dresses."""
    kept: list[str] = []
    for piece in pieces:
        if not any(piece == other or same_ratio(piece, other) for other in kept):
            kept.append(piece)
    return kept


_ASSIGNED = re.compile(r"\s*([A-Za-z](?:_\{?\w+\}?)?)\s*=\s*([^=,;]+?)\s*")


def _groups(text: str) -> tuple[tuple[str, ...], str]:
    """Two or more groups of assignments to the same names, as tuples."""
    outer = [
        part for part in re.split(r";|" + _AND.pattern, _SPACES.sub(" ", text)) if part.strip()
    ]
    rows = []
    for part in outer:
        found = [_ASSIGNED.fullmatch(piece) for piece in part.strip(" ,").split(",")]
        rows.append({f.group(1): f.group(2) for f in found if f} if all(found) else {})
    names = tuple(sorted(rows[0])) if rows else ()
    if len(rows) < 2 or len(names) < 2 or any(tuple(sorted(row)) != names for row in rows):
        return (), ""
    return names, ", ".join(f"({', '.join(row[name] for name in names)})" for row in rows)
