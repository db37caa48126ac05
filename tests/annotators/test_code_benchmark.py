"""The grader of HumanEval, MBPP and LiveCodeBench: right solutions pass, wrong ones do not."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.mutants import wrong_result
from tests.live_code_made import (
    RIGHT_DOUBLE,
    RIGHT_SUM,
    doubled,
    fenced,
    packed,
    problem,
    sum_of_line,
    written,
)

from fusechat.annotators import _code_evalplus, _code_live
from fusechat.annotators._code_answers import as_evalplus, as_live_code_bench, defining, stopped
from fusechat.annotators._code_forms import UnreadableTestsError
from fusechat.annotators._code_live import read_problem, unpacked
from fusechat.annotators.code_benchmark import CodeBenchmark
from fusechat.parts import Where, load_part
from fusechat.records import Candidate, Prompt, Response, Score
from fusechat.tasks._code import EvalPlusBenchmark
from fusechat.tasks.humaneval import HumanEval
from fusechat.tasks.live_code_bench import LiveCodeBench
from fusechat.tasks.mbpp import Mbpp

ADD = {
    "task_id": "HumanEval/0", "entry_point": "add", "atol": 0, "base_input": [[1, 2], [5, 6]],
    "prompt": 'import math\n\n\ndef add(a, b):\n    """Add."""\n',
    "canonical_solution": "    return a + b\n", "plus_input": [[-1, -2]],
}  # fmt: skip
BEGUN = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "So:\n```python\n"}]
RIGHT = "def add(a, b):\n    return a + b\n"


def candidate(prompt: Prompt, text: str, finish: Any = "stop") -> Candidate:
    response = Response(
        id="r", prompt_id=prompt.id, source="s", index=0, text=text, finish=finish,
        error="gone" if finish == "error" else None, model="m", made_from="x",
    )  # fmt: skip
    return Candidate(prompt=prompt, response=response, annotator="a", made_from="x")


def graded(part: CodeBenchmark, rows: Iterable[Candidate]) -> list[Score]:
    with part.open(Where()) as work:
        return list(work(iter(list(rows))))


def add_prompt(begun: bool = True, **fields: Any) -> Prompt:
    messages = BEGUN if begun else BEGUN[:1]
    return Prompt.of(messages, domain="all", tests=json.dumps({"evalplus": {**ADD, **fields}}))


def details(score: Score) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(score.details or "{}")
    return found


def of_profiles(*rows: Candidate) -> list[tuple[float | None, float | None]]:
    """What both profiles say of each row."""
    paper = graded(CodeBenchmark(profile="paper", grade_cut=True), rows)
    robust = graded(CodeBenchmark(), rows)
    return [(a.value, b.value) for a, b in zip(paper, robust, strict=True)]


def test_what_follows_an_opened_fence_is_graded_up_to_the_closing_one() -> None:
    texts = {
        "right, closed": f"{RIGHT}```\nIt adds.",
        "right, not closed": RIGHT,
        "right, with another fence": f"```python\n{RIGHT}```",
        "needs the prompt's import": "def add(a, b):\n    return math.floor(a + b)\n```",
        "words behind it": f"{RIGHT}\nThis adds the numbers.",
        "wrong": "def add(a, b):\n    return a - b\n```",
        "another name": "def plus(a, b):\n    return a + b\n```",
        "words": "I cannot do that.",
    }
    found = of_profiles(*(candidate(add_prompt(), text) for text in texts.values()))
    assert dict(zip(texts, found, strict=True)) == {
        "right, closed": (1.0, 1.0),
        "right, not closed": (1.0, 1.0),
        "right, with another fence": (0.0, 1.0),
        "needs the prompt's import": (0.0, 1.0),
        "words behind it": (0.0, 1.0),
        "wrong": (0.0, 0.0),
        "another name": (0.0, 0.0),
        "words": (0.0, 0.0),
    }


def test_without_a_begun_answer_the_fenced_block_is_graded() -> None:
    prompt = add_prompt(begun=False)
    example = f"Use it:\n```python\n{RIGHT}```\nFor example:\n```python\nassert add(1, 1) == 2\n```"
    found = of_profiles(
        candidate(prompt, f"Here:\n```python\n{RIGHT}```\nDone."), candidate(prompt, example),
        candidate(prompt, "No code."),
    )  # fmt: skip
    assert found == [(1.0, 1.0), (1.0, 1.0), (0.0, 0.0)]


def test_plus_inputs_are_told_beside_the_base_verdict() -> None:
    lucky = "def add(a, b):\n    return abs(a) + abs(b)\n```"
    texts = [RIGHT, lucky, "def add(a, b):\n    return 0\n```"]
    scores = graded(CodeBenchmark(), [candidate(add_prompt(), text) for text in texts])
    assert [score.value for score in scores] == [1.0, 1.0, 0.0]
    assert [details(score)["plus"] for score in scores] == [True, False, False]
    assert details(scores[1])["plus_reason"] == "a test failed"
    [score] = graded(CodeBenchmark(), [candidate(add_prompt(plus_input=[]), RIGHT)])
    assert details(score)["plus"] is True  # the task has no inputs but the base ones
    base = Prompt.of(
        BEGUN, domain="all",
        tests=json.dumps({"evalplus": {n: v for n, v in ADD.items() if n != "plus_input"}}),
    )  # fmt: skip
    [score] = graded(CodeBenchmark(), [candidate(base, RIGHT)])
    assert "plus" not in details(score)


def test_what_is_no_verdict_on_the_program_is_never_a_zero() -> None:
    prompt = add_prompt()
    broken = add_prompt(canonical_solution="    raise ValueError\n")
    rows = [
        candidate(prompt, RIGHT, "length"),
        candidate(prompt, " "),
        candidate(prompt, "", "error"),
        candidate(prompt, "import no_such_module_here\n" + RIGHT),
        candidate(broken, RIGHT),
        candidate(Prompt.of(BEGUN, domain="all", tests="assert True"), RIGHT),
        candidate(Prompt.of(BEGUN, domain="all"), RIGHT),
    ]
    scores = graded(CodeBenchmark(), rows)
    assert {score.status for score in scores} == {"unscorable"}
    assert [score.reason for score in scores] == [
        "response length", "response empty", "response error",
        "imports 'no_such_module_here', which is not here", "the task's own solution fails here",
        "tests cannot be read", "tests cannot be read",
    ]  # fmt: skip


def test_the_paper_grades_cut_and_empty_answers_as_they_are() -> None:
    rows = [
        candidate(add_prompt(), RIGHT, "length"), candidate(add_prompt(), "def add(", "length"),
        candidate(add_prompt(), ""),
    ]  # fmt: skip
    scores = graded(CodeBenchmark(profile="paper", grade_cut=True), rows)
    assert [score.value for score in scores] == [1.0, 0.0, 0.0]


def test_an_answer_that_ran_past_its_stop_text_counts_as_stopped_there() -> None:
    part = CodeBenchmark(stop=("\nprint(",))
    text = f"{RIGHT}\nprint(add(1, 2))\nand so on and"
    [score] = graded(part, [candidate(add_prompt(), text, "length")])
    assert score.value == 1.0
    assert stopped("a\nb", ("\nb", "a")) == ("", True)
    assert stopped("a", ("b",)) == ("a", False)


def test_a_program_that_never_ends_fails_by_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_code_evalplus, "SECONDS_AN_INPUT", 0.5)
    text = "def add(a, b):\n    while True:\n        pass\n"
    [score] = graded(CodeBenchmark(), [candidate(add_prompt(), text)])
    assert (score.value, score.reason) == (0.0, "time limit exceeded")


def test_tabs_become_spaces_where_evalplus_does_so() -> None:
    assert as_evalplus("def f():\n\treturn 1\n```\nx", True) == "def f():\n    return 1"
    assert as_evalplus("a\n```py\nb\n```", False) == "b"


def test_the_block_that_defines_the_function_is_found_among_others() -> None:
    other = "```python\nprint(1)\n```"
    assert "def add" in defining(f"{RIGHT}```\nthen\n{other}", True, "add")
    assert "def add" in defining(f"{other}\n```\n{RIGHT}```", False, "add")
    assert defining("add = lambda a, b: a + b", True, "add").startswith("add =")


def witnessed(task: type[EvalPlusBenchmark], folder: Path, take: int | None) -> None:
    """Canonical solutions, through the task's own prompts: both profiles pass all of them."""
    part = task(data_dir=str(folder))
    prompts = [row for row in part.prompts("test") if isinstance(row, Prompt)][:take]
    right, wrong = [], []
    for prompt in prompts:
        row = json.loads(prompt.tests or "")["evalplus"]
        solution = f"{row['prompt']}{row['canonical_solution']}"
        right.append(candidate(prompt, f"{solution}\n```\nThat is all."))
        wrong.append(candidate(prompt, wrong_result(solution, row["entry_point"])))
    for settings in part.graders().values():
        grader = load_part("annotators", settings)
        assert isinstance(grader, CodeBenchmark)
        scores = graded(grader, right)
        assert [(s.value, details(s)["plus"]) for s in scores] == [(1.0, True)] * len(prompts)
        failed = [score.value for score in graded(grader, wrong)]
        assert failed == [0.0] * len(prompts)


