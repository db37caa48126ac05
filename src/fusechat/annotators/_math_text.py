"""Final answers as text: marks, units and spellings that do not change the value are taken off.

Everything here is pure; nothing is evaluated.
"""

from __future__ import annotations

import re
from decimal import Decimal

from fusechat.annotators._math_units import is_unit

TIDIED_AT_MOST = 1000

_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_BLANKS = dict.fromkeys([*range(32), 0x7F, 0xA0, 0x2007, 0x2009, 0x202F, 0x3000], " ")
_GONE = dict.fromkeys([0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0xAD])
_SIGNS = {
    "\u2212": "-", "\uff0c": ",", "²": "^{2}", "³": "^{3}", "½": r"\frac{1}{2}",
    "¼": r"\frac{1}{4}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}",
    **{sign: f"^{{{power}}}" for power, sign in enumerate("⁴⁵⁶⁷⁸⁹", start=4)},
    "¾": r"\frac{3}{4}", "π": r"\pi ", "∞": r"\infty ", "\n": "\n", "\t": "\t",
}  # fmt: skip
_TABLE = {**_WIDE, **_BLANKS, **_GONE, **{ord(sign): plain for sign, plain in _SIGNS.items()}}
_LEADING_DASH = re.compile(r"^[\u2013\u2014](?=[\d.])")

