"""What `code_tests` makes of good, wrong, broken and hostile responses and prompts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from benchmarks.mutants import wrong_result

from fusechat.annotators import code_tests
from fusechat.annotators.code_tests import CodeTests
from fusechat.errors import PartError
from fusechat.parts import Where
from fusechat.records import Candidate, Finish, Prompt, Response, Score
from fusechat.sandbox import Sandbox, Verdict, VerdictStatus

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

SQUARE = "def square(x):\n    return x * x\n"
TESTS = "assert square(3) == 9\nassert square(-2) == 4\n"
Judge = Callable[..., Score]


def candidate(
    text: str, tests: str | None = TESTS, reference: str | None = None, finish: Finish = "stop"
) -> Candidate:
    prompt = Prompt.of("Square it.", domain="code", tests=tests, reference=reference)
    response = Response(
        id="r", prompt_id=prompt.id, source="s", index=0, text=text, finish=finish, model="m",
        error="refused" if finish == "error" else None, made_from="0",
    )  # fmt: skip
    return Candidate(prompt=prompt, response=response, annotator="code", made_from="1")


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with CodeTests(timeout=1.0, memory_mb=256, output_kb=64).open(Where()) as work:
        yield lambda *args, **fields: next(work(iter([candidate(*args, **fields)])))


@pytest.fixture
def judge_with(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Judge]]:
    """A judge whose sandbox says the same of every program."""
    monkeypatch.setattr(code_tests, "check_canaries", lambda *_: None)
    with ExitStack() as stack:

        def make(verdict: Verdict) -> Judge:
            monkeypatch.setattr(Sandbox, "run", lambda *_: verdict)
            work = stack.enter_context(CodeTests().open(Where()))
            return lambda *args, **fields: next(work(iter([candidate(*args, **fields)])))

        yield make


def fenced(code: str, label: str = "python") -> str:
    return f"Here it is:\n\n```{label}\n{code}```\nThat is all.\n"


def test_right_code_in_a_fence_is_1_and_tells_the_sandbox_level(judge: Judge) -> None:
    score = judge(fenced(SQUARE))
    assert (score.status, score.value, score.reason) == ("ok", 1.0, "passed")
    assert json.loads(score.details or "")["sandbox"] in ("jail", "full", "network")
    assert score.made_from == "1"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def square(x):\n    return x + x\n", "a test failed"),
        ("def square(x):\n    return x.y\n", "raised AttributeError"),
        (
            "class Own(Exception): pass\ndef square(x): raise Own\n",
            "raised an exception of its own",
        ),
        ("def square(x:\n    return\n", "does not compile"),
        ("def square(x):\n    while True: pass\n", "time limit exceeded"),
        ("def square(x):\n    return bytearray(1 << 30)\n", "memory limit exceeded"),
        ("def square(x):\n    print('x' * (1 << 20)); return x * x\n", "output limit exceeded"),
        ("import os\nos._exit(0)\n", "ended before its tests were done"),
        ("import sys\nsys.exit(0)\n", "raised SystemExit"),
        ("import ctypes\ndef square(x): ctypes.string_at(0)\n", "crashed (SIGSEGV)"),
    ],
)
def test_wrong_code_is_0_with_its_reason(judge: Judge, code: str, reason: str) -> None:
    score = judge(fenced(code), reference=SQUARE)
    assert (score.status, score.value, score.reason) == ("ok", 0.0, reason)


def test_a_failed_test_is_named_in_the_details(judge: Judge) -> None:
    score = judge(fenced("def square(x):\n    return abs(x) * x\n"))
    assert "square(-2) == 4" in json.loads(score.details or "")["message"]


def test_a_whole_response_without_code_is_wrong(judge: Judge) -> None:
    score = judge("I am sorry, I cannot write that.")
    assert (score.status, score.value, score.reason) == ("ok", 0.0, "no code")


def test_bare_code_without_a_fence_counts(judge: Judge) -> None:
    assert judge(SQUARE).value == 1.0


@pytest.mark.parametrize(
    ("finish", "text", "reason"),
    [
        ("length", fenced(SQUARE), "response length"),
        ("error", "", "response error"),
        ("stop", "  \n", "response empty"),
    ],
)
def test_a_response_that_is_not_whole_is_unscorable(
    judge: Judge, finish: Finish, text: str, reason: str
) -> None:
    score = judge(text, finish=finish)
    assert (score.status, score.value, score.reason) == ("unscorable", None, reason)


@pytest.mark.parametrize(
    ("tests", "reference", "reason"),
    [
        (None, None, "no tests"),
        ("  ", None, "no tests"),
        ("assert square(", None, "tests do not compile"),
        ("assert True", None, "tests pass without any code"),
        ("assert square(3) == 10", SQUARE, "tests fail on their own reference solution"),
        (TESTS, fenced("def square(x:"), "tests fail on their own reference solution"),
        (TESTS, "import time\n" + SQUARE.replace("return", "time.sleep(9); return"),
         "tests fail on their own reference solution"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("code", [SQUARE, "def square(x): return 1\n"])
def test_prompts_whose_tests_cannot_tell_are_unscorable(
    judge: Judge, tests: str | None, reference: str | None, reason: str, code: str
) -> None:
    score = judge(fenced(code), tests=tests, reference=reference)
    assert (score.status, score.value, score.reason) == ("unscorable", None, reason)


def test_a_reference_in_prose_is_passed_over(judge: Judge) -> None:
    assert judge(fenced(SQUARE), reference="Multiply the number by itself.").value == 1.0


def test_the_reference_check_can_be_switched_off_and_then_enters_no_key() -> None:
    row = candidate(fenced(SQUARE), reference="def square(x): return 1")
    with CodeTests(check_reference=False).open(Where()) as work:
        assert next(work(iter([row]))).value == 1.0
    part = CodeTests(check_reference=False)
    assert part.sees(row) == part.sees(candidate(fenced(SQUARE)))
    assert CodeTests().sees(row) != CodeTests().sees(candidate(fenced(SQUARE)))


def test_a_time_out_is_unscorable_where_the_reference_comes_near_the_limit(judge: Judge) -> None:
    slow = (
        "import time\ndef square(x):\n    end = time.process_time() + 0.35\n"
        "    while time.process_time() < end: pass\n    return x * x\n"
    )
    endless = fenced("def square(x):\n    while True: pass\n")
    score = judge(endless, reference=slow)
    assert (score.status, score.reason) == (
        "unscorable", "limit too near the reference's own use",
    )  # fmt: skip
    assert judge(fenced("def square(x): return 1"), reference=slow).value == 0.0


@pytest.mark.parametrize("reference", [None, SQUARE])
def test_a_sandbox_that_fails_is_an_error_never_wrong(
    judge_with: Callable[..., Judge], reference: str | None
) -> None:
    score = judge_with(Verdict("error", "full", "it died"))(fenced(SQUARE), reference=reference)
    assert (score.status, score.value, score.reason) == ("error", None, "sandbox failed")


def test_a_program_that_the_clock_stopped_gets_a_second_try_and_an_endless_one_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(code_tests, "check_canaries", lambda *_: None)
    for used, reason, runs in ((1.0, "passed", 2), (10.2, "time limit exceeded", 1)):
        verdicts = [Verdict("timeout", "full", cpu_seconds=used), Verdict("passed", "full")]
        told = iter(verdicts)
        monkeypatch.setattr(Sandbox, "run", lambda *_, told=told: next(told))
        with CodeTests().open(Where()) as work:
            assert next(work(iter([candidate(fenced(SQUARE))]))).reason == reason
        assert len(list(told)) == 2 - runs


def test_tests_that_strict_mode_cannot_judge_are_unscorable(
    judge_with: Callable[..., Judge],
) -> None:
    for reference in (None, SQUARE):
        unsupported = judge_with(Verdict("unsupported", "full", "a socket"))
        score = unsupported(fenced(SQUARE), reference=reference)
        assert (score.status, score.reason) == (
            "unscorable", "tests cannot be judged in strict mode",
        )  # fmt: skip
        assert json.loads(score.details or "")["message"] == "a socket"


@pytest.mark.parametrize("wrong", ["passed", "failed", "invalid", "error", "timeout"])
def test_a_sandbox_in_which_known_programs_get_other_verdicts_is_not_used(
    monkeypatch: pytest.MonkeyPatch, wrong: VerdictStatus
) -> None:
    monkeypatch.setattr(Sandbox, "run", lambda *_: Verdict(wrong, "full", "its words"))
    with pytest.raises(PartError, match=r"must be '\w+' in the sandbox, .*its words"):
        CodeTests().open(Where()).__enter__()


def test_a_preloaded_module_that_breaks_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(PartError, match="no_such_module"):
        CodeTests(preload=("no_such_module",)).open(Where()).__enter__()


def test_every_row_gets_one_score_and_rows_stream() -> None:
    rows = [candidate(fenced(SQUARE), tests=f"assert square({i}) == {i * i}") for i in range(30)]
    part = CodeTests()
    assert part.cut(rows) is None
    with part.open(Where()) as work:
        answers = work(iter(rows))
        assert next(answers).value == 1.0
        assert len(list(answers)) == 29


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("```java\nclass A {}\n```", "unscorable", "code in another language: java"),
        ("```\npublic class Main {\n}\n```", "unscorable", "code in another language: java"),
        ("```go\npackage main\n```\nor\n```python\nx = 1\n```", "ok", "raised NameError"),
    ],
)
def test_code_in_another_language_is_unscorable_and_beside_python_it_is_passed_over(
    judge: Judge, text: str, status: str, reason: str
) -> None:
    score = judge(text)
    assert (score.status, score.reason) == (status, reason)


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("\0\x01\x02" * 1000, "ok", "no code"),
        ("\ud800", "ok", "no code"),
        ("word " * 300_000, "unscorable", "code too long to judge"),
        ("```python\n" + "x = 1\n" * 300_000 + "```", "unscorable", "code too long to judge"),
        ("```python\nx = " + "(" * 90_000 + "\n```", "ok", "does not compile"),
        ("```python\nx = " + "-" * 200_000 + "1\n```", "ok", "does not compile"),
        ("```python\nx = '" + "a" * 900_000 + "'\n```", "ok", "raised NameError"),
        ("```" * 100_000, "ok", "no code"),
    ],
)
def test_binary_and_huge_responses_are_judged_or_refused_with_a_reason(
    judge: Judge, text: str, status: str, reason: str
) -> None:
    score = judge(text)
    assert (score.status, score.reason) == (status, reason)


def test_an_undefined_name_is_wrong_even_where_no_test_gets_there(judge: Judge) -> None:
    code = "def square(x):\n    if x > 1000:\n        return helper(x)\n    return x * x\n"
    score = judge(fenced(code))
    assert (score.status, score.value, score.reason) == ("ok", 0.0, "undefined name")
    assert json.loads(score.details or "")["message"] == "undefined: helper"
    assert judge(fenced(code), tests=TESTS + "def helper(x): return x * x").value == 1.0
    with CodeTests(undefined_names=False).open(Where()) as work:
        assert next(work(iter([candidate(fenced(code))]))).value == 1.0


def test_the_share_of_passed_checks_is_kept_and_the_value_stays_0(judge: Judge) -> None:
    score = judge(fenced("def square(x):\n    return abs(x) * x\n"))
    details = json.loads(score.details or "")
    assert (score.value, details["passed"], details["of"]) == (0.0, 1, 2)
    details = json.loads(judge(fenced(SQUARE)).details or "")
    assert (details["passed"], details["of"]) == (2, 2)


def test_code_that_looks_as_if_it_games_its_tests_is_flagged_and_its_verdict_stays(
    judge: Judge,
) -> None:
    code = "class E(int):\n    def __eq__(self, o):\n        return True\n    __hash__ = None\n"
    score = judge(fenced(code + "def square(x):\n    return E(0)\n"))
    assert (score.value, score.reason) == (1.0, "passed, looks suspicious")
    assert json.loads(score.details or "")["suspicious"] == ["__eq__"]


SUM = "n = int(input())\nprint(sum(int(x) for x in input().split()))\n"
SUM_TESTS = json.dumps({"inputs": ["2\n1 2\n", "1\n5\n"], "outputs": ["3\n", "5\n"]})
CALL_TESTS = json.dumps({"fn_name": "square", "inputs": [[3], [-2]], "outputs": [9, 4]})
CHECK_TESTS = json.dumps(
    {"test": "def check(c):\n    assert c(3) == 9\n    assert c(x=-2) == 4\n",
     "entry_point": "Solution().square", "prompt": "from typing import *\n"}
)  # fmt: skip
SOLUTION = "class Solution:\n    def square(self, x: Optional[int]) -> int:\n        return x * x\n"


@pytest.mark.parametrize(
    ("tests", "code", "wrong", "reason"),
    [
        (SUM_TESTS, SUM, SUM.replace("sum", "max"), "a test failed"),
        (SUM_TESTS, SUM, "return 3\n", "does not compile"),
        (SUM_TESTS, SUM, SUM.replace("int(input())", "input(a)"), "undefined name"),
        (SUM_TESTS, SUM, "print(1 / 0)\n", "raised ZeroDivisionError"),
        (CALL_TESTS, SQUARE, SQUARE.replace("*", "+"), "a test failed"),
        (CALL_TESTS, SOLUTION, SOLUTION.replace("*", "+"), "a test failed"),
        (CALL_TESTS, SOLUTION, SOLUTION.replace("square", "cube"), "raised NameError"),
        (CHECK_TESTS, SOLUTION, SOLUTION.replace("*", "+"), "a test failed"),
    ],
)
def test_scripts_calls_and_check_functions_are_run(
    judge: Judge, tests: str, code: str, wrong: str, reason: str
) -> None:
    right = judge(fenced(code), tests=tests, reference=code)
    assert (right.value, right.reason) == (1.0, "passed")
    score = judge(fenced(wrong), tests=tests, reference=code)
    assert (score.status, score.value, score.reason) == ("ok", 0.0, reason)


def test_tests_in_json_that_cannot_be_read_are_unscorable_with_the_reason(judge: Judge) -> None:
    score = judge(fenced(SQUARE), tests='{"inputs": ["1"], "outputs": []}')
    assert (score.status, score.reason) == ("unscorable", "tests cannot be read")
    assert json.loads(score.details or "")["message"] == "1 inputs, but 0 outputs"
    assert judge(fenced(SQUARE), tests='{"inputs": [], "outputs": []}').reason == "no tests"


NEEDS = "tests need the module 'no_such_module', which is not here"


@pytest.mark.parametrize(
    ("tests", "code", "reference", "reason"),
    [
        (f"import no_such_module\n{TESTS}", SQUARE, None, NEEDS),
        (f"import no_such_module\n{TESTS}", SQUARE, SQUARE, NEEDS),
        (f"assert square(3) == 9\nimport no_such_module.part\n{TESTS}", SQUARE, None, NEEDS),
        (TESTS, SQUARE, f"import no_such_module\n{SQUARE}", NEEDS),
        (TESTS, f"import no_such_module\n{SQUARE}", SQUARE,
         "imports 'no_such_module', which is not here"),
        (TESTS, "def square(x):\n    import other_one.x\n    return x * x\n", None,
         "imports 'other_one', which is not here"),
    ],
)  # fmt: skip
def test_what_needs_a_module_that_is_not_here_cannot_be_judged(
    judge: Judge, tests: str, code: str, reference: str | None, reason: str
) -> None:
    score = judge(fenced(code), tests=tests, reference=reference)
    assert (score.status, score.reason) == ("unscorable", reason)
    assert "install" in json.loads(score.details or "")["message"]


def test_a_name_that_a_module_of_python_does_not_have_is_wrong(judge: Judge) -> None:
    for line in ("import math.roots", "from math import roots", "import json.no_such"):
        score = judge(fenced(f"{line}\n{SQUARE}"))
        assert (score.value, score.reason[:7]) == (0.0, "raised ")


def test_tests_that_depend_on_chance_or_the_clock_are_flaky(judge: Judge) -> None:
    chance = "import random\nassert random.random() > 0.5\nassert square(3) == 9"
    score = judge(fenced(SQUARE), tests=chance, reference=SQUARE)
    assert (score.status, score.reason) == ("unscorable", "tests are flaky")
    steady_tests = "import random\nx = random.random()\nassert square(x) == x * x"
    assert judge(fenced(SQUARE), tests=steady_tests, reference=SQUARE).value == 1.0


def test_a_reference_in_another_language_is_passed_over(judge: Judge) -> None:
    assert judge(fenced(SQUARE), reference="```java\nclass A {}\n```").value == 1.0


def test_strict_mode_is_not_fooled_by_objects_equal_to_everything_and_judges_all_forms() -> None:
    game = "class E(int):\n    def __eq__(self, o):\n        return True\n    __hash__ = None\n"
    rows = [
        (TESTS, SQUARE, 1.0), (TESTS, f"{game}def square(x):\n    return E(0)\n", 0.0),
        (SUM_TESTS, SUM, 1.0), (SUM_TESTS, SUM.replace("sum", "max"), 0.0),
        (CALL_TESTS, SOLUTION, 1.0), (CHECK_TESTS, SOLUTION, 1.0),
        (CHECK_TESTS, SOLUTION.replace("*", "+"), 0.0),
    ]  # fmt: skip
    with CodeTests(strict=True).open(Where()) as work:
        scores = list(work(candidate(fenced(code), tests) for tests, code, _ in rows))
    assert [score.value for score in scores] == [value for _, _, value in rows]


def human_eval(shared_data: Path) -> list[dict[str, str]]:
    lines = (shared_data / "code" / "HumanEval.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_all_164_human_eval_solutions_pass_and_their_mutants_fail(shared_data: Path) -> None:
    right, wrong = [], []
    for task in human_eval(shared_data):
        solution = task["prompt"] + task["canonical_solution"]
        tests = task["test"] + f"\ncheck({task['entry_point']})\n"
        mutant = wrong_result(solution, task["entry_point"])
        right.append(candidate(fenced(solution), tests))
        wrong.append(candidate(fenced(mutant), tests))
    with CodeTests().open(Where()) as work:
        passed = [score.value for score in work(iter(right))]
        failed = [score.value for score in work(iter(wrong))]
    assert passed == [1.0] * 164
    assert failed == [0.0] * 164
