"""MT-Bench: two turns, references, ratings, means; what a user's files may lack."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from chat_cases import items, lines, response, said
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks.mt_bench import TEMPERATURES, MTBench, rating_of

NEEDED = {
    "single-v1": "Q {question} A {answer}",
    "single-math-v1": "Q {question} R {ref_answer_1} A {answer}",
    "single-v1-multi-turn": "Q {question_1} A {answer_1} Q {question_2} A {answer_2}",
    "single-math-v1-multi-turn": "Q {question_1} R {ref_answer_1} Q {question_2} R {ref_answer_2} "
                                 "A {answer_1} A {answer_2}",
}  # fmt: skip
QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]},
    {"question_id": 111, "category": "math", "turns": ["1+1?", "Plus 1?"], "reference": ["2"]},
]


def reference(number: int, by: str) -> dict[str, object]:
    turns = [f"{by} one", f"{by} two"]
    return {"question_id": number, "model_id": by, "choices": [{"index": 0, "turns": turns}]}


def task_in(folder: Path, **prompts: str) -> MTBench:
    lines(folder / "mt_bench/question.jsonl", QUESTIONS)
    templates = {**NEEDED, **prompts}
    lines(folder / "judge_prompts.jsonl", [
        {"name": name, "system_prompt": f"S {name}", "prompt_template": text}
        for name, text in templates.items() if text
    ])  # fmt: skip
    return MTBench(data_dir=str(folder))


def with_references(folder: Path, *files: str, number: int = 111) -> MTBench:
    for by in files:
        lines(folder / f"mt_bench/reference_answer/{by}.jsonl", [reference(number, by)])
    return task_in(folder)


def prompts_of(task: MTBench) -> list[Prompt]:
    return [row for row in task.prompts("test") if isinstance(row, Prompt)]


def second_turn(prompt: Prompt, answer: str) -> Prompt:
    """As the next turn is asked: the whole conversation, the same item."""
    assert prompt.turns is not None
    messages = [*prompt.chat(), {"role": "assistant", "content": answer},
                {"role": "user", "content": prompt.turns[0]}]  # fmt: skip
    return Prompt.of(messages, domain=prompt.domain, item=prompt.item, reference=prompt.reference)


def test_the_real_files_give_80_conversations_in_8_categories(shared_data: Path) -> None:
    task = MTBench(data_dir=str(shared_data))
    assert task.missing() is None
    assert task.notes() == []
    found = list(task.prompts("test"))
    assert all(isinstance(row, Prompt) and len(row.turns or ()) == 1 for row in found)
    prompts = prompts_of(task)
    assert [prompt.item for prompt in prompts] == [str(n) for n in range(81, 161)]
    assert Counter(prompt.domain for prompt in prompts) == dict.fromkeys(TEMPERATURES, 10)
    assert task.expected() == 80
    referenced = [prompt for prompt in prompts if prompt.reference]
    assert Counter(p.domain for p in referenced) == {"reasoning": 10, "math": 10, "coding": 10}
    by = {json.loads(prompt.reference or "")["by"] for prompt in referenced}
    assert by == {"gpt-4-0125-preview"}


def test_every_real_question_is_filled_in_both_turns(shared_data: Path) -> None:
    task = MTBench(data_dir=str(shared_data))
    for first in prompts_of(task):
        later = second_turn(first, "First answer of mine.")
        (one,) = task.questions(first, response(first, "First answer of mine."))
        (two,) = task.questions(later, response(later, "Second answer of mine."))
        assert [turn["role"] for turn in one.messages] == ["system", "user"]
        asked = one.messages[1]["content"], two.messages[1]["content"]
        assert "First answer of mine." in asked[0]
        assert "Second answer of mine." not in asked[0]
        assert asked[1].index("First answer of mine.") < asked[1].index("Second answer of mine.")
        for text in (first.messages[0].content, (first.turns or ("",))[0]):
            assert text in asked[1]
        if first.reference:
            turns = json.loads(first.reference)["turns"]
            assert turns[0] in asked[0]
            assert turns[1] not in asked[0]
            assert turns[1] in asked[1]


def test_the_papers_references_come_before_gpt_4s(tmp_path: Path) -> None:
    task = with_references(tmp_path, "gpt-4-0125-preview", "gpt-4")
    writing, math = prompts_of(task)
    assert writing.reference is None
    assert json.loads(math.reference or "")["turns"][0] == "gpt-4-0125-preview one"
    assert not any("Reference answers" in note for note in task.notes())


def test_an_item_without_the_papers_reference_has_gpt_4s_and_it_is_told(tmp_path: Path) -> None:
    lines(tmp_path / "mt_bench/reference_answer/gpt-4-0125-preview.jsonl", [reference(112, "x")])
    task = with_references(tmp_path, "gpt-4")
    assert json.loads(prompts_of(task)[1].reference or "")["by"] == "gpt-4"
    (note,) = [note for note in task.notes() if note.startswith("Reference")]
    assert note.endswith("gpt-4-0125-preview: 111.")


def test_without_the_papers_references_gpt_4s_are_used_and_it_is_told(tmp_path: Path) -> None:
    task = with_references(tmp_path, "gpt-4")
    assert task.missing() is None
    assert any(note.endswith("gpt-4-0125-preview: all.") for note in task.notes())


def test_without_any_references_the_row_is_skipped(tmp_path: Path) -> None:
    told = task_in(tmp_path).missing()
    assert told is not None
    assert "reference" in told
    assert "FuseEval/IF-Eval/MT-Bench/data" in told


def test_a_question_that_lacks_its_reference_is_kept_with_the_reason(tmp_path: Path) -> None:
    task = with_references(tmp_path, "gpt-4", number=130)
    (row,) = [row for row in task.prompts("test") if isinstance(row, UnreadableRow)]
    assert row.reason == "no reference answer to question 111"


@pytest.mark.parametrize(
    ("name", "template", "reason"),
    [
        ("single-v1", "", "single-v1: it is no text"),
        ("single-v1", "{question}", "no place for answer"),
        ("single-v1-multi-turn", "{question_1}{answer_1}{question_2}{answer_2}{ref_answer_1}",
         "a place for ref_answer_1, which nothing fills"),
    ],
)  # fmt: skip
def test_judge_prompts_that_cannot_be_filled_are_told_before_anything_runs(
    tmp_path: Path, name: str, template: str, reason: str
) -> None:
    with_references(tmp_path, "gpt-4")
    told = task_in(tmp_path, **{name: template}).missing()
    assert told is not None
    assert reason in told


@pytest.mark.parametrize(
    ("words", "rating"),
    [
        ("Rating: [[7]]", 7.0),
        ("Rating: [[8.5]] then [[2]]", 8.5),
        ("Rating: [6]", 6.0),
        ("[1] is wrong. Rating: [[9]]", 9.0),
        ("[[10]]", 10.0),
        ("[[11]]", None),
        ("[[seven]]", None),
        ("Rating: 7", None),
        ("", None),
    ],
)
def test_the_rating_is_the_first_in_two_brackets_else_in_one(
    words: str, rating: float | None
) -> None:
    assert rating_of(words) == rating
    found = MTBench().reading(Prompt.of("q", domain="math"), "", said(words))
    assert found == (None if rating is None else {"rating": rating})


def test_the_score_is_the_mean_over_both_turns_out_of_10() -> None:
    task = MTBench()
    # Turn 1: 8 and 6, turn 2: 4 and none: (8 + 6 + 4) / 3 = 6.
    found = items(
        [0.8, 0.4, 0.6, float("nan")], groups=["math", "math", "stem", "stem"],
        names=["a", "a#2", "b", "b#2"],
    )  # fmt: skip
    assert task.score(found) == pytest.approx(6)
    told = task.extras(found)
    assert told["turn_1"] == pytest.approx(7)
    assert told["turn_2"] == pytest.approx(4)
    assert told["categories"] == pytest.approx({"math": 6, "stem": 6})
    assert task.extras(items([0.8]))["turn_2"] is None


def test_a_verdict_says_which_turn_it_is_of() -> None:
    first = Prompt.of("q", domain="math", turns=("more",))
    later = second_turn(first, "a")
    one = MTBench().verdict(first, response(first, "a"), {"": {"rating": 7.0}})
    two = MTBench().verdict(later, response(later, "b"), {"": {"rating": 10.0}})
    assert (one.value, one.details["turn"]) == (0.7, 1)
    assert (two.value, two.details["turn"]) == (1.0, 2)


def test_temperatures_go_by_category_and_cover_all_of_them() -> None:
    task = MTBench()
    assert set(task.temperatures()) == set(task.domains)
    assert task.temperatures()["roleplay"] == 0.7
    assert task.temperatures()["coding"] == 0.0
    assert task.temperatures()["stem"] == 0.1


def test_rows_of_other_layouts_are_kept_with_their_reason(tmp_path: Path) -> None:
    task = with_references(tmp_path, "gpt-4")
    lines(tmp_path / "mt_bench/question.jsonl", [
        {"question_id": 1, "category": "writing", "turns": ["Only one."]},
        {"question_id": 2, "category": "cooking", "turns": ["a", "b"]},
    ])  # fmt: skip
    found = [row for row in task.prompts("test") if isinstance(row, UnreadableRow)]
    assert [row.reason for row in found] == [
        "it has not two turns", "no category of MT-Bench: cooking",
    ]  # fmt: skip