@pytest.mark.parametrize("task", [HumanEval, Mbpp])
def test_the_first_canonical_solutions_pass_and_wrong_ones_fail(
    task: type[EvalPlusBenchmark], shared_data: Path
) -> None:
    witnessed(task, shared_data, 5)


@pytest.mark.slow
@pytest.mark.parametrize("task", [HumanEval, Mbpp])
def test_all_canonical_solutions_pass_and_wrong_ones_fail(
    task: type[EvalPlusBenchmark], shared_data: Path
) -> None:
    witnessed(task, shared_data, None)


def live(folder: Path, *rows: Any) -> tuple[list[Prompt], CodeBenchmark, CodeBenchmark]:
    """The prompts of a made file, and both graders."""
    written(folder, 4, *rows)
    task = LiveCodeBench(data_dir=str(folder))
    prompts = [row for row in task.prompts("test") if isinstance(row, Prompt)]
    parts = [load_part("annotators", one) for one in task.graders().values()]
    paper, robust = parts
    assert isinstance(paper, CodeBenchmark)
    assert isinstance(robust, CodeBenchmark)
    return prompts, paper, robust


def test_scripts_and_methods_pass_their_shown_and_hidden_tests(tmp_path: Path) -> None:
    [add, double], paper, robust = live(tmp_path, sum_of_line(), doubled())
    rows = {
        "right script": candidate(add, fenced(RIGHT_SUM)),
        "right on the shown test only": candidate(add, fenced("print(3)")),
        "reads all of its input": candidate(
            add, fenced("import sys\nprint(sum(map(int, sys.stdin.read().split())))")
        ),
        "guarded": candidate(
            add, fenced(f"def main():\n    {RIGHT_SUM}\nif __name__ == '__main__':\n    main()")
        ),
        "without the imports that sites give": candidate(
            add, fenced("print(reduce(operator.add, map(int, input().split())))")
        ),
        "wrong script": candidate(add, fenced("print(0)")),
        "right method": candidate(double, fenced(RIGHT_DOUBLE)),
        "right function": candidate(double, fenced("def double(n):\n    return 2 * n")),
        "wrong method": candidate(double, fenced(RIGHT_DOUBLE.replace("2 *", "3 *"))),
        "another method": candidate(double, fenced(RIGHT_DOUBLE.replace("double", "twice"))),
    }
    expected = [1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    for part in (paper, robust):
        found = dict(zip(rows, (s.value for s in graded(part, rows.values())), strict=True))
        assert found == dict(zip(rows, expected, strict=True))


OUTPUTS = [
    ("3\n", "3\n", True),
    ("3  \n\n", "3\n", True),
    ("3.0\n", "3\n", True),
    ("1e1 2\n", "10   2.00\n", True),
    ("1  2\n", "1 2\n", True),
    ("0.1000001\n", "0.1\n", False),
    ("a  b\n", "a b\n", False),
    ("50000000000000001\n", "50000000000000000\n", False),
    ("1\n2\n", "1 2\n", False),
    ("YES\n", "Yes\n", False),
    ("", "1\n", False),
]


def test_outputs_are_held_line_by_line_then_number_by_number(tmp_path: Path) -> None:
    rows = [problem(f"p{n}", [("x\n", wanted)], []) for n, (_, wanted, _) in enumerate(OUTPUTS)]
    prompts, paper, _ = live(tmp_path, *rows)
    said = [fenced(f"print({printed!r}, end='')") for printed, _, _ in OUTPUTS]
    scores = graded(paper, map(candidate, prompts, said))
    assert [score.value == 1.0 for score in scores] == [same for _, _, same in OUTPUTS]


def test_a_tuple_counts_as_the_list_that_is_wanted_and_a_near_number_does_not(
    tmp_path: Path,
) -> None:
    pair = problem("pair", [("1", "[1, 2]")], [], called="double")
    half = problem("half", [("1", "0.3")], [], called="double")
    [one, two], paper, _ = live(tmp_path, pair, half)
    code = "def double(n):\n    return {}"
    scores = graded(
        paper,
        [
            candidate(one, fenced(code.format("(1, 2)"))),
            candidate(two, fenced(code.format("0.30000001"))),
        ],
    )
    assert [score.value for score in scores] == [1.0, 0.0]


def test_the_paper_takes_the_first_block_and_the_robust_reading_the_last(tmp_path: Path) -> None:
    [add], paper, robust = live(tmp_path, sum_of_line())
    row = candidate(add, f"Not this:\n```python\nprint(0)\n```\nBut:\n```python\n{RIGHT_SUM}\n```")
    assert graded(paper, [row])[0].value == 0.0
    assert graded(robust, [row])[0].value == 1.0
    assert as_live_code_bench("a\n```python\nb\n```\nc") == "b"
    assert as_live_code_bench("```python\nb") == ""


def test_a_script_or_a_method_that_never_ends_fails_and_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_code_live, "SECONDS", 0.3)
    [add, double], paper, _ = live(tmp_path, sum_of_line(), doubled())
    endless = "while True:\n    pass"
    rows = [
        candidate(add, fenced(endless)),
        candidate(
            double, fenced(f"def double(n):\n    {endless}".replace("\n    p", "\n        p"))
        ),
        candidate(add, fenced(RIGHT_SUM)),
    ]
    found = [(score.value, score.reason) for score in graded(paper, rows)]
    assert found == [(0.0, "time limit exceeded")] * 2 + [(1.0, "passed")]


