"""`grade math`: one verdict a row, in input order, by the annotator's own code."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fusechat.annotators.math_answer import MathAnswer
from fusechat.children import KillableChild, Outcome
from fusechat.errors import RecipeError
from fusechat.grading.math_pairs import grade
from fusechat.parts import Where
from fusechat.records import Candidate, Prompt, Response

pytest.importorskip("math_verify")


def written(tmp_path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_every_kind_of_verdict_comes_in_input_order(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "gold": "5", "pred": "5.0"},
        {"gold": "5", "pred": "6"},
        {"id": 7, "gold": "x+1", "pred": r"so it is $\boxed{1+x}$."},
        {"gold": "", "pred": "5"},
        {"gold": "5", "pred": ""},
        {"gold": "5", "pred": None},
        {"gold": "5", "pred": "It is not 5"},
        {"gold": "5", "pred": "between 5 and 6"},
        {"gold": "05:00", "pred": "5:01"},
        {"gold": 18, "pred": "#### 18"},
        {"gold": "She sells 9 * 2 = 18.\n#### 18", "pred": "The answer is 18 dollars."},
    ]
    assert list(grade(written(tmp_path, rows), workers=2, timeout=30)) == [
        {"id": "a", "verdict": "correct", "equal": True, "reason": "equal"},
        {"id": 2, "verdict": "incorrect", "equal": False, "reason": "not equal"},
        {"id": 7, "verdict": "correct", "equal": True, "reason": "equal"},
        {"id": 4, "verdict": "unscorable", "equal": None, "reason": "no gold answer"},
        {"id": 5, "verdict": "incorrect", "equal": False, "reason": "no final answer"},
        {"id": 6, "verdict": "incorrect", "equal": False, "reason": "no final answer"},
        {"id": 7, "verdict": "incorrect", "equal": False, "reason": "no final answer"},
        {"id": 8, "verdict": "unscorable", "equal": None,
         "reason": "final answer holds several values"},
        {"id": 9, "verdict": "error", "equal": None, "reason": "math-verify raised ValueError"},
        {"id": 10, "verdict": "correct", "equal": True, "reason": "equal"},
        {"id": 11, "verdict": "correct", "equal": True, "reason": "equal"},
    ]  # fmt: skip


def test_a_file_with_faults_is_refused_before_the_first_verdict(tmp_path: Path) -> None:
    path = written(tmp_path, [{"gold": "5", "pred": "5"}, {"gold": "5"}])
    with pytest.raises(RecipeError, match=r"pairs.jsonl:2  'pred' is missing"):
        next(grade(path))


def test_an_empty_file_gives_nothing(tmp_path: Path) -> None:
    assert list(grade(written(tmp_path, []))) == []


def test_the_first_verdicts_come_before_the_last_rows_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = threading.Event()

    def call(self: KillableChild, gold: str, answer: str) -> Outcome:
        if "z" in answer:
            assert may_go_on.wait(60)
        return Outcome(True, "equal")

    monkeypatch.setattr(KillableChild, "call", call)
    rows = [{"gold": "x+1", "pred": "y+1"}, {"gold": "x+1", "pred": "z"}]
    verdicts = grade(written(tmp_path, rows), workers=2)
    assert next(verdicts)["id"] == 1
    may_go_on.set()
    assert next(verdicts)["id"] == 2


def test_a_child_that_dies_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deaths = set()
    once = KillableChild._once

    def dies_at_times(self: KillableChild, args: tuple[Any, ...]) -> Outcome:
        if args[0] in (r"\boxed{x+3}", r"\boxed{x+7}") and args not in deaths and self.pid:
            deaths.add(args)
            os.kill(self.pid, signal.SIGKILL)
        return once(self, args)

    monkeypatch.setattr(KillableChild, "_once", dies_at_times)
    rows = [{"gold": f"x+{n}", "pred": f"{n}+x"} for n in range(1, 10)]
    verdicts = list(grade(written(tmp_path, rows), workers=2, timeout=30))
    assert [v["verdict"] for v in verdicts] == ["correct"] * 9
    assert len(deaths) == 2


def test_a_pool_of_real_solutions_gets_the_annotators_verdicts(
    tmp_path: Path, shared_data: Path
) -> None:
    lines = (shared_data / "pools" / "gsm8k_model_solutions.jsonl").read_text().splitlines()[:100]
    rows, candidates = [], []
    for problem in map(json.loads, lines):
        for solution in (
            value["solution"] for value in problem.values() if isinstance(value, dict)
        ):
            rows.append({"gold": problem["ground_truth"], "pred": solution})
            prompt = Prompt.of("?", domain="math", answer=problem["ground_truth"])
            response = Response(
                id="r", prompt_id=prompt.id, source="s", index=0, text=solution, finish="stop",
                model="m", made_from="0",
            )  # fmt: skip
            candidates.append(
                Candidate(prompt=prompt, response=response, annotator="math", made_from="1")
            )
    with MathAnswer().open(Where()) as work:
        scores = list(work(iter(candidates)))
    graded = list(grade(written(tmp_path, rows), workers=2))
    assert len(graded) == len(scores) == 400
    assert [v["equal"] for v in graded] == [bool(score.value) for score in scores]
