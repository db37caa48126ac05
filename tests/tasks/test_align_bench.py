"""AlignBench: its rubric, temperatures, scores read from dictionaries, the two halves."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from chat_cases import items, lines, response, said
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._chat_rubric import FRAME, frame_in, scores_of
from fusechat.tasks.align_bench import LANGUAGE, REASONING, AlignBench

JUDGE = """
import nothing_that_exists
def prompt_construct(sample, config):
    base_prompt = "rubric for {category}\\n{dimensions}" \\
        "{{'x': 1}} {question} {reference} {answer}"
    return base_prompt
"""
ROW = {"question_id": 7, "category": "数学计算", "subcategory": "初等数学", "question": "一加一？",
       "reference": "二"}  # fmt: skip


def task_in(folder: Path, judge: str | None = None, *rows: dict[str, object]) -> AlignBench:
    config = folder / "alignbench_config"
    config.mkdir(exist_ok=True)
    lines(folder / "alignbench_v1.1.jsonl", rows or [ROW])
    for name, content in {
        "subcategory_question_mapping": {"初等数学": "逻辑推理型回答"},
        "dimension_set": {"逻辑推理型回答": ["事实正确性", "完备性"]},
        "dimension_definition": {"事实正确性": "对不对。", "完备性": "全不全。"},
    }.items():
        (config / f"{name}.json").write_text(json.dumps(content))
    if judge is not None:
        (folder / "alignbench_judge.py").write_text(judge)
    return AlignBench(data_dir=str(folder))


def asked_by(task: AlignBench, text: str = "二。") -> str:
    (prompt,) = task.prompts("test")
    assert isinstance(prompt, Prompt)
    (question,) = task.questions(prompt, response(prompt, text))
    (turn,) = question.messages
    assert turn["role"] == "user"
    return turn["content"]


def test_the_real_files_give_683_questions_in_8_categories(shared_data: Path) -> None:
    task = AlignBench(data_dir=str(shared_data))
    assert task.missing() is None
    assert task.expected() == 683
    prompts = [row for row in task.prompts("test") if isinstance(row, Prompt)]
    assert {prompt.item for prompt in prompts} == {str(n) for n in range(1, 684)}
    counts = Counter(prompt.domain for prompt in prompts)
    assert set(counts) == set(task.domains)
    assert counts["数学计算"] == 112
    assert counts["综合问答"] == 38


def test_temperatures_are_those_of_alignbenchs_own_file(shared_data: Path) -> None:
    told = shared_data / "judge/alignbench_config/temperature.json"
    assert AlignBench().temperatures() == json.loads(told.read_text(encoding="utf-8"))


def test_every_real_question_is_asked_about_with_its_dimensions(shared_data: Path) -> None:
    task = AlignBench(data_dir=str(shared_data))
    config = shared_data / "judge/alignbench_config"
    definitions = json.loads((config / "dimension_definition.json").read_text(encoding="utf-8"))
    numbers = Counter()
    for prompt in list(task.prompts("test"))[::40]:
        assert isinstance(prompt, Prompt)
        (question,) = task.questions(prompt, response(prompt, "我的{回答}"))
        asked = question.messages[0]["content"]
        names = json.loads(prompt.checker or "")["dimensions"]
        numbers[len(names)] += 1
        for number, name in enumerate(names, 1):
            assert f"{number}. {name}: {definitions[name]}\n" in asked
        assert prompt.reference is not None
        assert prompt.reference in asked
        assert "我的{回答}" in asked
        assert "'综合得分': 分数}" in asked
    assert set(numbers) == {4, 5}


def test_the_rubric_is_worded_by_us_where_the_judges_file_is_not_there(tmp_path: Path) -> None:
    task = task_in(tmp_path)
    assert task.missing() is None
    assert asked_by(task).startswith(FRAME[:12])
    assert "own words" in task.differs
    assert "alignbench_judge.py" in task.differs


def test_the_rubric_is_alignbenchs_where_its_judge_is_there_and_none_of_it_is_run(
    tmp_path: Path,
) -> None:
    task = task_in(tmp_path, JUDGE)
    assert asked_by(task) == (
        "rubric for 数学计算\n1. 事实正确性: 对不对。\n2. 完备性: 全不全。\n"
        "{'x': 1} 一加一？ 二 二。"
    )
    assert task.differs == ""
    assert task.key() != task_in_other(tmp_path).key()


def task_in_other(folder: Path) -> AlignBench:
    (folder / "other").mkdir()
    return task_in(folder / "other")


@pytest.mark.parametrize(
    "source", ["base_prompt = 'no places'", "base_prompt = 1", "x = (", "other = '{answer}'"]
)
def test_a_file_without_the_rubric_is_not_taken_for_it(tmp_path: Path, source: str) -> None:
    path = tmp_path / "judge.py"
    path.write_text(source)
    assert frame_in(path) is None


@pytest.mark.parametrize(
    ("words", "score", "dimensions"),
    [
        ("好。{'事实正确性': 9, '综合得分': 7}", 7.0, {"事实正确性": 9.0}),
        ("例如{'综合得分': 3}。\n{'完备性': 2, '综合得分': 4}", 4.0, {"完备性": 2.0}),
        ('{\n"完备性": 8,\n"综合得分": 8.5\n}', 8.5, {"完备性": 8.0}),
        ("{'综合得分'： 6}", 6.0, {}),
        ("'综合得分': 5", 5.0, {}),
        ("{'综合得分': 4} 说明 {'完备性': 9}", 4.0, {}),
        ("{'综合得分': 80}", None, {}),
        ("综合得分：7", None, {}),
        ("{'综合得分': 高}", None, {}),
        ("", None, {}),
    ],
)
def test_the_score_is_the_last_overall_one_of_the_judges_dictionaries(
    words: str, score: float | None, dimensions: dict[str, float]
) -> None:
    expected = None if score is None else {"score": score, "dimensions": dimensions}
    assert scores_of(words) == expected
    prompt = Prompt.of("q", domain="数学计算")
    assert AlignBench().reading(prompt, "", said(words)) == expected


def test_a_verdict_is_a_share_of_10_and_keeps_the_dimensions() -> None:
    prompt = Prompt.of("q", domain="数学计算")
    read = {"score": 7.0, "dimensions": {"完备性": 6.0}}
    found = AlignBench().verdict(prompt, response(prompt, "a"), {"": read})
    assert (found.value, found.details) == (0.7, read)


def test_the_score_is_the_mean_of_the_halves_each_the_mean_of_its_categories() -> None:
    # Reasoning: 8 (the mean of 9 and 7) and 4, so 6. Language: 7, 5 and 3 (three times), so 5. The
    # mean of the 8 items would be 5.125.
    found = items(
        [0.9, 0.7, 0.4, 0.7, 0.5, 0.3, 0.3, 0.3],
        groups=["数学计算", "数学计算", "逻辑推理", "基本任务", "中文理解", "综合问答", "综合问答",
                "综合问答"],
    )  # fmt: skip
    assert AlignBench().score(found) == pytest.approx(5.5)
    told = AlignBench().extras(found)
    assert told["reasoning"] == pytest.approx(6)
    assert told["language"] == pytest.approx(5)
    assert told["categories"]["综合问答"] == pytest.approx(3)


def test_with_items_of_one_half_only_the_score_is_that_half() -> None:
    assert AlignBench().score(items([0.5], groups=["逻辑推理"])) == pytest.approx(5)
    assert len(REASONING) + len(LANGUAGE) == len(set(REASONING + LANGUAGE)) == 8


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("dimension_definition", '{"完备性": "全"}', "dimension_definition.json has no 事实正确性"),
        ("dimension_set", "{}", "dimension_set.json has no 逻辑推理型回答"),
        ("dimension_set", "[]", "dimension_set.json: no JSON object"),
        ("dimension_set", "{", "is no JSON"),
    ],
)
def test_files_of_dimensions_that_do_not_fit_are_told_before_anything_runs(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    task = task_in(tmp_path)
    (tmp_path / f"alignbench_config/{name}.json").write_text(content)
    told = task.missing()
    assert told is not None
    assert reason in told


def test_rows_of_unknown_categories_are_kept_with_their_reason(tmp_path: Path) -> None:
    rows = [ROW | {"category": "天气"}, ROW | {"subcategory": "天气"}, ROW | {"reference": ""}]
    found = list(task_in(tmp_path, None, *rows).prompts("test"))
    assert all(isinstance(row, UnreadableRow) for row in found)
    reasons = [row.reason for row in found if isinstance(row, UnreadableRow)]
    assert reasons == [
        "no category of AlignBench: 天气",
        "no kind of question is known for the subcategory 天气",
        "no text in 'reference'",
    ]
