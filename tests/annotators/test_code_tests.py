"""What `code_tests` makes of good, wrong, broken and hostile responses and prompts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusechat.annotators.code_tests import CodeTests, find_code
from fusechat.parts import Where
from fusechat.records import Candidate, Finish, Prompt, Response, Score

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


def fenced(code: str, label: str = "python") -> str:
    return f"Here it is:\n\n```{label}\n{code}```\nThat is all.\n"


def test_right_code_in_a_fence_is_1_and_tells_the_sandbox_level(judge: Judge) -> None:
    score = judge(fenced(SQUARE))
    assert (score.status, score.value, score.reason) == ("ok", 1.0, "passed")
    assert json.loads(score.details or "")["sandbox"] in ("full", "network")
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


def test_a_sandbox_that_fails_is_an_error_never_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from fusechat.sandbox import Sandbox, Verdict

    monkeypatch.setattr(Sandbox, "run", lambda *_: Verdict("error", "full", "it died"))
    with CodeTests().open(Where()) as work:
        score = next(work(iter([candidate(fenced(SQUARE))])))
    assert (score.status, score.value, score.reason) == ("error", None, "sandbox failed")


def test_every_row_gets_one_score_and_rows_stream() -> None:
    rows = [candidate(fenced(SQUARE), tests=f"assert square({i}) == {i * i}") for i in range(30)]
    part = CodeTests()
    assert part.cut(rows) is None
    with part.open(Where()) as work:
        answers = work(iter(rows))
        assert next(answers).value == 1.0
        assert len(list(answers)) == 29


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\na\n```\n```python\nb\n```", "b"),
        ("```python\na\n```\n```\nmuch longer text\n```", "a"),
        ("```\nshort\n```\n```text\nthe longer one\n```", "the longer one"),
        ("```PY\na\n```", "a"),
        ("~~~python\na\n~~~", "a"),
        ("````python\n```\na\n````", "```\na"),
        ("1. First\n   ```python\n   if a:\n       b\n   ```", "if a:\n    b"),
        ("```python\nnever closed", "never closed"),
        ("use `x` and ```y``` here", "use `x` and ```y``` here"),
        ('```python title="a.py"\na\n```', "a"),
    ],
)
def test_the_code_is_the_last_block_of_the_language_else_the_longest_else_the_text(
    text: str, code: str
) -> None:
    assert find_code(text)[0] == code


def human_eval(shared_data: Path) -> list[dict[str, str]]:
    lines = (shared_data / "code" / "HumanEval.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_all_164_human_eval_solutions_pass_and_their_mutants_fail(shared_data: Path) -> None:
    right, wrong = [], []
    for task in human_eval(shared_data):
        solution = task["prompt"] + task["canonical_solution"]
        tests = task["test"] + f"\ncheck({task['entry_point']})\n"
        mutant = solution + f"\ndef {task['entry_point']}(*a, **k):\n    return 'mutant'\n"
        right.append(candidate(fenced(solution), tests, solution))
        wrong.append(candidate(fenced(mutant), tests, solution))
    with CodeTests().open(Where()) as work:
        passed = [score.value for score in work(iter(right))]
        failed = [score.value for score in work(iter(wrong))]
    assert passed == [1.0] * 164
    assert failed == [0.0] * 164
