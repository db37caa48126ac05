"""The prompts of the miniature world: disjoint splits, right references, failing mistakes."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from typing import Any

import pytest

from fusechat.annotators.instruction_rules import InstructionRules
from fusechat.miniature import chat_world, code_world, math_world, zh_world
from fusechat.miniature.problem import Problem
from fusechat.miniature.world import (
    BASIC_SHARE,
    DOMAINS,
    SPLITS,
    distinct,
    draw_of,
    problems,
    split_of,
)
from fusechat.parts import Where
from fusechat.records import Candidate, Prompt, Request


def follows(checker: str, text: str) -> bool:
    prompt = Prompt.of("x", domain="chat", checker=checker)
    request = Request(prompt=prompt, source="s", index=0, seed=0, model="m", made_from="x")
    row = Candidate(
        prompt=prompt, response=request.response(text, "stop"), annotator="a", made_from="x"
    )
    with InstructionRules(strict=True).open(Where()) as work:
        (score,) = list(work(iter([row])))
    assert score.status == "ok", score
    return bool(score.value)


def passes(tests: str, solution: str) -> bool:
    """Whether generated (so trusted) code passes its tests."""
    space: dict[str, Any] = {}
    exec(solution, space)
    try:
        exec(tests, space)
    except (AssertionError, TypeError, AttributeError):
        return False
    return True


def is_right(problem: Problem, text: str) -> bool:
    if "answer" in problem.gold:
        return text.rsplit("#### ", 1)[-1] == problem.gold["answer"]
    if "tests" in problem.gold:
        return passes(problem.gold["tests"], text)
    return follows(problem.gold["checker"], text)


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_text_of_one_split_is_drawn_for_another(domain: str) -> None:
    drawn = {
        split: {p.text for p in itertools.islice(problems(domain, split, "any"), 1500)}
        for split in SPLITS
    }
    for one, other in itertools.combinations(SPLITS, 2):
        assert not drawn[one] & drawn[other]


def test_the_shares_of_the_splits_are_as_documented() -> None:
    places = [split_of(f"text {number}") for number in range(20_000)]
    for split, share in [("pretrain", 0.70), ("fusion", 0.12), ("dev", 0.06), ("test", 0.12)]:
        assert places.count(split) / len(places) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_reference_is_right_and_a_strangers_answer_is_not(domain: str) -> None:
    some = distinct(domain, "pretrain", "references", 300)
    assert all(is_right(p, p.response) for p in some)
    turned = some[1:] + some[:1]
    strangers = [is_right(p, other.response) for p, other in zip(some, turned, strict=True)]
    assert sum(strangers) / len(strangers) < 0.06


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_fifth_of_the_problems_are_basic_before_repeats_are_left_out(domain: str) -> None:
    basic = [p.basic for p in itertools.islice(problems(domain, "fusion", 0), 2000)]
    assert sum(basic) / len(basic) == pytest.approx(BASIC_SHARE, abs=0.04)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_has_four_hundred_prompts_in_every_split(domain: str) -> None:
    for split in SPLITS:
        assert len({p.text for p in distinct(domain, split, 0, 400)}) == 400


def test_too_many_prompts_are_refused_with_the_number_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def three(rng: random.Random, basic: bool) -> Problem:
        return Problem(f"text {rng.randrange(3)}", "", basic, {})

    monkeypatch.setattr("fusechat.miniature.world.draw_of", lambda domain: three)
    monkeypatch.setattr("fusechat.miniature.world.split_of", lambda text: "dev")
    with pytest.raises(ValueError, match="gave only 3 different prompts; ask for fewer than 4"):
        distinct("math", "dev", 0, 4)


def test_an_unknown_domain_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no domain 'poetry'"):
        draw_of("poetry")


def test_math_chains_are_worked_as_by_hand() -> None:
    steps = [(7, "+", 5), (12, "-", 3), (9, "*", 2)]
    assert math_world.chain(steps) == "7+5=12. 12-3=9. 9*2=18. #### 18"


def test_zh_chains_are_worked_as_by_hand() -> None:
    steps = [("reverse", ""), ("front", "云"), ("remove", "河"), ("rotate", ""), ("behead", "")]
    assert zh_world.chain("山河湖", steps) == (
        "倒写:湖河山。前加云:云湖河山。去河:云湖山。移首:湖山云。去首:山云。答案:山云"
    )


def test_leaving_out_an_operation_fails_the_tests_of_most_functions() -> None:
    rng, kept = random.Random(0), []
    while len(kept) < 300:
        problem = code_world.draw(rng, basic=False)
        lines = problem.response.splitlines()
        shorter = "\n".join([lines[0], *lines[2:]])
        kept.append(passes(problem.gold["tests"], shorter))
    assert sum(kept) / len(kept) < 0.2


def test_one_mistake_breaks_the_rule_and_its_place_is_found() -> None:
    rng = random.Random(0)
    for _ in range(600):
        asked = chat_world.wish(rng, basic=False)
        checker = json.dumps(asked.checker())
        right, wrong = chat_world.right_answer(rng, asked), chat_world.one_mistake(rng, asked)
        assert follows(checker, right)
        assert chat_world.is_right(asked, right)
        assert chat_world.first_fault(asked, right) == len(right)
        assert not follows(checker, wrong), (asked, wrong)
        assert not chat_world.is_right(asked, wrong)


def test_the_first_fault_is_where_no_right_response_can_follow() -> None:
    asked = replace(
        chat_world.Wish("animals", 2), upper=True, start="Sure:", end="Done!", banned="dog"
    )
    faults = {
        "Sure: CAT, COW Done!": 20,
        "Okay: CAT, COW Done!": 0,
        "Sure: cat, COW Done!": 6,
        "Sure: CAT, DOG Done!": 11,
        "Sure: CAT, CAT Done!": 12,
        "Sure: CAT; COW Done!": 9,
        "Sure: CAT, COW, PIG Done!": 14,
        "Sure: CAT, COW": 14,
    }
    for text, place in faults.items():
        assert chat_world.first_fault(asked, text) == place, text
    assert [chat_world.is_right(asked, text) for text in faults] == [True] + [False] * 7
