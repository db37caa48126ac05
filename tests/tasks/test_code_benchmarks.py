"""HumanEval, MBPP and LiveCodeBench: their prompts, decoding and what is told of the row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.chat_cases import items
from tests.live_code_made import doubled, sum_of_line, written

from fusechat.parts import UnreadableRow, load_part
from fusechat.records import Prompt
from fusechat.tasks._code import EvalPlusBenchmark
from fusechat.tasks.humaneval import HumanEval
from fusechat.tasks.live_code_bench import LiveCodeBench
from fusechat.tasks.mbpp import Mbpp

TASK = {
    "task_id": "HumanEval/0", "entry_point": "add", "prompt": 'def add(a, b):\n    """Add."""\n',
    "canonical_solution": "    return a + b\n", "atol": 0, "base_input": [[1, 2]],
    "plus_input": [[3, 4]], "contract": "", "test": "",
}  # fmt: skip


def made(folder: Path, *rows: Any) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "HumanEvalPlus.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return str(folder)


def first(task: EvalPlusBenchmark) -> Prompt:
    row = next(iter(task.prompts("test")))
    assert isinstance(row, Prompt)
    return row


@pytest.mark.parametrize(("task", "count"), [(HumanEval, 164), (Mbpp, 378)])
def test_the_published_files_give_all_items_and_are_known(
    task: type[EvalPlusBenchmark], count: int, shared_data: Path
) -> None:
    part = task(data_dir=str(shared_data))
    rows = list(part.prompts("test"))
    assert len(rows) == count == part.expected()
    assert all(isinstance(row, Prompt) for row in rows)
    assert len({row.item for row in rows if isinstance(row, Prompt)}) == count
    assert part.missing() is None
    assert part.notes() == []


def test_the_answer_is_begun_up_to_its_opened_fence(tmp_path: Path) -> None:
    [asked, begun] = first(HumanEval(data_dir=made(tmp_path, TASK))).chat()
    assert asked["content"] == (
        "Please provide a self-contained Python script that solves the following problem in a "
        'markdown code block:\n```\ndef add(a, b):\n    """Add."""\n```\n'
    )
    assert begun["role"] == "assistant"
    assert begun["content"].endswith("passes corresponding tests:\n```python\n")


def test_qwen_is_asked_in_its_makers_words(tmp_path: Path) -> None:
    turns = first(HumanEval(data_dir=made(tmp_path, TASK), family="qwen")).chat()
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant"]
    assert turns[0]["content"].startswith("You are an intelligent programming assistant")
    assert turns[1]["content"] == (
        "Can you complete the following Python function?\n```python\ndef add(a, b):\n"
        '    """Add."""\n\n```\n'
    )
    assert turns[2]["content"] == "```python\n"


def test_without_prefill_the_same_is_asked_and_the_row_says_so(tmp_path: Path) -> None:
    folder = made(tmp_path, TASK)
    with_it, without = HumanEval(data_dir=folder), HumanEval(data_dir=folder, prefill=False)
    assert first(without).chat() == first(with_it).chat()[:-1]
    assert any("not begun" in note for note in without.notes())
    assert not any("not begun" in note for note in with_it.notes())
    assert "stop" not in without.decoding()


def test_decoding_is_greedy_and_ends_at_the_closing_fence() -> None:
    told = HumanEval().decoding()
    assert (told["temperature"], told["max_new_tokens"]) == (0.0, 2048)
    assert "\n```\n" in told["stop"]
    assert "\n```" in HumanEval(family="qwen").decoding()["stop"]
    assert HumanEval().samples() == 1


@pytest.mark.parametrize("task", [HumanEval(), Mbpp(), HumanEval(prefill=False)])
def test_the_graders_are_parts_as_a_recipe_writes_them(task: EvalPlusBenchmark) -> None:
    graders = {name: load_part("annotators", one) for name, one in task.graders().items()}
    assert list(graders) == ["paper", "robust"]
    assert graders["paper"].grade_cut is True  # type: ignore[attr-defined]
    assert graders["robust"].grade_cut is False  # type: ignore[attr-defined]


def test_plus_inputs_are_left_out_where_nobody_asks_for_them(tmp_path: Path) -> None:
    folder = made(tmp_path, TASK)
    asked = json.loads(first(HumanEval(data_dir=folder)).tests or "")["evalplus"]
    unasked = json.loads(first(HumanEval(data_dir=folder, plus=False)).tests or "")["evalplus"]
    assert asked["plus_input"] == [[3, 4]]
    assert "plus_input" not in unasked
    assert {"contract", "test"}.isdisjoint(asked)


def test_the_plus_figure_counts_items_that_are_right_on_both(tmp_path: Path) -> None:
    told = items(
        [1, 1, 0, np.nan, 1],
        details=[{"plus": True}, {"plus": False}, {"plus": False}, {"plus": True}, {}],
    )
    found = HumanEval().extras(told)
    assert found == {"plus": round(100 / 3, 4), "plus_items": 3}
    assert HumanEval(plus=False).extras(told) == {}
    assert HumanEval().score(told) == 75.0  # 3 of the 4 that are known


def test_a_row_of_another_layout_is_kept_with_its_reason(tmp_path: Path) -> None:
    folder = made(tmp_path, TASK, {"task_id": "x"}, "{")
    rows = list(HumanEval(data_dir=folder).prompts("test"))
    assert isinstance(rows[0], Prompt)
    assert [isinstance(row, UnreadableRow) for row in rows[1:]] == [True, True]
    assert isinstance(rows[1], UnreadableRow)
    assert rows[1].reason == "row is no task of EvalPlus's release"


def test_without_its_file_the_row_says_which_and_where_to_get_it(tmp_path: Path) -> None:
    message = Mbpp(data_dir=str(tmp_path)).missing() or ""
    for part in ("MbppPlus-v0.2.0.jsonl.gz", "evalplus/mbppplus_release", "Apache-2.0"):
        assert part in message


def test_live_code_bench_takes_the_window_of_its_name(tmp_path: Path) -> None:
    days = {"a": "2024-07-31", "b": "2024-08-01", "c": "2024-11-30", "d": "2024-12-01"}
    rows = [sum_of_line(question_id=name, date=f"{day}T00:00:00") for name, day in days.items()]
    written(tmp_path, 4, *rows[:2])
    written(tmp_path, 5, *rows[2:])
    task = LiveCodeBench(data_dir=str(tmp_path))
    found = [row.item for row in task.prompts("test") if isinstance(row, Prompt)]
    assert found == ["b", "c"]
    assert task.missing() is None
    assert task.expected() == 223  # so that two of them make the row partial
    assert any("test3.jsonl" in note for note in task.notes())


def test_hidden_tests_are_named_by_place_and_digest_and_not_copied(tmp_path: Path) -> None:
    written(tmp_path, 4, sum_of_line(), doubled())
    rows = list(LiveCodeBench(data_dir=str(tmp_path)).prompts("test"))
    told = json.loads(rows[1].tests or "")["livecodebench"]  # type: ignore[union-attr]
    line = (tmp_path / "livecodebench" / "test4.jsonl").read_bytes()[told["at"] :].decode()
    assert json.loads(line)["question_id"] == "double"
    assert set(told) == {"file", "at", "sha256"}
    assert str(tmp_path) not in (rows[1].tests or "")  # type: ignore[union-attr]


def test_live_code_bench_is_skipped_where_only_statements_are_there(shared_data: Path) -> None:
    task = LiveCodeBench(data_dir=str(shared_data))
    message = task.missing() or ""
    for part in ("hidden tests", "test5.jsonl", "code_generation_lite", "cannot be graded"):
        assert part in message
    assert list(task.prompts("test")) == []


def test_its_prompts_are_the_ones_that_others_made_of_the_same_statements(
    shared_data: Path, tmp_path: Path
) -> None:
    """A file of others' prompts, in LiveCodeBench's form for Qwen with two sentences changed."""
    path = shared_data / "code" / "lcb_v5_prompts_no_tests.jsonl"
    theirs = [json.loads(line) for line in path.read_text().splitlines()]
    ending = "Enclose your code within delimiters as follows."
    scripts = [row for row in theirs if ending in row["prompt"]][:20]
    assert len(scripts) == 20
    for row in scripts:
        statement = row["prompt"].partition("Question: ")[2].partition("\n\nRead the inputs")[0]
        made_of = sum_of_line(question_content=statement, question_id=row["question_id"],
                              date=row["contest_date"])  # fmt: skip
        written(tmp_path, 5, made_of)
        [prompt] = LiveCodeBench(data_dir=str(tmp_path), family="qwen").prompts("test")
        assert isinstance(prompt, Prompt)
        mine = prompt.messages[-1].content.partition("Question: ")[2]
        other = row["prompt"].partition("Question: ")[2].partition("<|im_end|>")[0]
        told = " Ensure that when the python program runs, it reads the inputs, runs the algorithm"
        assert mine.strip() == other.replace(f"{told} and writes output to STDOUT.", "").strip()


def test_all_223_problems_of_the_window_are_in_that_file(shared_data: Path) -> None:
    path = shared_data / "code" / "lcb_v5_prompts_no_tests.jsonl"
    days = [json.loads(line)["contest_date"][:10] for line in path.read_text().splitlines()]
    assert sum("2024-08-01" <= day <= "2024-11-30" for day in days) == LiveCodeBench().expected()


def test_starter_code_is_shown_where_a_method_is_to_be_written(tmp_path: Path) -> None:
    written(tmp_path, 4, doubled(), sum_of_line())
    rows = list(LiveCodeBench(data_dir=str(tmp_path)).prompts("test"))
    texts = [row.messages[-1].content for row in rows if isinstance(row, Prompt)]
    assert "def double(self, n: int) -> int:" in texts[0]
    assert "Read the inputs from stdin" in texts[1]
    assert texts[1].endswith("### Answer: (use the provided format with backticks)\n\n")
    system = {row.messages[0].role for row in rows if isinstance(row, Prompt)}
    assert system == {"system"}
    gemma = next(iter(LiveCodeBench(data_dir=str(tmp_path), family="gemma").prompts("test")))
    assert isinstance(gemma, Prompt)
    assert [m.role for m in gemma.messages] == ["user"]


def test_ten_samples_at_low_temperature_are_asked_for() -> None:
    task = LiveCodeBench()
    assert task.samples() == 10
    assert task.decoding() == {
        "temperature": 0.2, "top_p": 0.95, "max_new_tokens": 2000, "stop": ["###"],
    }  # fmt: skip
    assert "2024-06-30" in task.differs


def test_the_score_is_the_mean_of_the_problems_means() -> None:
    told = items([0.3, 1.0, 0.0], groups=["easy", "easy", "hard"])
    assert LiveCodeBench().score(told) == pytest.approx(100 * 1.3 / 3)
    assert LiveCodeBench().extras(told) == {"by_difficulty": {"easy": 65.0, "hard": 0.0}}


def test_a_row_without_hidden_tests_is_kept_with_its_reason(tmp_path: Path) -> None:
    row = sum_of_line()
    del row["private_test_cases"]
    written(tmp_path, 4, row, "{", sum_of_line())
    rows = list(LiveCodeBench(data_dir=str(tmp_path)).prompts("test"))
    assert [isinstance(one, UnreadableRow) for one in rows] == [True, True, False]
    assert isinstance(rows[0], UnreadableRow)
    assert rows[0].place == "test4.jsonl:1"
    assert "hidden tests" in rows[0].reason
