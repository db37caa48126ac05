"""Verdicts on whole programs: order, reasons, EvalPlus's rules, and the released solutions."""

from __future__ import annotations

import gzip
import json
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmarks.mutants import mutants, wrong_result

from fusechat.annotators import _code_evalplus as _evalplus
from fusechat.errors import FusechatError, MissingExtraError, PartError, RecipeError
from fusechat.grading import code_samples
from fusechat.grading._code_tasks import CodeTask, load_tasks, task_key
from fusechat.grading.code_samples import grade
from fusechat.sandbox import Limits, Sandbox, Verdict

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

HALF = {
    "task_id": "HumanEval/0", "entry_point": "half", "prompt": "def half(x):\n",
    "canonical_solution": "    return x / 2\n", "atol": 0,
    "base_input": [[1], [4]], "plus_input": [[3], [7.5]],
}  # fmt: skip
GROW = {
    "task_id": "HumanEval/1", "entry_point": "grow", "prompt": "def grow(x):\n",
    "canonical_solution": "    x.append(1)\n    return x\n", "atol": 0,
    "base_input": [[[]]], "plus_input": [[[2, 3]]],
}  # fmt: skip
BASE, PLUS = "base inputs fail", "base inputs pass, plus inputs fail"
RIGHT = "def half(x):\n    return x * 0.5\n"
Grade = Callable[..., list[dict[str, Any]]]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture
def graded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grade:
    """Grade (task_id, solution) rows against the rows of a task's file."""
    monkeypatch.setattr(_evalplus, "SECONDS_AN_INPUT", 0.5)

    def run(
        samples: Sequence[tuple[Any, str]],
        tasks: Sequence[dict[str, Any]] = (HALF, GROW),
        name: str = "HumanEvalPlus-v0.1.10.jsonl.gz",
        **options: Any,
    ) -> list[dict[str, Any]]:
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        write(data / name, tasks)
        rows = [{"task_id": task_id, "solution": code} for task_id, code in samples]
        task: Any = "humaneval" if name.lower().startswith("human") else "mbpp"
        return list(grade(write(tmp_path / "s.jsonl", rows), task, data, **options))

    return run


def test_each_row_gets_its_verdict_in_the_order_of_the_file(graded: Grade) -> None:
    rows = [
        ("HumanEval/0", RIGHT, "pass", "passed"),
        ("HumanEval/1", "def grow(x):\n    return x + [1]\n", "pass", "passed"),
        (0, "def half(x):\n    return x // 2\n", "fail", f"a test failed ({BASE})"),
        (0, "def half(x):\n    return x / 2 if x in (1, 4) else 0\n", "fail",
         f"a test failed ({PLUS})"),
        (0, "def half(x):\n    return {1: 0.5, 4: 2.0}[x]\n", "fail", f"raised KeyError ({PLUS})"),
        (0, "\ufeff" + RIGHT, "pass", "passed"),
        ("0", "def half(x:\n", "fail", "does not compile"),
        ("HumanEval/1", "def grow(x):\n    while True: x = x\n", "timeout",
         f"time limit exceeded ({BASE})"),
        ("HumanEval/0", "", "fail", "raised NameError"),
        ("HumanEval/0", "import sys\nsys.exit(0)\n", "fail", "raised SystemExit"),
        ("HumanEval/0", "import no_such\n" + RIGHT, "unscorable",
         "imports 'no_such', which is not here"),
        (1, "def grow(x):\n    return [*x, 1]\n", "pass", "passed"),
    ]  # fmt: skip
    found = graded([(task_id, code) for task_id, code, _, _ in rows], processes=2)
    assert [(r["task_id"], r["verdict"], r["reason"]) for r in found] == [
        (task_id, verdict, reason) for task_id, _, verdict, reason in rows
    ]


def test_an_empty_file_gives_nothing_and_starts_no_sandbox(
    graded: Grade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sandbox, "run", lambda *_: pytest.fail("a program ran"))
    assert graded([]) == []


def test_plain_data_is_judged_by_its_own_tests(graded: Grade) -> None:
    human = {
        "task_id": "HumanEval/0", "prompt": "def half(x):\n", "entry_point": "half",
        "canonical_solution": "    return x / 2\n",
        "test": "def check(candidate):\n    assert candidate(3) == 1.5\n",
    }  # fmt: skip
    mbpp = {
        "task_id": 2, "code": "def half(x):\n    return x / 2\n", "test_setup_code": "three = 3",
        "test_list": ["assert half(three) == 1.5", "assert half(0) == 0"],
    }  # fmt: skip
    wrong = "def half(x):\n    return x // 2\n"
    for name, row, task in (
        ("HumanEval.jsonl", human, "HumanEval/0"), ("mbpp.jsonl", mbpp, "Mbpp/2"),
    ):  # fmt: skip
        found = graded([(task, RIGHT), (task, wrong), (task, "def half(:")], [row], name)
        assert [r["verdict"] for r in found] == ["pass", "fail", "fail"]


