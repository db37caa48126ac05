"""Letters read out of responses: FuseEval's way with its quirks, and the strict one."""

from __future__ import annotations

import json
import random
import re
from string import ascii_uppercase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fusechat.annotators._choice_paper import paper_guess, paper_letter
from fusechat.annotators._choice_stated import stated_letter
from fusechat.annotators.multiple_choice import MultipleChoice
from fusechat.parts import Where
from fusechat.records import Candidate, Finish, Prompt, Request, Score

COLOURS = ("red", "green", "blue", "a cell wall")


def score(
    text: str,
    gold: str | None = "C",
    options: tuple[str, ...] | None = COLOURS,
    finish: Finish = "stop",
    **settings: object,
) -> Score:
    prompt = Prompt.of("Which?", domain="d", answer=gold, choices=options)
    request = Request(prompt=prompt, source="s", index=0, seed=0, model="m", made_from="r")
    failed = {"error": "no server"} if finish == "error" else {}
    row = Candidate(
        prompt=prompt, response=request.response(text, finish, **failed), annotator="a",
        made_from="c",
    )  # fmt: skip
    with MultipleChoice.model_validate(settings).open(Where()) as work:
        (found,) = work(iter([row]))
    assert isinstance(found, Score)
    return found


@pytest.mark.parametrize(
    ("text", "paper", "robust"),
    [
        ("I cannot decide.", "I", None),
        ("Final: B because I said so", "I", "B"),
        ("The answer is A if it is cold. So the best answer is C.", "A", "C"),
    ],
)
def test_the_traps_are_read_as_fuse_eval_reads_them_and_strictly_otherwise(
    text: str, paper: str, robust: str | None
) -> None:
    assert paper_letter(text)[0] == paper
    assert stated_letter(text, COLOURS).letter == robust


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("So the answer is (C)", "C"),
        ("The answer is C. No, the answer is D.", "C"),
        ("the best answer is D", "D"),
        ("Answer is D", "D"),
        ("Answer: D", "D"),
        ("answer:\n\nE is the one", "E"),
        ("First answer: B, then Answer: C", "C"),
        ("answer: B\nanswer: C", "B"),
        ("A word, then (F).", "F"),
        ("the answer is [C]", "C"),
        ("the answer is c", None),
        ("", None),
        ("no letter here", None),
        ("DNA and RNA", None),
        ("K or Z", None),
    ],
)
def test_fuse_evals_three_expressions_in_their_order(text: str, letter: str | None) -> None:
    assert paper_letter(text)[0] == letter


FRAGMENTS = st.sampled_from(
    ["answer is ", "answer: ", "Answer:", "A", "B", "I", "J", "K", " (", ") ", "\n", " ", "x", "."]
)


def as_fuse_eval(text: str) -> str | None:
    """The three expressions as FuseEval has them."""
    expressions = (
        (r"answer is \(?([A-J])\)?", 0), (r".*[aA]nswer:\s*([A-J])", 0),
        (r"\b([A-J])\b(?!.*\b[A-J]\b)", re.DOTALL),
    )  # fmt: skip
    found = (re.search(expression, text, flags) for expression, flags in expressions)
    return next((match.group(1) for match in found if match), None)


@example("answer: Answer:B")
@given(st.lists(FRAGMENTS, max_size=20).map("".join))
def test_the_paper_reads_what_fuse_evals_own_expressions_find(text: str) -> None:
    assert paper_letter(text)[0] == as_fuse_eval(text)


