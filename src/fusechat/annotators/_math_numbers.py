"""Plain numbers, compared exactly."""

from __future__ import annotations

import re
from decimal import Context, Decimal
from fractions import Fraction

_PLAIN = re.compile(
    r"[-+]?(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?|[-+]?\.\d+"
)
_PLACES = 6
_ROUNDED_AT_MOST = 1000
"""Digits of two decimal fractions, together, up to which rounding counts."""


def is_plain_number(text: str) -> bool:
    """Digits, with thousands commas, a decimal point, or a power of ten (`1e3`)."""
    return bool(_PLAIN.fullmatch(text))


def same_number(left: str, right: str) -> bool:
    """Whether two plain numbers are equal.

    Exactly, but for two decimal fractions: these are also equal where they agree in six
    places after the point, as for math-verify, and in six significant digits.
    """
    one, two = (Decimal(text.replace(",", "")) for text in (left, right))
    if one == two:
        return True
    if "." not in left or "." not in right or len(left) + len(right) > _ROUNDED_AT_MOST:
        return False
    context = Context(prec=4 * _ROUNDED_AT_MOST)
    place = Decimal(1).scaleb(-_PLACES)
    rounded = one.quantize(place, context=context) == two.quantize(place, context=context)
    apart = context.abs(context.subtract(one, two))
    return rounded and apart <= context.multiply(place, max(abs(one), abs(two)))


_RATIO = re.compile(
    r"([-+]?\d{1,15})(?:\.(\d{1,15}))?(?:/(\d{1,15}))?(\s*\\?%)?"
    r"|([-+]?)\\[dtc]?frac\{?(\d{1,15}?)\}?\{?(\d{1,15})\}?"
)


def same_ratio(left: str, right: str) -> bool:
    """Whether two short numbers are one value, or one is a fraction and the other it, rounded.

    `1/3` and `0.33`, `0.5` and `50%`; not `0.52` and `0.5`.
    """
    one, two = _ratio(left), _ratio(right)
    if one is None or two is None:
        return False
    if one[0] == two[0]:
        return True
    return any(
        exact[1] == 0 < rounded[1] and round(exact[0], rounded[1]) == rounded[0]
        for exact, rounded in ((one, two), (two, one))
    )


def _ratio(text: str) -> tuple[Fraction, int] | None:
    """The value and the number of places that it was rounded to; 0 where it is exact."""
    found = _RATIO.fullmatch(text.strip())
    if found is None:
        return None
    whole, places, below, percent, sign, top, bottom = found.groups()
    below = below or bottom or "1"
    if not int(below):
        return None
    value = Fraction(f"{whole}.{places}" if places else whole or sign + top) / int(below)
    return (value / 100, 0) if percent else (value, len(places or ""))
