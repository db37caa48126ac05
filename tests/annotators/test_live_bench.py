"""The part `live_bench`: real questions with their ground truth, wrong answers, and what fails."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fusechat.annotators._live_equal import compare
from fusechat.annotators.code_tests import CodeTests
from fusechat.annotators.live_bench import LiveBench
from fusechat.children import KillableChild, Outcome
from fusechat.parts import Where
from fusechat.records import Candidate, Prompt, Score
from fusechat.tasks.live_bench import LiveBench as Questions
from live_cases import candidate, task_of, true_answer

pytest.importorskip("math_verify")


@pytest.fixture(scope="module")
def questions(shared_data: Path) -> list[Prompt]:
    prompts = Questions(data_dir=str(shared_data)).prompts("test")
    return [prompt for prompt in prompts if isinstance(prompt, Prompt)]


def scores(rows: list[Candidate], **settings: Any) -> list[Score]:
    with LiveBench(**settings).open(Where()) as work:
        return list(work(iter(rows)))


def of(task: str, answer: str | None = None, **fields: Any) -> Prompt:
    checker = json.dumps({"task": task, **fields.pop("checker", {})})
    return Prompt.of("What?", domain="d", answer=answer, checker=checker, **fields)


def test_the_ground_truth_of_every_question_is_right(questions: list[Prompt]) -> None:
    asked = [(prompt, text) for prompt in questions if (text := true_answer(prompt))]
    assert len(asked) == 532
    found = scores([candidate(prompt, text) for prompt, text in asked])
    missed = [(p, s) for (p, _), s in zip(asked, found, strict=True) if s.value != 1.0]
    # One integral of the release has no true answer: its computation was aborted.
    assert [(task_of(p), "Aborted" in (p.answer or ""), s.status) for p, s in missed] == [
        ("AMPS_Hard", True, "unscorable")
    ]


def test_the_rules_of_2024_refuse_some_true_answers(questions: list[Prompt]) -> None:
    kept = [p for p in questions if task_of(p) in ("tablereformat", "zebra_puzzle")]
    kept += [p for p in questions if task_of(p) == "AMPS_Hard"]
    rows = [candidate(prompt, true_answer(prompt) or "") for prompt in kept]
    found = scores(rows, rules="published", grade_cut=True)
    refused = Counter(task_of(p) for p, s in zip(kept, found, strict=True) if s.value == 0.0)
    assert refused == {"tablereformat": 7, "zebra_puzzle": 8, "AMPS_Hard": 11}


def test_another_questions_ground_truth_is_not_right(questions: list[Prompt]) -> None:
    """Each answer to the next question of its task, where that has another answer."""
    rows, nearly = [], {"olympiad", "tablejoin"}
    by_task: dict[str, list[Prompt]] = {}
    for prompt in questions:
        by_task.setdefault(task_of(prompt), []).append(prompt)
    for task, prompts in by_task.items():
        for prompt, other in zip(prompts, [*prompts[1:], prompts[0]], strict=True):
            text = true_answer(other)
            if text and prompt.answer != other.answer and task != "AMPS_Hard":
                rows.append((task, candidate(prompt, text)))
    found = scores([row for _, row in rows])
    assert len(found) > 300
    for (task, _), score in zip(rows, found, strict=True):
        assert score.value is not None
        assert score.value < (1.0 if task in nearly else 0.01), task


def test_details_say_what_was_read_and_whether_anything_was() -> None:
    prompt = of("spatial", "3")
    right, wrong, none = scores([candidate(prompt, t) for t in ("**3**", "**4**", "three")])
    assert [one.reason for one in (right, wrong, none)] == [
        "right", "wrong", "no answer in the form asked for",
    ]  # fmt: skip
    assert json.loads(right.details or "") == {"task": "spatial", "parsed": True, "read": "3"}
    assert json.loads(none.details or "") == {"task": "spatial", "parsed": False}


def test_a_cut_or_empty_response_is_graded_only_when_asked_for() -> None:
    prompt = of("spatial", "3")
    rows = [
        candidate(prompt, "**3**", "length"),
        candidate(prompt, " "),
        candidate(prompt, "", "error"),
    ]
    assert [(s.status, s.reason) for s in scores(rows)] == [
        ("unscorable", "response length"), ("unscorable", "response empty"),
        ("unscorable", "response error"),
    ]  # fmt: skip
    assert [s.value for s in scores(rows, grade_cut=True)] == [1.0, 0.0, None]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (Prompt.of("?", domain="d"), "no question of LiveBench"),
        (Prompt.of("?", domain="d", checker="[]"), "no question of LiveBench"),
        (of("house_traversal", "1"), "no question of LiveBench"), (of("spatial"), "no gold answer"),
        (of("olympiad", "one, two"), "gold answer is no list of numbers"),
        (of("tablejoin", "[1]"), "gold answer is no mapping"),
        (of("math_comp", "F", checker={"subtask": "smc"}), "gold answer is no letter"),
        (of("AMPS_Hard", r"\frac{"), "gold answer cannot be read"),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_graded_is_unscorable_with_its_reason(
    prompt: Prompt, reason: str
) -> None:
    (score,) = scores([candidate(prompt, r"\boxed{1}")])
    assert (score.status, score.reason) == ("unscorable", reason)


@pytest.mark.parametrize(
    ("truth", "formula", "same"),
    [
        (r"x^2+2 x+1", r"(x+1)^2", True), (r"\frac{1}{2}", "0.5004", True),  # within 0.001
        (r"\frac{1}{2}", "0.502", False), (r"4 i \sqrt{5}", r"4\sqrt{5}i", True),
        (r"63 \sqrt[3]{2}", r"\sqrt[3]{500094}", True), (r"\log (5 x)", r"\ln(5x)", True),
        (r"\sin ^2(x)", r"1-\cos^2(x)", True), (r"\sin (x)", r"\cos (x)", False),
        ("x+1", "x+2", False), ("x+1", "y+1", False), ("2 x", r"\text{about } 2x", False),
    ],
)  # fmt: skip
def test_formulas_are_compared_by_value(truth: str, formula: str, same: bool) -> None:
    assert (compare(truth, formula) == "equal") == same


def test_logarithms_without_a_base_are_natural_but_for_the_rules_of_2024() -> None:
    assert compare(r"\log (5) x", r"\ln(5)x") == "equal"
    assert compare(r"\log (5) x", r"\ln(5)x", False) == "not equal"
    assert compare(r"\log (5) x", r"\log(5)x", False) == "equal"
    assert compare("3 x", r"\log_2(8)x") == "equal"


def test_a_comparison_that_does_not_end_is_an_error_and_wrong_by_the_rules_of_2024(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed_out = Outcome(False, kind="timeout", reason="timed out")
    monkeypatch.setattr(KillableChild, "call", lambda *args: timed_out)
    row = candidate(of("AMPS_Hard", "x"), r"\boxed{y}")
    (score,) = scores([row])
    assert (score.status, score.reason) == ("error", "comparison of formulas timed out")
    (score,) = scores([row], rules="published")
    assert (score.status, score.value) == ("ok", 0.0)


def test_instructions_give_half_for_all_and_half_for_the_share() -> None:
    checker = {
        "instruction_id_list": ["keywords:existence", "detectable_format:title"],
        "kwargs": [{"keywords": ["sun"], "num_bullets": None}, {"keywords": None}],
    }
    prompt = of("simplify", checker=checker)
    texts = ("<<Day>> The sun.", "The sun.", "Rain.")
    found = scores([candidate(prompt, text) for text in texts])
    assert [score.value for score in found] == [1.0, 0.25, 0.0]  # (1 + 1) / 2, (0 + 1/2) / 2, 0
    assert json.loads(found[1].details or "")["read"] == (
        "keywords:existence: kept, detectable_format:title: not kept"
    )
    (blank,) = scores([candidate(prompt, "")], grade_cut=True)
    assert (blank.value, json.loads(blank.details or "")["parsed"]) == (0.0, False)


def test_an_instruction_that_is_not_known_is_unscorable() -> None:
    checker = {"instruction_id_list": ["punctuation:no_such"], "kwargs": [{}]}
    (score,) = scores([candidate(of("summarize", checker=checker), "Rain.")])
    assert score.status == "unscorable"


def test_every_real_question_of_instruction_following_is_graded(questions: list[Prompt]) -> None:
    asked = [p for p in questions if p.domain.startswith("instruction_following/")]
    found = scores([candidate(p, p.messages[0].content) for p in asked])
    assert len(found) == 200
    assert {score.status for score in found} == {"ok"}
    assert all(0.0 <= (score.value or 0.0) <= 1.0 for score in found)


SUM = json.dumps({"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]})
PLUS = json.dumps({"fn_name": "plus", "inputs": ["1\n2", "3\n4"], "outputs": ["3", "7"]})
ADDS = "print(sum(map(int, input().split())))"
BEGUN = "class Solution:\n    def plus(self, a, b):"


def fenced(code: str) -> str:
    return f"Here it is.\n```python\n{code}\n```\nDone."


@pytest.fixture(scope="module")
def code_scores() -> dict[str, Score]:
    script = of("LCB_generation", tests=SUM)
    begun = of("coding_completion", tests=PLUS, checker={"partial_solution": BEGUN})
    body = "        return a + b"
    rows = {
        "right": candidate(script, fenced(ADDS)),
        "wrong": candidate(script, fenced("print(3)")),
        "prose": candidate(script, "I would add them."),
        "one fence": candidate(script, "```python\nprint(3)"),
        "last fences": candidate(script, fenced("x = 1") + fenced(ADDS)),
        "rest": candidate(begun, fenced(body)),
        "whole": candidate(begun, fenced(f"{BEGUN}\n{body}")),
        "no tests": candidate(of("LCB_generation"), fenced("print(3)")),
    }  # fmt: skip
    found = scores(list(rows.values()))
    return dict(zip(rows, found, strict=True))


def test_code_is_run_against_its_tests(code_scores: dict[str, Score]) -> None:
    values = {name: score.value for name, score in code_scores.items()}
    assert values == {
        "right": 1.0, "wrong": 0.0, "prose": 0.0, "one fence": 0.0, "last fences": 1.0, "rest": 1.0,
        "whole": 1.0, "no tests": None,
    }  # fmt: skip
    assert code_scores["no tests"].reason == "no tests"
    assert code_scores["prose"].reason == "no answer in the form asked for"


def test_by_the_rules_of_2024_a_begun_solution_must_not_be_repeated() -> None:
    begun = of("coding_completion", tests=PLUS, checker={"partial_solution": BEGUN})
    row = candidate(begun, fenced(f"{BEGUN}\n        return a + b"))
    assert [score.value for score in scores([row], rules="published")] == [0.0]


def test_the_part_that_runs_code_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = LiveBench().key()
    monkeypatch.setattr(CodeTests, "version", CodeTests.version + 1)
    assert LiveBench().key() != before