def test_a_task_whose_own_solution_fails_here_cannot_be_judged(graded: Grade) -> None:
    raises = HALF | {"canonical_solution": "    return x.no\n"}
    needs = HALF | {"task_id": "HumanEval/1", "prompt": "import no_such\ndef half(x):\n"}
    (first, second) = graded([(0, RIGHT), (1, RIGHT)], [raises, needs])
    assert first["verdict"] == second["verdict"] == "unscorable"
    assert first["reason"] == "the task's own solution fails here: raised RuntimeError"
    assert second["reason"] == "the task's own solution fails here: 'no_such' is not here"


def test_a_program_cannot_make_its_task_unscorable(graded: Grade) -> None:
    (found,) = graded(
        [(0, "def half(x):\n    raise RuntimeError('the reference solution raised')\n")]
    )
    assert (found["verdict"], found["reason"]) == ("fail", f"raised RuntimeError ({BASE})")


def test_unknown_tasks_are_all_named_before_anything_runs(
    graded: Grade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sandbox, "__enter__", lambda _: pytest.fail("a sandbox was started"))
    with pytest.raises(RecipeError) as raised:
        graded([(0, RIGHT), (7, RIGHT), ("Mbpp/0", RIGHT), ("HumanEval/8", RIGHT)])
    told = str(raised.value)
    assert all(f":{line}  task_id  '{name}'" in told for line, name in
               ((2, "7"), (3, "Mbpp/0"), (4, "HumanEval/8")))  # fmt: skip
    assert "task_id  'HumanEval/0'" not in told
    assert told.count("Its ids are like 'HumanEval/0'") == 3
    with pytest.raises(RecipeError, match="and 10 more such lines"):
        graded([(100 + number, RIGHT) for number in range(30)])


@pytest.mark.parametrize(
    ("given", "key"),
    [(7, "Mbpp/7"), ("7", "Mbpp/7"), ("Mbpp/7", "Mbpp/7"), ("x/7", "x/7"), ("Mbpp7", "Mbpp/Mbpp7")],
)
def test_a_task_id_may_be_a_plain_number(given: Any, key: str) -> None:
    assert task_key("mbpp", given) == key


def test_the_file_with_more_tests_and_of_the_newest_version_is_taken(tmp_path: Path) -> None:
    plain = {"task_id": 2, "code": "", "test_list": []}
    write(tmp_path / "mbpp.jsonl", [plain])
    write(tmp_path / "MbppPlus-Mini-v0.9.jsonl.gz", [plain])
    assert load_tasks("mbpp", tmp_path)[1].endswith("mbpp.jsonl")
    plus = HALF | {"task_id": "Mbpp/2"}
    for name in ("MbppPlus-v0.1.0.jsonl", "MbppPlus-v0.2.0.jsonl.gz", "HumanEvalPlus.jsonl"):
        write(tmp_path / name, [plus])
    tasks, origin = load_tasks("mbpp", tmp_path)
    assert origin.endswith("MbppPlus-v0.2.0.jsonl.gz")
    assert list(tasks) == ["Mbpp/2"]


def test_without_data_the_message_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(RecipeError, match=r"HumanEvalPlus-v0\.1\.10.*--data-dir"):
            load_tasks("humaneval", folder)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"fusechat\[hub\]"):
        load_tasks("mbpp", None)

    def fails(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=fails))
    with pytest.raises(FusechatError, match=r"no network.*--data-dir"):
        load_tasks("mbpp", None)


def test_rows_of_the_hub_are_judged_by_the_program_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {
        "task_id": 2, "code": "def half(x):\n    return x / 2\n", "prompt": "Halve.",
        "test_imports": ["import math"], "test_list": ["assert False"],
        "test": "for x in (1, 2):\n    assert math.isclose(half(x), x / 2)\n",
    }  # fmt: skip
    hub = types.SimpleNamespace(load_dataset=lambda name, split: {"evalplus/mbppplus": [row]}[name])
    monkeypatch.setitem(sys.modules, "datasets", hub)
    rows = [{"task_id": 2, "solution": code} for code in (RIGHT, RIGHT.replace("0.5", "1"))]
    found = list(grade(write(tmp_path / "s.jsonl", rows), "mbpp"))
    assert [r["verdict"] for r in found] == ["pass", "fail"]


@pytest.mark.parametrize(
    ("name", "data"),
    [("mbpp.jsonl", b'{"task_id": 1}\n'), ("mbpp.jsonl", b"{"), ("mbpp.jsonl.gz", b"no gzip"),
     ("mbpp.jsonl", b"[1]\n"), ("mbpp.jsonl", b"\xff\n")],
)  # fmt: skip
def test_a_damaged_data_file_is_refused_with_its_name(
    tmp_path: Path, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RecipeError, match=rf"{name}.*Fetch the file again"):
        load_tasks("mbpp", tmp_path)


