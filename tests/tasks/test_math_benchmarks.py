"""GSM8K, MATH and AMC 23: their items, their prompts, what is skipped and told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fusechat.metrics.scoring import Items
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._benchmark import Benchmark
from fusechat.tasks._math import INSTRUCTION, MathBenchmark, last_boxed
from fusechat.tasks.amc23 import Amc23
from fusechat.tasks.gsm8k import Gsm8k
from fusechat.tasks.math import Math

ALL: tuple[type[MathBenchmark], ...] = (Gsm8k, Math, Amc23)


def prompts_of(part: Benchmark) -> list[Prompt]:
    rows = list(part.prompts("test"))
    assert not [row for row in rows if isinstance(row, UnreadableRow)]
    return [row for row in rows if isinstance(row, Prompt)]


@pytest.mark.parametrize(("kind", "count"), [(Gsm8k, 1319), (Math, 5000), (Amc23, 40)])
def test_every_real_item_is_a_prompt_of_its_own(
    shared_data: Path, kind: type[MathBenchmark], count: int
) -> None:
    part = kind(data_dir=str(shared_data))
    prompts = prompts_of(part)
    assert len(prompts) == len({prompt.id for prompt in prompts}) == count == part.expected()
    assert len({prompt.item for prompt in prompts}) == count
    assert all(prompt.answer for prompt in prompts)
    assert part.missing() is None
    assert part.notes() == []


def test_gold_answers_are_those_of_the_reference_solutions(shared_data: Path) -> None:
    first = {kind: prompts_of(kind(data_dir=str(shared_data)))[0] for kind in ALL}
    assert [first[kind].answer for kind in ALL] == ["18", "2", "27"]
    assert first[Math].domain == "Algebra"
    assert first[Gsm8k].domain == "all"


def test_the_instruction_is_a_system_message_except_for_gemma(shared_data: Path) -> None:
    llama = prompts_of(Amc23(data_dir=str(shared_data)))[0]
    assert [message.role for message in llama.messages] == ["system", "user"]
    assert llama.messages[0].content == INSTRUCTION
    gemma = prompts_of(Amc23(data_dir=str(shared_data), family="gemma"))[0]
    (only,) = gemma.messages
    assert only.content == f"{llama.messages[1].content}\n{INSTRUCTION}"


def test_gold_of_a_file_without_answers_is_the_last_box_of_the_solution(tmp_path: Path) -> None:
    rows = [
        {
            "problem": "p?",
            "solution": "\\boxed{1}, so \\boxed{\\frac{1}{2}}.",
            "subject": "Algebra",
        },
        {"problem": "q?", "solution": "no box"},
        {"problem": "", "answer": "3"},
        {"answer": "3"},
    ]
    (tmp_path / "math_test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = list(Math(data_dir=str(tmp_path)).prompts("test"))
    assert isinstance(found[0], Prompt)
    assert found[0].answer == "\\frac{1}{2}"
    reasons = [row.reason for row in found[1:] if isinstance(row, UnreadableRow)]
    assert reasons == ["no gold answer", "no question", "no problem"]
    assert last_boxed("\\boxed{open") == ""


def test_a_file_that_is_not_there_or_another_is_told(tmp_path: Path) -> None:
    part = Gsm8k(data_dir=str(tmp_path))
    assert "gsm8k_test.jsonl is not in" in (part.missing() or "")
    assert "licence: MIT" in (part.missing() or "")
    (tmp_path / "gsm8k_test.jsonl").write_text('{"question": "q", "answer": "#### 1,000"}\n')
    assert part.missing() is None
    assert "none of the known files (FuseEval's)" in part.notes()[0]
    assert prompts_of(part)[0].answer == "1000"


def test_the_two_profiles_grade_the_same_answers_in_two_ways() -> None:
    graders = Gsm8k().graders()
    assert graders["paper"] == {"use": "fuse_eval_math", "grade_cut": True}
    assert graders["robust"] == {"use": "math_answer"}
    assert Gsm8k().decoding() == {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 2048}


def test_math_is_also_told_by_subject() -> None:
    items = Items(
        names=("a", "b", "c"), values=np.array([1.0, 0.0, 1.0]),
        groups=("Algebra", "Algebra", "Geometry"), characters=np.zeros(3), tokens=np.zeros(3),
        details=({}, {}, {}),
    )  # fmt: skip
    assert Math().extras(items) == {"Algebra": 50.0, "Geometry": 100.0}
    assert round(Math().score(items), 2) == 66.67
