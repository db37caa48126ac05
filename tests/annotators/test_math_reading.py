"""Answers as text: what is taken off, what is one value, when two plain numbers are equal."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.annotators._math_numbers import is_plain_number, same_number, same_ratio
from fusechat.annotators._math_reading import is_value, read
from fusechat.annotators._math_text import bare, mended, same_text
from fusechat.annotators._math_units import unit_of


@pytest.mark.parametrize(
    ("answer", "without"),
    [
        ("**18**", "18"), ("$18", "18"), (r"\$18.50", "18.50"), ("$18 dollars.", "18"),
        ("5 hours", "5"), ("12个", "12"), ("$x+1$", "x+1"), (r"\(3\)", "3"), ("-€3", "-3"),
        ("5cm", "5"), ("3 and 5", "3 and 5"), ("50%", "50%"), ("5 percent", "5 percent"),
        ("5 million", "5000000"), ("1.5 million people", "1500000"), ("2 dozen", "24"),
        ("5\x00", "5"), ("\u200b5\u00a0", "5"), ("12", "12"), ("−5", "-5"), ("–5", "-5"),
        (r"\boxed{5}", "5"), ("x²", "x^{2}"), ("$5$ or $6$", "$5$ or $6$"),
    ],
)  # fmt: skip
def test_marks_currency_and_counted_things_are_taken_off(answer: str, without: str) -> None:
    assert bare(answer) == without


@pytest.mark.parametrize(
    "answer",
    ["2x", "2xy", "2 xy", "5 squared", "5 less than x", "5!", "5 sin x", "3 halves", "5 times pi",
     "5 plus x", "2abc", "10 to 12"],
)  # fmt: skip
def test_what_makes_another_value_of_a_number_stays(answer: str) -> None:
    assert bare(answer) == answer


@pytest.mark.parametrize(
    ("answer", "query"),
    [
        ("19, 46, and 82", "19, 46, 82"), (r"19, 46, \text{ and } 82", "19, 46, 82"),
        ("x = 5 or x = 6", "x = 5, x = 6"), ("-2{or}-12", "-2, -12"), ("5 and 5", "5"),
        ("either 5 or 6", "5, 6"), ("$5$, $6$", "5, 6"), ("5 apples and 6 pears", "5, 6"),
        ("1 000 000", "1000000"), (r"1\,000", "1000"), ("-12 345.5", "-12345.5"),
        ("1 000, 2 000", "1000, 2000"), ("1{,}234", "1,234"), (r"32,\! 349", "32349"),
        ("12 34", "12 34"), ("0 123", "0 123"), ("1 2345", "1 2345"), ("1,22", "1,22"),
        (r"\frac{1}{29,322,216}", r"\frac{1}{29322216}"), ("5 1/2", r"5\frac{1}{2}"),
        (r"440\text{ cm}^2", "440"), ("the sum is $7$", "7"), ("I get 7 in all", "7"),
        ("50 percent", r"50\%"), ("x<2 or x>5", r"x<2 \text{ or } x>5"), ("sqrt(2)", r"\sqrt{2}"),
        ("2 pi", r"2 \pi"), (r"\approx8.24", "8.24"), ("5, not 6", "5"), ("5 instead of 6", "5"),
        (r"\begin{pmatrix}4\-3\end{pmatrix}", r"\begin{pmatrix}4\\-3\end{pmatrix}"),
    ],
)  # fmt: skip
def test_an_answer_is_asked_about_as_one_value_or_a_list(answer: str, query: str) -> None:
    assert (read(answer).query, read(answer).fault) == (rf"\boxed{{{query}}}", "")


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("It is not 5", "denied"), ("5 is wrong", "denied"), ("anything but 5", "denied"),
        (r"\text{not } 5", "denied"), ("it isn't 5", "denied"), ("not possible", ""),
        ("between 5 and 6", "several values"), ("5 hours 30 minutes", "several values"),
        ("5 apples out of 10", "several values"), ("$5$ of $6$", "several values"),
        ("more than 5", "in words"), ("5 squared", "in words"), ("seven", "in words"),
        ("one half", "in words"), ("Evelyn", ""), ("x" * 5001, "too long"), ("7" * 5001, ""),
        ("((" * 10_000, "too long"),
    ],
)  # fmt: skip
def test_what_is_not_one_value_says_why(answer: str, fault: str) -> None:
    assert read(answer).fault == fault


def test_groups_of_assignments_are_tuples_in_the_order_of_their_names() -> None:
    reading = read("q = 2, p = 5 ; p = 7, q = 2")
    assert (reading.names, reading.groups) == (("p", "q"), "(5, 2), (7, 2)")
    assert read("p=5; q=2").names == read("p=5,q=2;p=7").names == read("p=5,q=2").names == ()


@pytest.mark.parametrize(
    ("answer", "unit"),
    [
        ("5 km", "kilometre"), (r"5\text{ cm}^2", "centimetre"), ("$5", "dollar"),
        ("5 cents", "cent"),
        (r"90^\circ", "degree"), ("90 degrees", "degree"), ("5 apples", ""), ("5", ""), ("m", ""),
        (r"\$5.40", "dollar"), ("$5$", ""), (r"12\text{ meters}", "metre"),
    ],
)  # fmt: skip
def test_the_unit_beside_a_number_is_known(answer: str, unit: str) -> None:
    assert unit_of(answer) == unit


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("6", True), ("$6$", True), ("6 apples.", True), (r"\frac12", True), ("(B)", True),
        ("x = 6", True),
        ("in the box", False), ("10 less than x", False), ("5 or 6", True), ("correct", False),
        ("6 of the ten apples", False), ("not 6", False), ("reasonable, since 5 > 4 holds", False),
    ],
)  # fmt: skip
def test_a_value_is_told_from_a_sentence(text: str, value: bool) -> None:
    assert is_value(text) == value


PIECES = ["5", "12", ",", "{,}", " ", "\\,", "$", "\\(", "\\)", "and", " or ", "x", "=",
          "\\text{ cm}", "\\frac{1}{2}", "{", "}", "\\boxed{", "*", ".", "%", " km", " million",
          "²", "\x00"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_tidying_twice_changes_nothing_more(text: str) -> None:
    once = bare(text)
    assert bare(once) == once
    assert same_text(same_text(once)) == same_text(once)


@given(st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_reading_never_fails_and_asks_nothing_of_what_has_a_fault(text: str) -> None:
    reading = read(text)
    assert reading.query.startswith(r"\boxed{") or reading.fault or not reading.plain
    assert mended(mended(reading.plain)) == mended(reading.plain)


@given(st.integers(0, 999), st.integers(0, 999))
def test_two_numbers_side_by_side_are_never_the_same_text_as_one(left: int, right: int) -> None:
    assert same_text(f"{left} {right}") != same_text(f"{left}{right}")


INTEGERS = st.integers(-(10**40), 10**40)
DECIMALS = st.decimals(-(10**9), 10**9, places=3)


@given(INTEGERS, INTEGERS)
def test_an_integer_equals_itself_in_every_dress_and_no_other(left: int, right: int) -> None:
    for dress in (str(left), f"{left:,}", f"{left}.00", f"{left}e0"):
        assert is_plain_number(dress)
        assert same_number(str(left), dress)
        assert same_number(dress, str(right)) == (left == right)


@given(DECIMALS, DECIMALS)
def test_a_number_never_equals_another_number_and_equality_is_symmetric(
    left: Decimal, right: Decimal
) -> None:
    one, two = format(left, "f"), format(right, "f")
    assert same_number(one, two) == same_number(two, one) == (left == right)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("2.666667", "2.6666666666666665", True), ("2.66667", "2.6666666666666665", False),
        ("0.0000001", "0.0000002", False), ("0.0", "0.0000001", False), ("5", "5.0000001", False),
        ("1e2", "100", True), ("1.5e-3", "0.0015", True), ("1e999", "1e998", False),
        ("9" * 100_000, "9" * 100_000 + ".0", True), ("9" * 100_000, "9" * 99_999 + "8", False),
        ("007", "7", True), ("-0", "0", True), ("+5", "5", True), ("1,000", "1000", True),
    ],
)  # fmt: skip
def test_plain_numbers_are_compared_by_value(left: str, right: str, same: bool) -> None:
    assert same_number(left, right) == same_number(right, left) == same


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("1/3", "0.33", True), (r"\frac{1}{3}", "0.333", True), (r"\frac13", "1/3", True),
        ("0.5", "50%", True), ("-1/2", "-0.5", True), ("1/3", "0.3", True), ("1/3", "0", False),
        ("1/3", "0.34", False), ("5", "6", False), ("0.5", "0.52", False), ("1/0", "1/0", False),
        ("x", "x", False),
    ],
)  # fmt: skip
def test_one_value_in_two_dresses_is_known(left: str, right: str, same: bool) -> None:
    assert same_ratio(left, right) == same_ratio(right, left) == same


@pytest.mark.parametrize(
    "text", ["", "1,22", "1,2345", "0,123", "1.", "5x", "1e", "1e9999", "--5", "5 "]
)
def test_what_is_no_plain_number_is_left_to_others(text: str) -> None:
    assert not is_plain_number(text)