def test_a_program_stopped_by_the_clock_alone_is_run_again_by_itself(
    graded: Grade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_samples, "check_canaries", lambda *_: None)
    runs: Counter[str] = Counter()

    def run(_: Sandbox, program: str, tests: str) -> Verdict:
        if not tests:  # loading it
            return Verdict("passed", "full")
        runs[program] += 1
        if program == "slow" and runs[program] == 1:
            return Verdict("timeout", "full", cpu_seconds=1.0)
        if program == "endless":
            return Verdict("timeout", "full", cpu_seconds=180.0)
        return Verdict("passed", "full")

    monkeypatch.setattr(Sandbox, "run", run)
    found = graded([(0, name) for name in ("quick", "slow", "endless")], processes=3)
    assert [r["verdict"] for r in found] == ["pass", "pass", "timeout"]
    assert runs == {"quick": 1, "slow": 2, "endless": 1}


@pytest.mark.parametrize("body", ["while True: x = x", "import time; time.sleep(1000)"])
@pytest.mark.parametrize("strict", [False, True])
def test_a_program_that_never_answers_one_input_is_stopped_at_that_input(
    graded: Grade, body: str, strict: bool
) -> None:
    program = f"def half(x):\n    if x == 3:\n        {body}\n    return x / 2\n"
    assert graded([(0, program), (0, RIGHT)], strict=strict) == [
        {"task_id": 0, "verdict": "timeout", "reason": f"time limit exceeded ({PLUS})"},
        {"task_id": 0, "verdict": "pass", "reason": "passed"},
    ]


@pytest.mark.parametrize("program", ["while True: pass", "import time; time.sleep(1000)"])
def test_a_program_that_never_gets_to_its_tests_is_stopped_long_before_their_limit(
    graded: Grade, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(code_samples, "_LOADING_SECONDS", 0.5)
    (found,) = graded([(0, program)])
    assert (found["verdict"], found["reason"]) == (
        "timeout", "time limit exceeded (before any test)",
    )  # fmt: skip


def test_a_sandbox_that_fails_is_an_error_and_a_broken_one_is_not_used(
    graded: Grade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sandbox, "run", lambda *_: Verdict("error", "full", "it died"))
    with pytest.raises(PartError, match="grade code: right code must be 'passed'"):
        graded([(0, RIGHT)])
    monkeypatch.setattr(code_samples, "check_canaries", lambda *_: None)
    (found,) = graded([(0, RIGHT)])
    assert (found["verdict"], found["reason"]) == ("error", "sandbox failed: it died")


def released(shared_data: Path, name: str) -> list[dict[str, Any]]:
    text = gzip.decompress((shared_data / "code" / name).read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]


HUMAN_EVAL, MBPP = "HumanEvalPlus-v0.1.10.jsonl.gz", "MbppPlus-v0.2.0.jsonl.gz"


@pytest.mark.parametrize(
    ("name", "some"), [(HUMAN_EVAL, slice(1, None, 16)), (MBPP, slice(27, None, 42))]
)
def test_twenty_released_solutions_pass_and_wrong_ones_fail(
    shared_data: Path, graded: Grade, name: str, some: slice
) -> None:
    rows = released(shared_data, name)[some]
    assert len(rows) in (9, 11)
    right = [(row["task_id"], _evalplus.reference(row)) for row in rows]
    wrong = [(task, wrong_result(code, row["entry_point"]))
             for (task, code), row in zip(right, rows, strict=True)]  # fmt: skip
    found = graded(right + wrong, rows, name)
    assert [r["verdict"] for r in found] == ["pass"] * len(rows) + ["fail"] * len(rows)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "count"), [(HUMAN_EVAL, 164), (MBPP, 378)])
def test_all_released_solutions_pass(
    shared_data: Path, tmp_path: Path, name: str, count: int
) -> None:
    rows = [
        {"task_id": row["task_id"], "solution": _evalplus.reference(row)}
        for row in released(shared_data, name)
    ]
    task: Any = "humaneval" if name is HUMAN_EVAL else "mbpp"
    found = list(grade(write(tmp_path / "s.jsonl", rows), task, shared_data / "code"))
    assert [r["task_id"] for r in found if r["verdict"] != "pass"] == []
    assert len(found) == count


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(Limits(seconds=20, wall_seconds=60, memory_mb=2048)) as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("name", [HUMAN_EVAL, MBPP])
def test_all_released_solutions_with_another_result_fail(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    rows = [
        {"task_id": row["task_id"],
         "solution": wrong_result(_evalplus.reference(row), row["entry_point"])}
        for row in released(shared_data, name)
    ]  # fmt: skip
    task: Any = "humaneval" if name is HUMAN_EVAL else "mbpp"
    found = list(grade(write(tmp_path / "s.jsonl", rows), task, shared_data / "code"))
    assert [r["task_id"] for r in found if r["verdict"] != "fail"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [HUMAN_EVAL, MBPP])
def test_four_in_five_small_changes_of_a_released_solution_fail(
    shared_data: Path, box: Sandbox, name: str
) -> None:
    statuses: Counter[str] = Counter()
    for row in released(shared_data, name)[::3]:
        task = CodeTask(row["task_id"], {**row, "plus_input": []})
        found = list(mutants(task.reference, row["entry_point"]))
        if found:
            statuses[box.run(found[len(found) // 2], task.tests.source).status] += 1
    assert "error" not in statuses
    assert statuses["passed"] <= statuses.total() / 5, statuses
