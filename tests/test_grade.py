"""`fusechat grade` as a user meets it: one JSON object a line, faults before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusechat.cli import main


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    assert main(["grade", *(str(a) for a in arguments)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_math_verdicts_come_in_the_order_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": "a", "gold": "1/2", "pred": r"So it is \boxed{0.5}."},
        {"id": "b", "gold": "3", "pred": "4"},
        {"gold": "", "pred": "4"},
        {"id": None, "gold": "7", "pred": None},
    ]
    found = printed(capsys, "math", lines(tmp_path / "pairs.jsonl", *rows))
    assert [(row["id"], row["verdict"], row["equal"]) for row in found] == [
        ("a", "correct", True), ("b", "incorrect", False), (3, "unscorable", None),
        (4, "incorrect", False),
    ]  # fmt: skip
    assert [set(row) for row in found] == [{"id", "verdict", "equal", "reason"}] * 4


def humaneval(folder: Path) -> Path:
    test = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(5) == 6\n"
    task = {
        "task_id": "HumanEval/0",
        "prompt": "def inc(x):\n",
        "canonical_solution": "    return x + 1\n",
        "test": test,
        "entry_point": "inc",
    }
    lines(folder / "HumanEval.jsonl", task)
    return folder


def test_code_verdicts_come_in_the_order_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = ["def inc(x):\n    return x + 1\n", "def inc(x):\n    return x\n", "def inc(:"]
    rows = [{"task_id": "HumanEval/0", "solution": program} for program in programs]
    samples = lines(tmp_path / "samples.jsonl", *rows)
    data = humaneval(tmp_path)
    flags = ("--task", "humaneval", "--data-dir", data, "--allow-weak-sandbox")
    found = printed(capsys, "code", samples, *flags)
    assert [row["verdict"] for row in found] == ["pass", "fail", "fail"]
    assert all(set(row) == {"task_id", "verdict", "reason"} for row in found)
    strict = printed(capsys, "code", samples, *flags, "--strict")
    assert [row["verdict"] for row in strict] == ["pass", "fail", "fail"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("math", "none.jsonl"), "No such file"),
        (("math", "bad.jsonl"), "bad.jsonl:2"),
        (("code", "bad.jsonl", "--task", "mbpp"), "bad.jsonl:1"),
    ],
)
def test_faults_of_the_file_are_told_before_anything_is_graded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"gold": "1", "pred": "1"}\nnot JSON\n')
    assert main(["grade", *arguments]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""


def test_an_unknown_task_id_is_a_fault_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"task_id": "HumanEval/999", "solution": "x = 1"}]
    samples = lines(tmp_path / "samples.jsonl", *rows)
    data = humaneval(tmp_path)
    assert (
        main(["grade", "code", str(samples), "--task", "humaneval", "--data-dir", str(data)]) == 2
    )
    assert "HumanEval/999" in capsys.readouterr().err


def test_an_interrupted_grading_says_that_it_starts_from_the_first_row_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def verdicts(_: Path) -> Iterator[dict[str, Any]]:
        yield {"id": 1}
        raise KeyboardInterrupt

    monkeypatch.setattr("fusechat.grading.math_pairs.grade", verdicts)
    assert main(["grade", "math", str(tmp_path / "p.jsonl")]) == 130
    told = capsys.readouterr()
    assert told.out == '{"id": 1}\n'
    assert "interrupted after 1 verdicts" in told.err
    assert "starts with the first row again" in told.err
