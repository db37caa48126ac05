"""The task `live_bench`: which questions are of the release, what is missing, and its score."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusechat.metrics.scoring import Items
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._live_rows import in_release, unpacked, written_tests
from fusechat.tasks.live_bench import LiveBench

MISSING = (
    "coding/LCB_generation, coding/coding_completion, language/connections, "
    "language/plot_unscrambling, language/typos"
)


def row(task: str, **fields: Any) -> dict[str, Any]:
    found = {
        "question_id": task, "task": task, "turns": [f"A question of {task}."],
        "ground_truth": "yes", "livebench_release_date": "2024-06-24", "livebench_removal_date": "",
    }  # fmt: skip
    return found | fields


def written(folder: Path, name: str, *rows: Any) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(one)}\n" for one in rows))


def prompts(folder: Path) -> list[Prompt]:
    found = list(LiveBench(data_dir=str(folder)).prompts("test"))
    assert all(isinstance(one, Prompt) for one in found)
    return [one for one in found if isinstance(one, Prompt)]


def items(values: dict[str, list[float]]) -> Items:
    groups = tuple(group for group, found in values.items() for _ in found)
    flat = np.array([value for found in values.values() for value in found])
    nan, names = np.full(len(flat), np.nan), tuple(map(str, range(len(flat))))
    return Items(names, flat, groups, nan, nan, tuple({} for _ in names))


def test_the_real_files_hold_732_questions_of_the_release(shared_data: Path) -> None:
    found = prompts(shared_data)
    assert len(found) == len({prompt.id for prompt in found}) == 732
    assert len({prompt.domain for prompt in found}) == 13
    part = LiveBench(data_dir=str(shared_data))
    assert part.expected() == 1000
    assert part.missing() is None
    (note,) = part.notes()
    assert f"5 of 18 tasks (268 of 1,000 questions) are not there: {MISSING}." in note


@pytest.mark.parametrize(
    ("out", "gone", "kept"),
    [
        ("2024-06-24", "", True), ("2024-08-31", None, True), ("2024-11-25", "", False),
        ("2024-06-24", "2024-11-25", True), ("2024-06-24", "2024-08-31", False),
        (datetime(2024, 7, 26), datetime(2025, 4, 2), True), (datetime(2024, 11, 25), "", False),
    ],
)  # fmt: skip
def test_a_question_is_of_the_release_by_its_two_dates(out: Any, gone: Any, kept: bool) -> None:
    assert in_release({"livebench_release_date": out, "livebench_removal_date": gone}) is kept


def test_a_prompt_is_the_first_turn_with_what_its_grader_needs(tmp_path: Path) -> None:
    instructions = {"instruction_id_list": ["a:b"], "kwargs": [{"n": None}]}
    written(tmp_path, "math_math_comp.jsonl", row("math_comp", subtask="smc", ground_truth="B"))
    written(tmp_path, "instruction_following_simplify.jsonl", row("simplify", **instructions))
    plain, maths = prompts(tmp_path)
    assert maths.chat() == [{"role": "user", "content": "A question of math_comp."}]
    assert (maths.domain, maths.item, maths.answer) == ("math/math_comp", "math_comp", "B")
    assert json.loads(maths.checker or "") == {
        "task": "math_comp", "subtask": "smc", "release": "2024-06-24",
    }  # fmt: skip
    assert plain.answer is None
    assert json.loads(plain.checker or "").items() >= instructions.items()


def test_upstreams_folders_and_the_hubs_files_are_read_too(tmp_path: Path) -> None:
    written(tmp_path, "live_bench/language/typos/question.jsonl", row("typos"))
    table = [row("typos", question_id="other"), row("connections"), row("plot_unscrambling")]
    for one in table:
        one["livebench_release_date"] = datetime(2024, 6, 24)
    file = tmp_path / "livebench/language/data/test-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(table), file)
    found = prompts(tmp_path)
    assert [prompt.item for prompt in found] == ["typos", "connections", "plot_unscrambling"]
    assert "15 of 18 tasks" in LiveBench(data_dir=str(tmp_path)).notes()[0]


def test_rows_that_are_no_questions_say_why(tmp_path: Path) -> None:
    nameless = row("spatial")
    del nameless["question_id"]
    written(
        tmp_path, "reasoning_spatial.jsonl", row("spatial", turns=[]), nameless, row("sudoku"), [1],
        row("spatial", ground_truth=""), row("web_of_lies_v2"), row("spatial"),
        row("spatial", livebench_release_date="2026-01-08"),
    )  # fmt: skip
    written(tmp_path, "coding_LCB_generation.jsonl", row("LCB_generation", public_test_cases=[1]))
    found = list(LiveBench(data_dir=str(tmp_path)).prompts("test"))
    reasons = [one.reason for one in found if isinstance(one, UnreadableRow)]
    assert reasons == [
        "a column is of another kind than LiveBench's", "no turns", "no question_id",
        "'sudoku' is no task of reasoning", "no object", "no ground_truth",
    ]  # fmt: skip
    assert [one.item for one in found if isinstance(one, Prompt)] == ["spatial"]


def test_without_any_file_the_row_is_skipped_and_told_where_to_get_them(tmp_path: Path) -> None:
    reason = LiveBench(data_dir=str(tmp_path)).missing() or ""
    assert reason.startswith(
        f"no file of LiveBench's questions is in {tmp_path}. Get them: the hub"
    )
    assert "no --data-dir was given" in (LiveBench().missing() or "")


def test_another_file_than_the_known_one_is_told(tmp_path: Path) -> None:
    written(tmp_path, "data_analysis_cta.jsonl", row("cta"))
    notes = LiveBench(data_dir=str(tmp_path)).notes()
    assert notes[1].startswith(
        "data_analysis_cta.jsonl is not the known file (data_analysis/cta): "
    )


def packed(value: Any) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def test_shown_and_hidden_written_tests_code_are_put_together(tmp_path: Path) -> None:
    shown = [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]
    hidden = [{"input": "3 4\n", "output": "7\n", "testtype": "stdin"}]
    for private in (json.dumps(hidden), packed(json.dumps(hidden))):
        fields = {"public_test_cases": json.dumps(shown), "private_test_cases": private}
        written(tmp_path, "coding_LCB_generation.jsonl", row("LCB_generation", **fields))
        (prompt,) = prompts(tmp_path)
        assert json.loads(prompt.tests or "") == {
            "inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"],
        }  # fmt: skip


def test_a_function_to_call_is_named_by_the_questions_metadata() -> None:
    cases = json.dumps([{"input": "1\n2", "output": "3", "testtype": "functional"}])
    asked = {"public_test_cases": cases, "original_json": {"metadata": '{"func_name": "plus"}'}}
    assert json.loads(written_tests(asked))["fn_name"] == "plus"
    with pytest.raises(ValueError, match="whose name is not given"):
        written_tests({"public_test_cases": cases})
    with pytest.raises(ValueError, match="no test cases"):
        written_tests({})


class _Calls:
    def __reduce__(self) -> Any:
        return print, ("this must not run",)


@pytest.mark.parametrize(
    "text", [packed(_Calls()), packed({"a": 1}), "no base64!", base64.b64encode(b"x").decode(), ""]
)
def test_hidden_tests_that_are_more_than_a_text_are_refused(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"hidden tests (cannot be unpacked|hold)"):
        unpacked(text)
    assert capsys.readouterr().out == ""


def test_the_score_is_the_mean_of_category_means_of_task_means() -> None:
    part = LiveBench()
    found = items({
        "math/olympiad": [1.0, 0.0], "math/AMPS_Hard": [1.0, 1.0, 1.0, float("nan")],
        "reasoning/spatial": [0.0, 0.0, 0.0], "language/typos": [0.25],
    })  # fmt: skip
    # math (0.5 + 1) / 2 = 0.75; reasoning 0; language 0.25: together 1 / 3
    assert part.score(found) == pytest.approx(100 / 3)
    assert part.extras(found) == {
        "categories": {"math": 75.0, "reasoning": 0.0, "language": 25.0},
        "tasks": {"math/olympiad": 50.0, "math/AMPS_Hard": 100.0, "reasoning/spatial": 0.0,
                  "language/typos": 25.0},
    }  # fmt: skip


def test_the_paper_grades_cut_answers_by_the_rules_of_2024() -> None:
    part = LiveBench()
    assert part.decoding() == {"temperature": 0.0, "max_new_tokens": 4096}
    assert part.graders()["paper"] == {"use": "live_bench", "rules": "published", "grade_cut": True}
    assert part.graded_by() == {"use": "live_bench"}