@pytest.mark.parametrize("piece", ["(", "\n", "_", "**", "answer ", "option ", "x ", "So (A) "])
def test_a_long_loop_of_one_piece_is_read_in_time_that_grows_with_its_length(piece: str) -> None:
    """At this length a quadratic reading would take minutes."""
    text = piece * (100_000 // len(piece))
    assert stated_letter(text, COLOURS).letter in {None, "A"}
    assert paper_letter(text)[0] in {None, "A"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The best answer is C.", "C"),
        ("**The best answer is: (C)**", "C"),
        ("The best answer is [C].", "C"),
        ("The best answer is\n\nC", "C"),
        ("Therefore, the answer is $\\boxed{C}$.", "C"),
        ("\\boxed{\\text{(B)}}", "B"),
        ("\\boxed{b}", "B"),
        ("\\boxed{green}", "B"),
        ("**Answer: C. blue**", "C"),
        ("### Final Answer\n\nC", "C"),
        ("The answer is blue.", "C"),
        ("The best answer is blue (C).", "C"),
        ("Thus, the correct answer is:\n   - **C. blue**\n\nThis follows from the table.", "C"),
        ("The values are options B and C. Let's choose option B as the correct answer.", None),
        ("The answer is A cell wall.", "D"),
        ("The answer is A because of x", "A"),
        ("The answer is A: a cell wall", "A"),
        ("The correct option is (D).", "D"),
        ("Option A is incorrect. Option B is correct.", "B"),
        ("Statement A is correct. Statement B is not.", None),
        ("(C) is the correct answer", "C"),
        ("I would go with option B", "B"),
        ("答案是 C。", "C"),
        ("C", "C"),
        ("**C**", "C"),
        ("(C) blue", "C"),
        ("It took long.\nBlue.", "C"),
        ("So it must be **C**.", "C"),
        ("Hence, (B) is correct.", "B"),
        ("It is not listed, but the closest option would be (B) green, being near.", "B"),
        ("Based on this, what grew most after 100 C.E. is the cell wall (D). It had most.", "D"),
        ("Therefore, (A) cannot be. Thus it is option C.\nI was asked to explain.", "C"),
        ("So, the ratio of (A) to (B) is 2.", None),
        ("Thus (A) is wrong.", None),
    ],
)
def test_a_stated_answer_is_found_in_the_forms_that_models_write(
    text: str, letter: str | None
) -> None:
    assert stated_letter(text, COLOURS).letter == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is B. Wait, no. The answer is D.", "D"),
        ("The answer is C. If it were thin, the answer would be A.", "C"),
        ("The answer is C. Option B is correct only if it is cold.", "C"),
        ("The answer is A if cold and the answer is B if hot.", None),
        ("The answer is A if it is cold.", "A"),
        ("The incorrect answer is A. The correct answer is B", "B"),
        ("The answer is A and B is wrong.", "A"),
        ("The answer is A or B.", None),
        ("The answer is B, C, and D", None),
        ("The answer is not A.", None),
        ("The answer is B. Wait, the answer is J.", None),
        ("Both A and B are wrong so the answer must be C!", "C"),
    ],
)
def test_the_last_plain_statement_counts_and_one_of_two_options_is_none(
    text: str, letter: str | None
) -> None:
    assert stated_letter(text, COLOURS).letter == letter


@pytest.mark.parametrize(
    "text",
    [
        "The answer is I think hard to say.",
        "The best answer is [the_answer_letter].",
        "The best answer is None of the above",
        "The best answer is B-cell lymphoma",
        "Answer: A good choice would be another colour",
        "A. red: no\nB. green: no\nC. blue: yes\nD. a cell wall: no",
        "Is the answer A? No.",
        "",
    ],
)
def test_words_that_only_look_like_a_letter_are_no_answer(text: str) -> None:
    assert stated_letter(text, COLOURS).letter is None


def test_an_option_that_is_there_twice_is_not_found_by_its_text() -> None:
    assert stated_letter("The answer is red.", ("red", "red", "blue")).letter is None
    assert stated_letter("The answer is blue.", ("red", "red", "blue")).letter == "C"


PIECES = st.sampled_from(
    ["The answer is ", "the best answer is ", "Answer: ", "\\boxed{", "}", "option ", "**", "(",
     ")", "A", "B", "C", "I", "J", "Z", "a", "red", "blue", " is correct", " or ", " and ", " if ",
     ".", "\n", " ", "I choose ", "not ", "$", "答案"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=25).map("".join), st.integers(2, 10))
def test_no_text_gives_a_letter_outside_the_options(text: str, count: int) -> None:
    options = ("red", "blue", *(f"option {n}" for n in range(8)))[:count]
    letter = stated_letter(text, options).letter
    assert letter is None or letter in ascii_uppercase[:count]


