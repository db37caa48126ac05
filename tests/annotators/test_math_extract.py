"""Final answers in the text of a response: where they are found, and which statement stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.annotators._math_extract import FORMS, final_answer, gold_answer, stated_or_whole


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{1} and then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("#### Step 1\nTwo and three.\n#### Conclusion\nThe answer is 5.", "5"),
        (r"\boxed{\boxed{5}}", "5"),
        ("Final Answer: 5!", "5"),
        (r"\boxed {5}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"first \boxed{3}, at the end \boxed{4", "3"),
        (r"first \boxed{3}, at the end \boxed{}", "3"),
        ("1 + 1 = 2\n#### 2", "2"),
        ("work\nA: 5", "5"),
        ("A: this one?\nB: that one?\nNone.", None),
        ("**Answer:** $\\frac12$\n\nTell me if you need more.", "$\\frac12$"),
        ("Final Answer:\n\n42", "42"),
        ("The final answer is $7$. I hope it is correct.", "$7$"),
        ("Therefore the answer is 3.5.", "3.5"),
        ("Thus, the answer is: 1,234 dollars", "1,234 dollars"),
        ("所以答案是 12。", "12"),
        ("答案:12", "12"),
        ("### Final Answer\n\n18", "18"),
        ("work\n\n**Final Answer**\n\n**18 dollars**", "**18 dollars**"),
        ("## 答案\n18", "18"),
        ("Final Answer:\n\n$$\n18\n$$", "$$ 18 $$"),
        ("### Final Answer\n\n\\[\n18\n\\]", "\\[ 18 \\]"),
        ("the\nanswer\n18", None),
        ("她每天赚18美元。\n答:18美元。", "18美元"),
        ("四个选项中B最大,故选B。", "B"),
        ("The answer is 6.\nThe answer is always here to help.", "6"),
        ("The answer is 6. Hence the answer is verified.", "6"),
        ("The answer is Tom. No: The answer is Evelyn.", "Evelyn"),
        ("so the answer is even.", "even"),
        ("I count 3 apples and 4 pears.", None),
        ("the answer is " + "so to say " * 100, None),
    ],
)
def test_the_stated_final_answer_is_found(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


def test_forms_are_taken_in_the_order_given() -> None:
    text = "The answer is one.\nA: B\nAnswer: 4\n#### 2\n\\boxed{1}"
    assert [final_answer(text, (form,)) for form in FORMS] == ["1", "2", "4", "one"]
    assert final_answer(text, ("sentence", "line")) == "4"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{5} Wait, no: the answer is 6", "6"),
        (r"\boxed{5}. Actually, the final answer is 6.", "6"),
        ("\\boxed{5}\n\nFinal answer: 6", "6"),
        (r"\boxed{5} whatever the answer is 6" + "\n#### 7", "7"),
        (r"\boxed{5}. Wait, it is 6.", "6"),
        (r"\boxed{5} Correction: 6", "6"),
        (r"\boxed{5}, I mean 6.", "6"),
        (r"\boxed{5}. Let me add again: 2 + 4 = 6. The final result is 6.", "6"),
        (r"\boxed{5}. I made a mistake; it should be $6$.", "6"),
        (r"\boxed{5} is wrong, the correct answer is \boxed{6}", "6"),
        ("#### 5\nNo wait, the answer is 6", "6"),
        ("The answer is 5. Wait, 3 + 3 = 6. So it should be 6.", "6"),
        (r"\boxed{5} No, the correct answer is $6$.", "6"),
        ("The answer is not 5. It is 6.", "6"),
        (r"\boxed{A}. Wait, the answer is B.", "B"),
        ("答案是5。不对,答案是6。", "6"),
    ],
)
def test_a_later_value_replaces_what_was_stated(text: str, answer: str) -> None:
    assert (final_answer(text) or "").strip("$") == answer


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{5}. So the answer is (B).",
        r"\boxed{5}. Hence the answer is ten less than fifteen.",
        r"\boxed{5}. The answer is reasonable.",
        "Answer: 5\n\nExplanation: the answer is 10 less than 15.",
        r"so we get \boxed{5}, not 6",
        "Answer: 5\n\nIf the box is not full, then it is 3 cm high. This is question no. 7.",
        r"\boxed{5}. The other option is wrong, since it is 6 less than ten.",
        "Answer: 5. Option 3 is wrong.",
        "\\boxed{5}\n#### Check\n5 is right.",
    ],
)
def test_a_later_sentence_that_is_no_value_replaces_nothing(text: str) -> None:
    assert final_answer(text) == "5"


@pytest.mark.parametrize(
    "text",
    [
        "The answer is not 5.",
        "the answer isn't \\boxed{5}",
        r"It is not $\boxed{5}$",
        "#### not 5",
        "Answer: never 5",
        r"\boxed{5}. Hmm, that is wrong.",
        r"\boxed{5} - no, I made a mistake.",
        r"Is it \boxed{5}? No. The answer cannot be 5.",
    ],
)
def test_what_is_denied_or_withdrawn_is_no_answer(text: str) -> None:
    assert final_answer(text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{5} or \boxed{6}", "5 or 6"),
        (r"$\boxed{5}$, $\boxed{6}$ and $\boxed{7}$", "5, 6, 7"),
        (r"\boxed{5} \text{ or } \boxed{6}", "5 or 6"),
        (r"$\boxed{5}$ or $6$.", "5 or 6"),
        (r"\boxed{5} and \boxed{5}", "5"),
        (r"$x=\boxed{5}$ and so $y=\boxed{6}$", "6"),
        ("$\\boxed{5}$\n\n$\\boxed{6}$", "6"),
    ],
)
def test_joined_boxes_are_one_list_and_of_others_the_last_counts(text: str, answer: str) -> None:
    assert final_answer(text) == answer


def test_the_last_number_counts_only_where_asked_for() -> None:
    text = "I count 3 apples and 1,004 pears."
    assert final_answer(text) is None
    assert final_answer(text, last_number=True) == "1,004"


@pytest.mark.parametrize(
    ("label", "gold"),
    [
        ("5", "5"),
        ("2 + 3 = <<2+3=5>>5\n#### 5", "5"),
        ("x\nA: 5", "5"),
        (r"$\boxed{5}$", "5"),
        ("$5$", "$5$"),
    ],
)
def test_a_gold_label_may_hold_a_whole_solution(label: str, gold: str) -> None:
    assert gold_answer(label) == gold


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("5 hours", "5 hours"),
        ("I get 5. The answer is 6.", "6"),
        ("", None),
        (" \n", None),
        ("First we count the apples, then the pears, and add both of them up. " * 5, None),
        ("7" * 1000, "7" * 1000),
    ],
)
def test_a_bare_answer_is_the_whole_text_but_a_long_prose_states_none(
    text: str, answer: str | None
) -> None:
    assert stated_or_whole(text) == answer


MARKS = ["\\boxed{", "}", "{", "#### ", "A: ", "\nAnswer: ", "the answer is ", "not ", "wait, ",
         "no: it is ", " or ", " and ", "5", "12%", "$", "\n", ". ", "答案是", "\x00",
         "that is wrong"]  # fmt: skip


@given(st.lists(st.sampled_from(MARKS), max_size=25).map("".join))
def test_extraction_never_fails_and_never_gives_an_empty_answer(text: str) -> None:
    found = final_answer(text, last_number=True)
    assert found is None or found.strip()


@pytest.mark.parametrize(
    "piece",
    ["\\boxed{", "{", "#", " ", "the answer is ", "wait no ", "not ", "$", "\\", "A: ", "Answer:\n",
     "\\boxed{5} or ", "it is 6. ", "1", "答案是"],
)  # fmt: skip
def test_a_long_row_of_anything_is_read_to_its_end(piece: str) -> None:
    """Would not come back within the time limit of a test if a pattern were quadratic."""
    found = final_answer(piece * (200_000 // len(piece)))
    assert found is None or found.strip()
