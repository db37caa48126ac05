"""Arena-Hard: two games with swapped places, verdicts, win rate, what a user's files may lack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chat_cases import ARENA_JUDGE, items, lines, response, said
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._chat_battles import battle, label_of, style_counts
from fusechat.tasks.arena_hard import ArenaHard

QUESTIONS = [{"uid": f"u{n}", "cluster": "k", "prompt": f"What is {n}?"} for n in range(3)]
ANSWERS = [
    {"uid": f"u{n}", "model": "gpt-4-0314", "messages": [
        {"role": "user", "content": f"What is {n}?"},
        {"role": "assistant", "content": {"answer": f"It is {n}."}}]}
    for n in range(3)
]  # fmt: skip


def task_in(folder: Path, judge: str | None = ARENA_JUDGE, **kept: Any) -> ArenaHard:
    lines(folder / "arena-hard-v0.1/question.jsonl", kept.get("questions", QUESTIONS))
    answers = folder / "arena-hard-v0.1/model_answer/gpt-4-0314.jsonl"
    lines(answers, kept.get("answers", ANSWERS))
    if judge is not None:
        (folder / "judge_config.yaml").write_text(judge)
    return ArenaHard(data_dir=str(folder))


def first_of(task: ArenaHard) -> Prompt:
    found = next(iter(task.prompts("test")))
    assert isinstance(found, Prompt)
    return found


def test_the_real_files_give_500_prompts_each_with_the_baselines_answer(
    shared_data: Path, tmp_path: Path
) -> None:
    task = ArenaHard(data_dir=str(shared_data))
    found = list(task.prompts("test"))
    assert len({row.id for row in found if isinstance(row, Prompt)}) == len(found) == 500
    assert task.expected() == 500
    assert task.notes() == []
    first = found[0]
    assert isinstance(first, Prompt)
    assert first.item == "328c149ed45a41c0b9d6f14659e63599"
    assert first.chat()[0]["content"].startswith("Use ABC notation")
    assert first.turns is None
    with (shared_data / "judge/arena_hard_v0.1_answer_gpt-4-0314.jsonl").open() as handle:
        answers = {row["uid"]: row for row in map(json.loads, handle)}
    assert first.reference == answers[first.item]["messages"][1]["content"]["answer"]


def test_without_a_judge_prompt_the_row_is_skipped_with_where_to_get_it(tmp_path: Path) -> None:
    told = task_in(tmp_path, None).missing()
    assert told is not None
    assert "arena_hard_judge_config.yaml is not in" in told
    assert "github.com/lmarena/arena-hard-auto" in told
    assert "Apache-2.0" in told


@pytest.mark.parametrize(
    ("judge", "reason"),
    [
        ("bench_name: arena-hard-v2.0\nsystem_prompt: a\nprompt_template: b", "v2.0"),
        ("prompt_template: '{QUESTION}'", "it has no 'system_prompt' and 'prompt_template'"),
        ("system_prompt: a\nprompt_template: ['{question_1} {answer_1}']", "no place for answer_2"),
        ("system_prompt: a\nprompt_template: '{question_1}{answer_1}{answer_2}{ref_answer_1}'",
         "a place for ref_answer_1, which nothing fills"),
        ("system_prompt: a\nprompt_template: '{question_1'", "its braces do not fit"),
        ("a: [b", "it is no YAML"),
        ("- a", "it has no 'system_prompt' and 'prompt_template'"),
    ],
)  # fmt: skip
def test_a_judge_prompt_that_cannot_be_used_is_told_before_anything_runs(
    tmp_path: Path, judge: str, reason: str
) -> None:
    told = task_in(tmp_path, judge).missing()
    assert told is not None
    assert reason in told
    assert "judge_config.yaml" in told


def test_places_are_swapped_between_the_two_games(tmp_path: Path) -> None:
    task = task_in(tmp_path)
    assert task.missing() is None
    prompt = first_of(task)
    asked = {q.game: q.messages for q in task.questions(prompt, response(prompt, "Mine {x}."))}
    assert [turn["role"] for turn in asked["1"]] == ["system", "user"]
    one, two = (asked[game][1]["content"] for game in ("1", "2"))
    assert one.index("It is 0.") < one.index("Mine {x}.")
    assert two.index("Mine {x}.") < two.index("It is 0.")
    assert "What is 0?" in one


def test_a_judge_prompt_of_the_later_layout_is_filled_alike(tmp_path: Path) -> None:
    judge = "system_prompt: s\nprompt_template: '{QUESTION}|{ANSWER_A}|{ANSWER_B}'"
    task = task_in(tmp_path, judge)
    prompt = first_of(task)
    asked = {q.game: q.messages for q in task.questions(prompt, response(prompt, "Mine."))}
    assert asked["1"][1]["content"] == "What is 0?|It is 0.|Mine."
    assert asked["2"][1]["content"] == "What is 0?|Mine.|It is 0."


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ("So: [[A>>B]]", "A>>B"),
        ("[[A=B]], that is [[A=B]].", "A=B"),
        ("Either [[A>B]] or [[B>A]].", None),
        ("A>B", None),
        ("[[C]]", None),
        ("[[A<B]]", "A<B"),
        ("[[A>B>A]]", None),
        ("", None),
    ],
)
def test_a_verdict_is_the_one_label_of_a_judgment(words: str, label: str | None) -> None:
    assert label_of(words) == label
    found = ArenaHard().reading(Prompt.of("q", domain="all"), "1", said(words))
    assert found == (None if label is None else {"verdict": label})


def test_labels_that_say_the_same_are_the_same_battle() -> None:
    for one, other in (("A>B", "B<A"), ("A>>B", "B<<A"), ("B>A", "A<B"), ("A=B", "B=A")):
        for second in (False, True):
            assert battle(one, second) == battle(other, second)


def test_strong_verdicts_weigh_three_in_an_items_value(tmp_path: Path) -> None:
    task = task_in(tmp_path)
    prompt = first_of(task)
    # Game 1: the response is B and much better, 3 battles won; game 2: it is A and lost one.
    readings = {"1": {"verdict": "B>>A"}, "2": {"verdict": "B>A"}}
    found = task.verdict(prompt, response(prompt, "# Mine\n- **bold**"), readings)
    assert found.value == 0.75
    assert found.details["verdicts"] == {"1": "B>>A", "2": "B>A"}
    assert found.details["found"] == {"1": "much better", "2": "worse"}
    assert found.details["weight"] == 4
    assert found.details["style"] == {"response": [17, 1, 1, 1], "baseline": [8, 0, 0, 0]}
    assert json.loads(json.dumps(found.details)) == found.details


def test_style_is_counted_outside_of_code() -> None:
    text = "# H\n## H2\n1. one\n- two\n  * three\n**b** __c__\n```\n# no\n- no\n**no**\n```"
    assert style_counts(text) == [len(text), 2, 3, 2]


def judged(first: str, second: str) -> dict[str, Any]:
    task, prompt = ArenaHard(), Prompt.of("q", domain="all", reference="Short.")
    readings = {"1": {"verdict": first}, "2": {"verdict": second}}
    return dict(task.verdict(prompt, response(prompt, "Longer than that."), readings).details)


def test_the_score_weighs_battles_over_all_items_and_not_items() -> None:
    # Much better twice: 6 of 6. Worse, then a tie: 0.5 of 2. In all 6.5 of 8; the mean is 0.625.
    details = [judged("B>>A", "A>>B"), judged("A>B", "A=B")]
    found = items([1.0, 0.25], details=details)
    assert ArenaHard().score(found) == pytest.approx(100 * 6.5 / 8)


def test_an_item_that_could_not_be_judged_says_nothing() -> None:
    found = items([1.0, float("nan")], details=[judged("B>A", "A>B"), {}])
    assert ArenaHard().score(found) == 100.0
    assert ArenaHard().extras(found)["games"]["better"] == 2
    assert ArenaHard().extras(items([float("nan")])) == {}


def test_extras_tell_games_disagreements_and_the_interval() -> None:
    details = [judged("B>>A", "A>>B"), judged("A>B", "A>B"), judged("A>B", "A=B")]
    found = ArenaHard().extras(items([1.0, 0.5, 0.25], details=details))
    assert found["games"] == {
        "much better": 2, "better": 1, "tie": 1, "worse": 2, "much worse": 0,
    }  # fmt: skip
    assert found["games_disagree"] == 1
    low, high = found["interval_of_battles"]
    assert low <= 100 * 7.5 / 10 <= high
    # The response is 17 characters to 6 everywhere: its length is not told from its strength.
    assert found["style_controlled"]["win_rate"] is None
    assert "length" in found["style_controlled"]["why"]


def test_older_layouts_of_questions_and_answers_are_read(tmp_path: Path) -> None:
    questions = [{"question_id": "q1", "turns": [{"content": "Why?"}]}]
    answers = [{"question_id": "q1", "choices": [{"turns": [{"content": "So.", "token_len": 2}]}]}]
    task = task_in(tmp_path, questions=questions, answers=answers)
    (found,) = task.prompts("test")
    assert isinstance(found, Prompt)
    assert (found.item, found.reference, found.chat()[0]["content"]) == ("q1", "So.", "Why?")


def test_the_questions_of_the_hub_are_read_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_in(tmp_path)
    (tmp_path / "arena-hard-v0.1/question.jsonl").unlink()
    (hub,) = [file for file in task.data if file.role == "items"]
    assert hub.hub is not None
    assert hub.revision is not None
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    snapshot = tmp_path / "cache/datasets--lmarena-ai--arena-hard-auto-v0.1/snapshots"
    path = snapshot / hub.revision / hub.hub[1]
    path.parent.mkdir(parents=True)
    rows = [{"question_id": "u1", "cluster": "k", "turns": [{"content": "What is 1?"}]}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    found = first_of(task)
    assert (found.item, found.reference) == ("u1", "It is 1.")


def test_rows_that_cannot_be_judged_are_kept_with_their_reason(tmp_path: Path) -> None:
    wrong = [{"uid": "u9", "prompt": "Why?"}, {"uid": "u1", "prompt": " "}, {"prompt": "x"}]
    questions = [*QUESTIONS, *wrong]
    found = list(task_in(tmp_path, questions=questions).prompts("test"))
    unread = [row for row in found if isinstance(row, UnreadableRow)]
    assert [row.place for row in unread] == [f"question.jsonl:{n}" for n in (4, 5, 6)]
    assert unread[0].reason == "gpt-4-0314.jsonl has no answer to u9"
    assert unread[1].reason == "no text in 'prompt'"
    assert unread[2].reason == "it has neither 'uid' nor 'question_id'"


def test_another_version_of_the_file_is_told(tmp_path: Path) -> None:
    notes = task_in(tmp_path).notes()
    assert [note.split(" is none")[0] for note in notes] == ["question.jsonl", "gpt-4-0314.jsonl"]


def test_another_content_is_another_key(tmp_path: Path) -> None:
    before = task_in(tmp_path).key()
    assert task_in(tmp_path).key() == before
    assert task_in(tmp_path, ARENA_JUDGE + "\n# more").key() != before