@given(st.text(max_size=300))
def test_any_text_at_all_can_be_read(text: str) -> None:
    letter = stated_letter(text, COLOURS).letter
    assert letter is None or letter in "ABCD"
    assert paper_letter(text)[0] in {None, *"ABCDEFGHIJ"}


def test_right_and_wrong_letters_score_one_and_nothing() -> None:
    right, wrong = score("The best answer is C."), score("The best answer is B.")
    assert (right.status, right.value, wrong.status, wrong.value) == ("ok", 1.0, "ok", 0.0)
    assert json.loads(right.details or "") == {
        "answer": "C", "how": "answer is", "parsed": True, "gold": "C",
    }  # fmt: skip


def test_a_whole_response_without_an_answer_is_wrong_and_counted_as_not_parsed() -> None:
    found = score("I cannot decide.")
    assert (found.status, found.value, found.reason) == ("ok", 0.0, "no final answer")
    assert json.loads(found.details or "")["parsed"] is False


def test_a_statement_that_names_two_options_is_told() -> None:
    details = json.loads(score("The answer is A or C.").details or "")
    assert details["parsed"] is False
    assert details["stated"] == "A or C"


@pytest.mark.parametrize("options", range(2, 11))
def test_a_guess_is_that_of_fuse_eval_and_does_not_depend_on_other_rows(options: int) -> None:
    random.seed(12345)
    expected = random.randint(0, options - 1)
    assert paper_guess(options) == expected


def test_a_guess_is_recorded_and_said_and_may_be_right() -> None:
    place = paper_guess(4)
    found = score("nothing", gold="ABCD"[place], profile="paper")
    assert (found.value, found.reason) == (1.0, "guessed")
    details = json.loads(found.details or "")
    assert (details["answer"], details["guess"], details["parsed"]) == (
        None, "ABCD"[place], False,
    )  # fmt: skip
    assert score("nothing", gold="ABCD"[place - 1], profile="paper").value == 0.0


def test_the_paper_reads_a_letter_that_the_item_has_not_and_calls_it_wrong() -> None:
    found = score("I cannot decide.", profile="paper")
    assert (found.value, found.reason) == (0.0, "")
    assert json.loads(found.details or "")["answer"] == "I"


@pytest.mark.parametrize(("text", "finish"), [("The answer is C", "length"), (" ", "stop")])
def test_a_cut_or_empty_response_is_graded_only_where_asked(text: str, finish: Finish) -> None:
    assert score(text, finish=finish).status == "unscorable"
    assert score(text, finish=finish, profile="paper").status == "unscorable"
    graded = score(text, finish=finish, profile="paper", grade_cut=True)
    assert graded.status == "ok"
    assert graded.value == (1.0 if text.strip() else float(paper_guess(4) == 2))


def test_a_failed_request_is_never_graded() -> None:
    assert score("", finish="error", profile="paper", grade_cut=True).status == "unscorable"


@pytest.mark.parametrize(
    ("gold", "options"), [(None, COLOURS), ("E", COLOURS), ("C", None), ("", COLOURS)]
)
def test_an_item_without_a_gold_letter_among_its_options_is_unscorable(
    gold: str | None, options: tuple[str, ...] | None
) -> None:
    assert score("The answer is C", gold, options).status == "unscorable"


def test_each_of_several_gold_letters_is_right() -> None:
    assert score("The answer is A", "A,C").value == 1.0
    assert score("The answer is C", "A,C").value == 1.0
    assert score("The answer is B", "A,C").value == 0.0


def test_a_response_is_read_up_to_the_text_at_which_its_model_would_stop() -> None:
    text = "The best answer is C.\n\nQuestion:\nAnother?\nThe best answer is A."
    assert score(text).value == 0.0
    for profile in ("paper", "robust"):
        assert score(text, profile=profile, stop=["Question:"]).value == 1.0
        assert score(text, finish="length", profile=profile, stop=["Question:"]).value == 1.0
    assert score("The best answer is C", finish="length", stop=["Question:"]).status == "unscorable"
    assert score("Question: why?", stop=["Question:"]).status == "unscorable"