_WRAPPED = re.compile(
    r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\(((?:(?!\\\)).)+)\\\)|\\\[(.+)\\\]", re.DOTALL
)
_OPENS_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|rm)\s*\{([^{}]*)\}")
_CALCULATED = re.compile(r"<<[^<>]*>>")
"""A calculation that GSM8K's solutions keep beside its result."""
_CURRENCY = re.compile(r"^([-+]?)\s*(?:\\?\$|[€£¥]|US\$|USD|Rs\.?)\s*(?=[-+\d.])")
NUMBER = r"[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_COUNTED = re.compile(rf"({NUMBER})(\s*)([^\W\d_]+)[^\d\\$]*")
_SCALED = re.compile(
    rf"({NUMBER})[\s~]*(?:\\text\{{\s*)?(hundred|thousand|million|billion|trillion|dozen)\b\s*\}}?",
    re.IGNORECASE,
)
_SCALES = {
    "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "dozen": 12,
}  # fmt: skip
OPERATED = re.compile(
    r"\b(?:and|or|to|plus|minus|times|over|pi|sqrt|percent|percentage|pct|than|squared|cubed"
    r"|factorial|root|half|halves|thirds?|fourths?|fifths?|quarters?|twice|double|triple|divided"
    r"|mod|modulo|power|negative|least|most|between|from|under|below|above|base|ratio|hundred"
    r"|thousand|million|billion|trillion|dozen|sin|cos|tan|cot|csc|log|ln|exp)\b",
    re.IGNORECASE,
)
"""Words that make another value of the number beside them."""
FORMULA = re.compile(r"\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


def clean(text: str) -> str:
    """Without control and invisible characters; wide signs and dashes as plain ones."""
    return _LEADING_DASH.sub("-", text.translate(_TABLE).strip())


def bare(answer: str) -> str:
    """An answer without emphasis, maths marks, currency signs, counted things and full stop."""
    text = answer.strip()
    if len(text) > TIDIED_AT_MOST:
        return text
    text = clean(text)
    for _ in range(4):
        before = text
        text = _CALCULATED.sub("", text).strip(" \t\n*_`").rstrip(".。,").strip()
        wrapped = _WRAPPED.fullmatch(text)
        if wrapped:
            text = next(group for group in wrapped.groups() if group)
        text = _unboxed(text)
        if text.count("$") < 2:
            text = _CURRENCY.sub(r"\1", text)
        if text == before:
            break
    scaled = _SCALED.match(text)
    if scaled and (scaled.end() == len(text) or _COUNTED.fullmatch(text)):
        return _scaled(scaled)
    return _uncounted(text)


def _uncounted(text: str) -> str:
    """`5 hours`, `5cm` and `12个` as their numbers, but neither `2xy` nor `5 squared`."""
    counted = _COUNTED.fullmatch(text)
    if not counted or OPERATED.search(text):
        return text
    number, space, word = counted.groups()
    short = len(word) < 3 or not set(word) - set("abcnxyz")
    thing = word[0] >= "\u4e00" or (space and not short) or (len(word) > 1 and is_unit(word))
    return number if thing else text


def _unboxed(text: str) -> str:
    opening = _OPENS_BOX.match(text)
    if not opening or not text.endswith("}"):
        return text
    inside = text[opening.end() : -1]
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", inside):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return text
    return inside.strip()


def _scaled(found: re.Match[str]) -> str:
    value = Decimal(found.group(1).replace(",", "")) * _SCALES[found.group(2).lower()]
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


_UNIT_TEXT = re.compile(
    r"(?:(?<=[\d})])|(?<=\\pi))[\s~]*(?:\\[,;! ]\s*)*\\(?:text|textrm|mathrm|mbox|rm)"
    r"\s*\{([^{}\d]*)\}(?:\^\{?\d\}?)?$"
)


def mended(text: str) -> str:
    """Spellings that math-verify 0.9.0 misreads, written as it reads them."""
    for _ in range(TIDIED_AT_MOST):
        before, text = text, _mended_once(text)
        if text == before:
            break
    return text


def _mended_once(text: str) -> str:
    text = re.sub(r"(?<=\d)\{,\}(?=\d{3})", ",", text.replace("{}", ""))
    if not re.sub(r"[\s,;]+|\b(?:and|or)\b", "", FORMULA.sub("", text)):
        text = FORMULA.sub(lambda found: next(g for g in found.groups() if g), text)
    text = re.sub(r"(?<![\\A-Za-z])sqrt\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"√\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[a-z]))", r"\\sqrt{\1\2}", text)
    text = re.sub(r"(?<![\\A-Za-z])(sin|cos|tan|cot|sec|csc|log|ln|pi)(?![A-Za-z])", r"\\\1 ", text)
    text = re.sub(r"(?<=\d),\\!\s*(?=\d{3})", "", text)
    text = re.sub(
        r"(?<=frac\{)\d{1,3}(?:,\d{3})+(?=\})|(?<=\}\{)\d{1,3}(?:,\d{3})+(?=\})",
        lambda found: found.group().replace(",", ""), text,
    )  # fmt: skip
    text = re.sub(r"(\\[dtc]?frac\{[^{}]*\})(\d)", r"\1{\2}", text)
    text = re.sub(r"^(?:\\approx|≈)\s*(?=[-\d])", "", text)
    text = re.sub(r"^(-?\d+)\s+(\d+)\s*/\s*(\d+)$", r"\1\\frac{\2}{\3}", text)
    unit = _UNIT_TEXT.search(text)
    if unit and not OPERATED.search(unit.group(1)):
        text = text[: unit.start()]
    if "matrix}" in text:
        text = re.sub(r"(?<!\\)\\(?=[-\d.])|(?<!\\)\\(?=\\phantom)", r"\\\\", text)
    return _grouped(text)


_GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}(?:(?: |\\[, ;]|~)\d{3})+(?:\.\d+)?")


def _grouped(text: str) -> str:
    """`1 000 000` as `1000000`, where it is the whole answer or a whole element of a list."""
    pieces = re.split(r"(,(?!\d{3}(?!\d)))", text)
    return "".join(
        re.sub(r"(?<=\d)[^\d.]+(?=\d)", "", p) if _GROUPED.fullmatch(p.strip()) else p
        for p in pieces
    )


def same_text(plain: str) -> str:
    """Equal for texts that differ only in spaces and marks; `1 2` and `12` stay two."""
    if len(plain) > TIDIED_AT_MOST:
        return plain
    text = TEXT.sub(r"\1", plain).replace("$", "").replace("\\dfrac", "\\frac")
    text = re.sub(r"\\(?:left|right)(?![a-z])|\\[!,;: ]", " ", text.replace("\\tfrac", "\\frac"))
    return re.sub(r"\s+(?!\d)|(?<!\d)\s+", "", text.strip())
