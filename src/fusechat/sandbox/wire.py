"""Plain values as text, for the pipe between the judge and the candidate of strict mode.

`dumps` and `loads` keep None, bool, int, float (with nan and the infinities), complex, str,
bytes, list, tuple, set, frozenset, dict, and of the library bytearray, range, deque,
OrderedDict, Counter, Decimal and Fraction: their exact types only, no subclass. Everything else
raises `NotPlain`; a defaultdict arrives as a dict. The text is JSON in which each list begins
with the kind of what follows, so that reading it can make nothing but these values.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal, DecimalException
from fractions import Fraction
from typing import Any, NoReturn

from fusechat.sandbox import pipe

DEEPEST = 100
"""Nesting beyond which a value is refused; one that holds itself is."""
LONGEST = 16 << 20
"""Bytes of a message."""
_MOST = 1_000_000
"""Values in a message."""
_SMALL = 1 << 63
_ITEMS: dict[type, str] = {list: "l", tuple: "t", set: "u", frozenset: "f", deque: "q"}
_PAIRS: dict[type, str] = {dict: "d", OrderedDict: "o", Counter: "n", defaultdict: "d"}
_ITEM_KINDS = {tag: kind for kind, tag in _ITEMS.items()}
_PAIR_KINDS: dict[str, type] = {"d": dict, "o": OrderedDict, "n": Counter}

Reference = Callable[[Any], Any]


class NotPlain(BaseException):
    """A value that does not pass between the processes; the words name its type or fault."""


def _refuse(value: Any) -> NoReturn:
    raise NotPlain(f"a value of type {type(value).__name__}")


def dumps(value: Any, other: Reference = _refuse) -> bytes:
    """The value as text; `other` gives a JSON list for what is not plain, or raises `NotPlain`."""
    try:
        text = json.dumps(_Writer(other).encode(value, 0)).encode()
    except RecursionError:
        raise NotPlain("a value nested too deep") from None
    if len(text) > LONGEST:
        raise NotPlain("a value too large")
    return text


def loads(text: bytes, other: Reference = _refuse) -> Any:
    """The value that `dumps` wrote; `other` is given each list of a kind that is not known."""
    if len(text) > LONGEST:
        raise NotPlain("a value too large")
    try:
        return _decode(json.loads(text), other, 0)
    except (ValueError, TypeError, IndexError, ArithmeticError, RecursionError, DecimalException):
        raise NotPlain("a message that is not in order") from None


class _Writer:
    def __init__(self, other: Reference) -> None:
        self._other, self._left = other, _MOST

    def encode(self, value: Any, depth: int) -> Any:
        kind = type(value)
        self._left -= 1
        if self._left < 0:
            raise NotPlain("a value too large")
        if value is None or kind in (bool, float):
            return value
        if kind is int:
            return value if -_SMALL <= value < _SMALL else ["i", f"{value:x}"]
        if kind is str:
            return _text(value)
        if depth >= DEEPEST:
            raise NotPlain("a value nested too deep")
        if kind in _ITEMS:
            return [_ITEMS[kind], *[self.encode(item, depth + 1) for item in value]]
        if kind in _PAIRS:
            both = [self.encode(part, depth + 1) for pair in value.items() for part in pair]
            return [_PAIRS[kind], *both]
        return self._rare(kind, value)

    def _rare(self, kind: type, value: Any) -> Any:
        if kind in (bytes, bytearray):
            return ["b" if kind is bytes else "B", value.hex()]
        if kind is complex:
            return ["c", value.real, value.imag]
        if kind is range:
            return ["r", *(self.encode(part, 0) for part in (value.start, value.stop, value.step))]
        if kind is Decimal:
            return ["D", str(value)]
        if kind is Fraction:
            return ["F", *(self.encode(part, 0) for part in (value.numerator, value.denominator))]
        return self._other(value)


def _text(value: str) -> Any:
    """Text as itself, or as bytes where lone surrogates would be joined by JSON."""
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        return ["s", value.encode("utf-8", "surrogatepass").hex()]
    return value


def _decode(found: Any, other: Reference, depth: int) -> Any:
    if not isinstance(found, list):
        if isinstance(found, dict):
            raise ValueError
        return found
    if depth > DEEPEST:
        raise ValueError
    tag = found[0]
    if tag in _ITEM_KINDS:
        return _ITEM_KINDS[tag]([_decode(item, other, depth + 1) for item in found[1:]])
    if tag in _PAIR_KINDS:
        parts = [_decode(part, other, depth + 1) for part in found[1:]]
        return _PAIR_KINDS[tag](dict(zip(parts[::2], parts[1::2], strict=True)))
    if tag in _RARE:
        return _RARE[tag](*found[1:])
    return other(found)


def _whole(part: Any) -> int:
    found = _decode(part, _refuse, DEEPEST)
    if type(found) is not int:
        raise ValueError
    return found


def _float(part: Any) -> float:
    if type(part) is not float:
        raise ValueError
    return part


_RARE: dict[str, Callable[..., Any]] = {
    "i": lambda text: int(text, 16),
    "s": lambda text: bytes.fromhex(text).decode("utf-8", "surrogatepass"),
    "b": bytes.fromhex,
    "B": bytearray.fromhex,
    "c": lambda real, imag: complex(_float(real), _float(imag)),
    "r": lambda *parts: range(*map(_whole, parts)),
    "D": Decimal,
    "F": lambda above, below: Fraction(_whole(above), _whole(below)),
}


class Pipe(pipe.Pipe):
    """Messages of bytes over two descriptors; `EOFError` where the other side is gone."""

    def _check(self, length: int) -> None:
        if length > LONGEST:
            raise NotPlain("a message too large")
