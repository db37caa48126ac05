"""Plain values survive the pipe of strict mode with their exact types; nothing else passes."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.sandbox.wire import DEEPEST, NotPlain, dumps, loads

HASHABLE = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False),
        st.complex_numbers(allow_nan=False), st.text(st.characters()), st.binary(),
        st.integers(-(10**60), 10**60),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(tuple), st.frozensets(inner, max_size=4)
    ),
    max_leaves=8,
)  # fmt: skip
PLAIN = st.recursive(
    st.one_of(
        HASHABLE, st.binary().map(bytearray), st.fractions(), st.builds(range, st.integers())
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple),
        st.sets(HASHABLE, max_size=4), st.dictionaries(HASHABLE, inner, max_size=4),
        st.lists(inner, max_size=4).map(deque), st.dictionaries(HASHABLE, inner).map(OrderedDict),
    ),
    max_leaves=20,
)  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Equal, with equal types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, (set, frozenset)):
        return one == other and {type(x) for x in one} == {type(x) for x in other}
    return repr(one) == repr(other)


@settings(max_examples=150, deadline=None)
@given(PLAIN)
def test_a_plain_value_arrives_as_it_was_sent(value: Any) -> None:
    assert same(loads(dumps(value)), value)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, -0.0, "\ud83d\ude00", 10**4000, Decimal("NaN"),
              Counter("abca"), Fraction(-3, 7), {1: True, 2: [1.0]}, True, 1, 1.0],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_values_that_json_alone_would_change_arrive_unchanged(value: Any) -> None:
    assert same(loads(dumps(value)), value)


def test_two_lone_surrogates_do_not_become_one_character() -> None:
    text = "\ud83d" + "\ude00"
    assert len(loads(dumps(text))) == 2


def test_a_dictionary_with_a_default_arrives_as_a_dictionary() -> None:
    assert same(loads(dumps(defaultdict(list, {1: [2]}))), {1: [2]})


class _Always:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class _Int(int):
    pass


class _Text(str):
    __slots__ = ()


class _List(list[int]):
    pass


class _Colour(IntEnum):
    RED = 1


_Point = namedtuple("_Point", "x y")


@pytest.mark.parametrize(
    "value",
    [_Always(), _Int(1), _Text("a"), _List(), _Colour.RED, _Point(1, 2), object(), len, int,
     iter([]), memoryview(b"x"), [1, _Int(1)], {"a": _Always()}, {_Int(1): 2},
     (_Text("a"),), NotImplemented],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_an_object_of_any_other_type_is_refused(value: Any) -> None:
    with pytest.raises(NotPlain):
        dumps(value)


def test_a_value_that_holds_itself_or_lies_too_deep_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    deep: Any = 0
    for _ in range(DEEPEST + 1):
        deep = [deep]
    for value in (ring, deep):
        with pytest.raises(NotPlain, match="deep"):
            dumps(value)
    assert dumps(deep[0])


def test_a_value_too_large_is_refused() -> None:
    row = [0] * 2000
    with pytest.raises(NotPlain, match="large"):
        dumps([row] * 2000)
    with pytest.raises(NotPlain, match="large"):
        dumps("x" * (17 << 20))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.text(), inner),
        st.tuples(st.sampled_from("ltufqdonisbBcrDFhkg"), inner).map(list),
        st.tuples(st.sampled_from("cdrF"), inner, inner).map(list),
    ),
    max_leaves=10,
)  # fmt: skip
EXACT = (
    type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict,
    range, deque, OrderedDict, Counter, Decimal, Fraction,
)  # fmt: skip


def only_plain(value: Any) -> bool:
    """Whether it is made of nothing but the types that are promised."""
    if type(value) in (list, tuple, set, frozenset, deque):
        return all(map(only_plain, value))
    if isinstance(value, dict):
        return type(value) in EXACT and all(
            only_plain(part) for pair in value.items() for part in pair
        )
    return type(value) in EXACT


@settings(max_examples=150, deadline=None)
@given(st.one_of(JSON.map(lambda tree: json.dumps(tree).encode()), st.binary()))
def test_whatever_is_received_becomes_a_plain_value_or_is_refused(text: bytes) -> None:
    try:
        value = loads(text)
    except NotPlain:
        return
    assert only_plain(value)
