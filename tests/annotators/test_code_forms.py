"""Tests in the forms of the prompt sets, turned into asserts."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.annotators._code_forms import (
    SCRIPT,
    PromptTests,
    UnreadableTestsError,
    as_script,
    call_names,
    joined,
    read_tests,
)
from fusechat.annotators._code_static import parse

ADD = "def add(a, b):\n    return a + b\n"
ADDER = "class Solution:\n    def add(self, a, b):\n        return a + b\n"


def passes(tests: Any, code: str) -> bool:
    """Whether `code` passes, run here as the sandbox does: it is our own."""
    read = read_tests(tests if isinstance(tests, str) else json.dumps(tests))
    program = read.program(code)

    def script(stdin: str) -> str:
        lines = iter(stdin.splitlines())
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(program, {"__name__": "__main__", "input": lambda: next(lines)})
        return out.getvalue()

    space: dict[str, Any] = {"__name__": "solution"}
    exec(program, space)
    space[SCRIPT] = script
    try:
        exec(read.for_program(parse(code)), space)
    except AssertionError:
        return False
    return True


def calls(outputs: list[Any], inputs: list[Any] | None = None, name: str = "f") -> dict[str, Any]:
    return {"fn_name": name, "inputs": inputs or [[]] * len(outputs), "outputs": outputs}


@pytest.mark.parametrize("code", [ADD, ADDER])
@pytest.mark.parametrize(
    "tests",
    [
        {"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [3, 7]},
        {"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [[3], [7]]},
        {"fn_name": "add", "inputs": ["1\n2", "3\n4"], "outputs": ["3", "7"]},
        [{"input": "1\n2", "output": "3", "testtype": "functional", "fn_name": "add"}],
        [{"input": "1\n2", "output": "3", "testtype": "functional", "func_name": "add"}],
    ],
)
def test_calls_of_a_function_or_of_a_method_of_solution(tests: Any, code: str) -> None:
    assert passes(tests, code)
    assert not passes(tests, code.replace("+", "-"))


@pytest.mark.parametrize(
    "tests",
    [
        {"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]},
        {"inputs": [["1 2"], ["3 4"]], "outputs": [["3"], ["7"]]},
        [{"input": "1 2\n", "output": "3", "testtype": "stdin"}, {"input": "3 4", "output": 7}],
    ],
)
def test_scripts_from_standard_input_to_standard_output(tests: Any) -> None:
    assert passes(tests, "a, b = map(int, input().split())\nprint(a + b)\n")
    assert passes(tests, "def main():\n    print(sum(map(int, input().split())))\nmain()")
    assert passes(tests, "if __name__ == '__main__':\n    print(sum(map(int, input().split())))")
    assert not passes(tests, "a, b = map(int, input().split())\nprint(a * b)\n")


def test_check_functions_get_the_entry_point_and_the_setup_comes_first() -> None:
    tests = {
        "setup": "from typing import List\ninf = 10\n",
        "test": "def check(candidate):\n    assert candidate([1], 2) == 13\n",
        "entry_point": "Solution().f",
    }
    code = "class Solution:\n    def f(self, a: List[int], b):\n        return a[0] + b + inf\n"
    assert passes(tests, code)
    assert passes({("prompt" if k == "setup" else k): v for k, v in tests.items()}, code)
    assert not passes(tests, code.replace("inf", "0"))


def test_lists_of_asserts_with_their_setup() -> None:
    tests = {"test_list": ["assert add(1, 2) == three", "assert add(0, 0) == 0"],
             "test_setup_code": "three = 3"}  # fmt: skip
    assert passes(tests, ADD)
    assert not passes(tests, ADD.replace("+", "*"))


def test_python_source_stays_as_it_is() -> None:
    for source in ("assert f(1) == 2", "{'a': f(1)}\nassert f(1)", "[f(1)\nfor _ in 'a']", ""):
        assert read_tests(source) == PromptTests(source)


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("{", "neither Python nor JSON"),
        ("[1, 2", "neither Python nor JSON"),
        ("[1, 2]", "a list of other things"),
        ('{"inputs": ["1"]}', "no lists 'inputs' and 'outputs'"),
        ('{"inputs": ["1"], "outputs": []}', "1 inputs, but 0 outputs"),
        ('{"fn_name": "a b", "inputs": [], "outputs": []}', "the name of a function"),
        ('{"fn_name": "f", "inputs": ["x"], "outputs": ["1"]}', "test 1: 'x' is no JSON"),
        ('{"inputs": [{}], "outputs": ["1"]}', "test 1: input and output of a script"),
        ('[{"input": "1", "output": "1", "testtype": "functional"}]', "with the same 'fn_name'"),
        ('{"test": 3}', "must be Python source"),
        ('{"test": "x", "entry_point": "f("}', "must be the name"),
        ('{"test_list": [3]}', "must be Python source"),
        ("[" * 50_000, "neither Python nor JSON"),
    ],
)  # fmt: skip
def test_tests_in_json_that_are_none_of_the_forms_say_why(tests: str, message: str) -> None:
    with pytest.raises(UnreadableTestsError, match=message):
        read_tests(tests)


@pytest.mark.parametrize(
    ("wanted", "printed", "same"),
    [
        ("3\n", "3", True),
        ("3", "3 \n\n\n", True),
        ("1 2\n3", "1 2  \n3\n", True),
        ("3", "\n3", False),
        ("3", " 3", False),
        ("1 2", "1  2", False),
        ("1 2", "1\n2", False),
        ("YES", "yes", False),
        ("0.3", "0.30000000000000004", True),
        ("0.3", "0.301", False),
        ("1e6 a", "1000000.0 a", True),
        ("10000001", "10000002", False),
        ("10000001.0", "10000002", True),
        ("5", "5.0", True),
        ("5", "5.0000001", False),
        ("nan", "nan", True),
        ("nan", "inf", False),
        ("inf", "1e999", False),
        ("1_0", "10", False),
        ("", "", True),
        ("a b", "a b c", False),
    ],
)
def test_printed_text_is_exact_but_for_blanks_at_ends_and_decimals(
    wanted: str, printed: str, same: bool
) -> None:
    assert passes({"inputs": [""], "outputs": [wanted]}, f"print({printed!r}, end='')") is same


@pytest.mark.parametrize(
    ("wanted", "got", "same"),
    [
        ([1, 2], "(1, 2)", True),
        ([[1, 2], []], "[(1, 2), []]", True),
        ([1, 2], "[2, 1]", False),
        (0.5, "0.5000000001", True),
        (0.5, "0.51", False),
        (3, "3.0000000001", False),
        ({"1": [2.0]}, "{1: [2]}", True),
        ({"a": 1}, "{'a': 1, 'b': 2}", False),
        ("ab", "'ab'", True),
        ([["a"], ["b"]], "'ab'", False),
        (True, "True", True),
        (None, "None", True),
        (None, "0", False),
        ([], "None", False),
    ],
)
def test_results_are_equal_but_for_tuples_and_decimals(wanted: Any, got: str, same: bool) -> None:
    code = f"def f():\n    return {got}\n"
    assert passes(calls([wanted, wanted]), code) is same


def test_a_list_of_one_is_unwrapped_only_where_all_results_are_lists_of_one() -> None:
    assert passes(calls([[3], [3]]), "def f(): return 3")
    assert passes(calls([[3], [3]]), "def f(): return [3]")
    assert not passes(calls([[3], [3, 3]]), "def f(): return 3")


def test_called_code_has_the_imports_of_its_site_and_a_setup_takes_their_place() -> None:
    code = "def f() -> List[int]:\n    return pow(2, 3, 5), heappop([1]), inf, Counter('a')['a']"
    assert {"List", "Counter", "inf", "heappop"} <= call_names()
    tests = calls([[3, 1, float("inf"), 1]])
    assert passes(tests, code)
    with pytest.raises(NameError):
        passes(tests | {"setup": "x = 1"}, code)


def test_future_imports_stay_first_behind_a_setup() -> None:
    code = '"""About."""\nfrom __future__ import annotations\ndef f(x: Nothing): return y\n'
    space: dict[str, Any] = {}
    exec(joined("y = 3", code), space)
    assert space["f"](1) == 3
    assert joined("", code) == code
    assert joined("y = 3", "print(y)") == "y = 3\nprint(y)"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                    max_leaves=8))  # fmt: skip
def test_every_json_value_is_its_own_result(value: Any) -> None:
    tests = calls([value, value], [[value], [value]])
    got_nan = "nan" in json.dumps(value).lower() and "NaN" in json.dumps(value)
    assert passes(tests, "def f(x): return x") or got_nan


@given(st.text())
def test_every_text_comes_out_as_it_was_printed(text: str) -> None:
    text = text.replace("\r", "").encode("utf-8", "ignore").decode()
    tests = {"inputs": [""], "outputs": [text]}
    assert passes(tests, f"print({text!r})")


def test_a_script_does_nothing_until_it_is_run_as_one() -> None:
    space: dict[str, Any] = {"__name__": "solution"}
    exec(as_script("x = 1"), space)
    assert "x" not in space
    exec(as_script("x = 1"), space | {"__name__": "__main__"})
