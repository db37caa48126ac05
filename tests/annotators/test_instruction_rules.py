"""What the instruction rules find right and wrong, and what they refuse to judge."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.annotators.instruction_rules import InstructionRules
from fusechat.parts import Where, load_part
from fusechat.records import Candidate, Finish, Prompt, Request, Score

COMMA = {"rule": "separator", "text": ", "}


def judge(text: str, checker: Any, strict: bool = False, finish: Finish = "stop") -> Score:
    raw = checker if isinstance(checker, str) or checker is None else json.dumps(checker)
    prompt = Prompt.of("Do it.", domain="chat", checker=raw)
    request = Request(prompt=prompt, source="s", index=0, seed=1, model="m", made_from="x")
    response = request.failure("gone") if finish == "error" else request.response(text, finish)
    row = Candidate(prompt=prompt, response=response, annotator="rules", made_from="row")
    with InstructionRules(strict=strict).open(Where()) as work:
        (score,) = list(work(iter([row])))
    assert isinstance(score, Score)
    assert score.made_from == "row"
    return score


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        ({"rule": "exact", "text": "山河"}, " 山河\n", "山河湖"),
        ({"rule": "starts_with", "text": "Sure:"}, "Sure: yes", "sure: yes"),
        ({"rule": "ends_with", "text": "Done!"}, "yes Done!\n", "yes Done"),
        ({"rule": "contains", "words": ["cat", "dog"]}, "Cat and dog.", "cats and dog"),
        ({"rule": "forbidden", "words": ["cat"]}, "concatenate", "A CAT."),
        ({"rule": "count", "equals": 3}, "a b c", "a b"),
        ({"rule": "count", "at_least": 2, "at_most": 3}, "a b c", "a b c d"),
        ({"rule": "separator", "text": " - "}, "a - b b - c", "a, b, c"),
        ({"rule": "case", "is": "upper"}, "ABC 1", "ABc"),
        ({"rule": "case", "is": "lower"}, "abc 1", "aBc"),
        ({"rule": "from_pool", "pool": ["cat", "dog"]}, "DOG cat", "dog cow"),
        ({"rule": "distinct"}, "dog cat", "dog DOG"),
    ],
)
def test_each_rule_is_met_by_a_right_and_failed_by_a_wrong_response(
    rule: dict[str, Any], right: str, wrong: str
) -> None:
    assert judge(right, [rule]).value == 1.0
    score = judge(wrong, [rule])
    assert score.value == 0.0
    assert json.loads(score.details or "") == {"constraints": 1, "failed": [rule["rule"]]}


def test_items_are_looked_for_between_the_asked_opening_and_ending() -> None:
    checker = [
        {"rule": "starts_with", "text": "Sure:"},
        {"rule": "ends_with", "text": "Done!"},
        {"rule": "count", "equals": 2},
        {"rule": "case", "is": "upper"},
        {"rule": "from_pool", "pool": ["red", "sky blue"]},
        COMMA,
    ]
    assert judge("Sure: RED, SKY BLUE Done!", checker).value == 1.0
    missing_opening = judge("RED, SKY BLUE Done!", checker)
    assert missing_opening.value == pytest.approx(5 / 6)


def test_the_score_is_the_share_of_constraints_met_and_strict_wants_them_all() -> None:
    checker = [{"rule": "count", "equals": 2}, {"rule": "case", "is": "upper"}, COMMA]
    assert judge("a, b", checker).value == pytest.approx(2 / 3)
    assert judge("a, b", checker, strict=True).value == 0.0
    assert judge("A, B", checker, strict=True).value == 1.0


def test_what_cannot_be_judged_is_unscorable_and_never_zero() -> None:
    rule = [{"rule": "count", "equals": 1}]
    for score, reason in [
        (judge("a", None), "the prompt has no checker"),
        (judge("a", rule, finish="length"), "response length"),
        (judge("", rule, finish="error"), "response error"),
        (judge("  ", rule), "response empty"),
    ]:
        assert (score.status, score.value, score.reason) == ("unscorable", None, reason)


@pytest.mark.parametrize(
    "checker",
    [
        "not json",
        [],
        {"rule": "count", "equals": 1},
        [{"rule": "counts", "equals": 1}],
        [{"rule": "count"}],
        [{"rule": "count", "equals": 1, "of": "words"}],
        [{"rule": "case", "is": "title"}],
    ],
)
def test_a_checker_that_cannot_be_read_is_an_error_that_says_where(checker: Any) -> None:
    score = judge("a", checker)
    assert (score.status, score.reason) == ("error", "checker cannot be read")
    assert set(json.loads(score.details or "")) == {"at", "why"}


@given(items=st.lists(st.sampled_from(["cat", "dog", "cow", "pig"]), min_size=1, max_size=6))
def test_count_and_distinct_agree_with_counting_by_hand(items: list[str]) -> None:
    text = ", ".join(items)
    assert judge(text, [{"rule": "count", "equals": len(items)}, COMMA]).value == 1.0
    distinct = len(set(items)) == len(items)
    assert judge(text, [{"rule": "distinct"}, COMMA], strict=True).value == float(distinct)


def test_it_is_found_by_name_and_needs_the_checker() -> None:
    part = load_part("annotators", {"use": "instruction_rules", "strict": True})
    assert part == InstructionRules(strict=True)
    assert InstructionRules.needs == ("checker",)
