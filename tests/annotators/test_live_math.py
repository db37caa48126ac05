"""LiveBench's mathematics: what is read of a response, and partial marks worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.annotators import _live_math as maths
from fusechat.annotators._live_question import NotGradedError, edit_distance, last_boxed
from live_cases import question

ASKED = r"$\textbf{(A)}~12\qquad\textbf{(B)}~\frac{3}{4}\qquad\textbf{(C)}~-7$ If you cannot"


def letter(response: str, truth: str = "B", corrected: bool = True) -> float:
    subtask = "updated_amc_12a_2023"
    asked = question("math_comp", truth, ASKED, subtask=subtask, corrected=corrected)
    return maths.math_comp(asked, response).value


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("BBBBB", 1.0), ("so BBBB", 1.0), ("so BBB", 0.0), ("AAAAA", 0.0), (r"\boxed{B}", 1.0),
        (r"\boxed{\text{B}}", 0.0), (r"\fbox{B}", 1.0), (r"so it is $\frac{3}{4}$.", 1.0),
        (r"$\frac{3}{4}$, though I would rather have said something else", 0.0), ("", 0.0),
        ("AAAAA, no: BBBBB", 1.0), (r"12 is it: CCCCC", 0.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("corrected", [True, False])
def test_a_letter_is_right_in_a_run_of_four_in_a_box_or_by_its_value(
    response: str, value: float, corrected: bool
) -> None:
    assert letter(response, corrected=corrected) == value


@pytest.mark.parametrize(
    ("truth", "response"),
    [("B", "BBBBB, no: AAAAA"), ("A", "BBBBB, that is 12"), ("A", "so it is 512"), ("A", "12.5")],
)
def test_the_rules_of_2024_take_another_run_or_a_part_of_a_number_and_the_corrected_do_not(
    truth: str, response: str
) -> None:
    assert letter(response, truth, corrected=False) == 1.0
    assert letter(response, truth) == 0.0


def test_a_value_that_the_question_does_not_show_is_never_taken() -> None:
    assert letter("FAILURE", "D") == 0.0


@pytest.mark.parametrize(
    ("tail", "value"), [("the answer is 025", 1.0), ("25", 0.0), ("025" + " " * 18, 0.0)]
)
def test_three_digits_count_within_the_last_twenty_characters(tail: str, value: float) -> None:
    for corrected in (True, False):
        asked = question("math_comp", "025", subtask="aime_i_2024", corrected=corrected)
        response = "025 at first. " * 3 + "So, all in all, " + tail
        assert maths.math_comp(asked, response).value == value


def test_three_digits_of_a_longer_number_count_by_the_rules_of_2024_only() -> None:
    for corrected in (True, False):
        asked = question("math_comp", "025", subtask="aime_i_2024", corrected=corrected)
        assert maths.math_comp(asked, "it is 1025").value == float(not corrected)


def test_a_contest_that_is_not_known_is_not_graded() -> None:
    with pytest.raises(NotGradedError, match="unknown kind"):
        maths.math_comp(question("math_comp", "B", subtask="putnam"), "BBBBB")


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("Answer: 1, 2, 3, 4", 1.0),
        ("Answer: 1, 3, 2, 4", 0.5),  # two replacements of four
        ("Answer: 1, 2", 0.5),  # two of four are missing
        ("Answer: 1, 2, 3, 4, 5", 0.8),  # one too many of five
        ("Answer: 1, 2, 3, 4.", 1.0),
        ("Answer: 1, 2 (I think), 3, 4", 0.5),  # ends at the first piece with more than digits
        ("**Answer:** 1, 2, 3, 4", 1.0),
        ("Answer: 4, 3. Or rather, Answer: 1, 2, 3, 4", 1.0),
        ("answer: 1, 2, 3, 4", 1.0),  # no `Answer`: then the whole text is the list
        ("I do not know", 0.0), ("", 0.0), ("Answer: 1,, 2, 3, 4", 1.0),
    ],
)  # fmt: skip
def test_an_order_is_marked_by_its_edit_distance(response: str, value: float) -> None:
    graded = maths.olympiad(question("olympiad", "1,2,3,4"), response)
    assert graded.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("response", "formula"),
    [
        (r"so $\boxed{x^2 + C}$", "x^2 "), (r"$\boxed{f(x) = 3x}$", " 3x"), ("3x", None),
        (r"\boxed{1,000}", "1000"), (r"\boxed{\frac12}", r"\frac{1}{2}"), (r"\boxed{2", None),
        (r"\boxed{1} then \boxed{\sqrt2}", r"\sqrt{2}"), (r"\boxed 7$ is it", "7"),
        (r"\boxed{\text{about } 5}", "about  5"), (r"\boxed{\overline{AB}}", "AB"),
    ],
)  # fmt: skip
def test_the_formula_of_the_last_box_is_made_plain(response: str, formula: str | None) -> None:
    assert maths.formula(question("AMPS_Hard", "1"), response) == formula


def test_the_rules_of_2024_break_every_root_that_is_not_square() -> None:
    answer = r"\boxed{3 \sqrt[3]{2}}"
    broken = maths.formula(question("AMPS_Hard", "1", corrected=False), answer)
    assert broken == r"3 \sqrt{[}3]{2}"
    assert maths.formula(question("AMPS_Hard", "1"), answer) == r"3 \sqrt[3]{2}"


def test_a_box_is_closed_by_its_own_brace() -> None:
    assert last_boxed(r"\boxed{\frac{1}{2}} and {more}") == r"\frac{1}{2}"
    assert last_boxed(r"\boxed\frac{1}{2}") is None
    assert last_boxed("none") is None


def by_definition(left: list[int], right: list[int]) -> int:
    if not left or not right:
        return len(left) + len(right)
    rest = by_definition(left[1:], right[1:]) + (left[0] != right[0])
    return min(rest, by_definition(left[1:], right) + 1, by_definition(left, right[1:]) + 1)


@given(st.lists(st.integers(0, 3), max_size=5), st.lists(st.integers(0, 3), max_size=5))
def test_the_edit_distance_is_that_of_its_definition(left: list[int], right: list[int]) -> None:
    assert edit_distance(left, right) == by_definition(left, right)
