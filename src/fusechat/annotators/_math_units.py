"""Units beside a number: the same number in another unit is another answer."""

from __future__ import annotations

import re

_NAMES = {
    "millimetre": "mm millimeter millimetre", "centimetre": "cm centimeter centimetre",
    "metre": "m meter metre", "kilometre": "km kilometer kilometre",
    "inch": "inch inches", "foot": "ft foot feet", "yard": "yd yard", "mile": "mi mile",
    "second": "s sec second", "minute": "min minute", "hour": "h hr hour", "day": "day",
    "week": "week", "month": "month", "year": "year yr",
    "milligram": "mg milligram", "gram": "g gram", "kilogram": "kg kilogram",
    "ounce": "oz ounce", "pound": "lb pound", "millilitre": "ml milliliter millilitre",
    "litre": "l liter litre", "cent": "cent ¢", "dollar": "dollar $ usd", "euro": "euro €",
    "degree": "degree °", "radian": "radian rad",
}  # fmt: skip
_UNITS = {name: unit for unit, names in _NAMES.items() for name in names.split()}
_BEFORE = re.compile(r"^[-+\s\\(*]*(\$|€)\s*\d[\d.,]*[^\w$]*$")
_BEHIND = re.compile(
    r"\d[\s~}]*(?:\\[ ,;!]\s*)*(?:\\(?:text|textrm|mathrm|mbox|rm)\s*\{\s*)?(\\?[A-Za-z°€¢]+)"
    r"\s*\}?(?:\^\{?\d\}?)?[\s}.$*)]*$"
)
_CIRC = re.compile(r"\^\s*\{?\s*\\circ\s*\}?")


def is_unit(word: str) -> bool:
    """Whether a word is a known unit."""
    return bool(_named(word))


def _named(word: str) -> str:
    word = word.lstrip("\\").lower()
    return _UNITS.get(word) or _UNITS.get(word.removesuffix("s"), "")


def unit_of(answer: str) -> str:
    """The unit that the answer ends with, or its currency sign; empty without a known one."""
    text = _CIRC.sub("°", answer[-60:] if len(answer) > 60 else answer)
    before, behind = _BEFORE.match(text), _BEHIND.search(text)
    return _named(before.group(1) if before else behind.group(1) if behind else "")