def test_more_tests_than_one_run_takes_are_all_run(tmp_path: Path) -> None:
    cases = [(f"{n} {n}\n", f"{2 * n}\n") for n in range(25)]
    [add], paper, _ = live(tmp_path, problem("many", cases[:2], cases[2:]))
    last_wrong = "n = sum(map(int, input().split()))\nprint(n if n < 48 else 0)"
    scores = graded(paper, [candidate(add, fenced(RIGHT_SUM)), candidate(add, fenced(last_wrong))])
    assert [score.value for score in scores] == [1.0, 0.0]


def test_another_file_than_the_prompts_were_made_from_is_no_verdict(tmp_path: Path) -> None:
    [add], paper, _ = live(tmp_path, sum_of_line())
    written(tmp_path, 4, sum_of_line(question_title="changed"))
    [score] = graded(paper, [candidate(add, fenced(RIGHT_SUM))])
    assert (score.status, score.reason) == ("unscorable", "tests cannot be read")
    assert "another file" in details(score)["message"]


class _Calls:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/fusechat-was-here",)


@pytest.mark.parametrize("value", [_Calls(), pickle.PickleError, ["a"], 3, Path("x")])
def test_a_pickle_that_is_no_text_is_refused_and_never_called(value: Any) -> None:
    with pytest.raises(UnreadableTestsError):
        unpacked(packed(value))
    assert not Path("/tmp/fusechat-was-here").exists()


@pytest.mark.parametrize("text", ["!", "", "aGVsbG8=", packed("x")[:-12]])
def test_hidden_tests_that_are_damaged_are_unreadable(text: str) -> None:
    with pytest.raises(UnreadableTestsError):
        unpacked(text)


def test_hidden_tests_are_read_packed_and_plain() -> None:
    row = sum_of_line()
    plain = {**row, "private_test_cases": unpacked(row["private_test_cases"])}
    assert read_problem(row) == read_problem(plain)
    assert len(read_problem(row).cases) == 3


def test_a_file_that_is_not_there_is_a_fault_before_anything_runs(tmp_path: Path) -> None:
    part = CodeBenchmark(files={"release_v4": str(tmp_path / "none.jsonl")})
    assert [key for key, _ in part.faults()] == ["files"]


def test_where_the_files_are_is_in_no_key() -> None:
    assert CodeBenchmark(files={"a": "/b"}).digest() == CodeBenchmark().digest()
