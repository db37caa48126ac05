"""EvalPlus's rules: how results are compared, its oracles, and the types of MBPP's inputs."""

from __future__ import annotations

from typing import Any

import pytest

from fusechat.annotators import _code_evalplus as _evalplus


def plus(task_id: str, entry: str, reference: str, inputs: list[Any], **fields: Any) -> str:
    row = {"entry_point": entry, "prompt": "", "canonical_solution": reference, "atol": 0,
           "base_input": inputs, "plus_input": {}}  # fmt: skip
    return _evalplus.plus_tests(task_id, row | fields)


def holds(tests: str, program: str) -> bool:
    """Whether our own small program passes, run here."""
    space: dict[str, Any] = {"__name__": "solution"}
    exec(program, space)
    try:
        exec(tests, space)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(
    ("wanted", "got", "same"),
    [
        ("0.1 + 0.2", "0.3", True),
        ("[0.1 + 0.2]", "[0.3]", True),
        ("(0.1 + 0.2, 1.0)", "(0.3, 1.0)", True),
        ("0.3", "0.30001", False),
        ("[0.3]", "(0.3,)", False),
        ("[0.3]", "[0.3, 0.3]", False),
        ("1.0", "1", True),
        ("1e9 + 0.5", "1e9", True),
        ("1", "1.0000000001", False),
        ("[1, 0.1 + 0.2]", "[1, 0.3]", False),
        ("float('nan')", "float('nan')", False),
        ("float('inf')", "float('inf')", True),
        ("'a'", "'a'", True),
        ("None", "0", False),
    ],
)
def test_results_are_compared_as_evalplus_does(wanted: str, got: str, same: bool) -> None:
    tests = plus("HumanEval/1", "f", f"def f():\n    return {wanted}\n", [[]])
    assert holds(tests, f"def f():\n    return {got}\n") is same


@pytest.mark.parametrize(
    ("task_id", "entry", "reference", "given", "right", "wrong"),
    [
        # x^2 - 4 has two roots, and either will do.
        ("HumanEval/32", "find_zero", "return 2.0", [-4, 0, 1], "-2.0", "1.9"),
        ("Mbpp/2", "f", "return (1, 2)", [], "[2, 1, 1]", "[1]"),
        ("Mbpp/164", "f", "return True", 0, "False", None),
        ("Mbpp/295", "sum_div", "return 7", 0, "0", "1"),
        ("Mbpp/309", "check_str", "import re; return re.match('a', 'a')", 0, "True", "None"),
        ("Mbpp/309", "check_str", "return None", 0, "False", "True"),
    ],
)  # fmt: skip
def test_tasks_with_an_oracle_of_their_own_are_judged_by_it(
    task_id: str, entry: str, reference: str, given: Any, right: str, wrong: str | None
) -> None:
    tests = plus(task_id, entry, f"def {entry}(x):\n    {reference}\n", [[given]], atol=1e-4)
    assert holds(tests, f"def {entry}(x):\n    return {right}\n")
    if wrong is not None:
        assert not holds(tests, f"def {entry}(x):\n    return {wrong}\n")


def test_the_pyramid_and_the_digits_have_a_second_right_answer() -> None:
    # Base edge 6, height 4: slant 5, surface 36 + 2 * 6 * 5 = 96. Digits of 12 and 345 as
    # 012 and 345: 3 + 3 + 3 = 9.
    for task_id, entry, given, second in (
        ("Mbpp/581", "surface_Area", [6, 4], 96), ("Mbpp/558", "digit_distance_nums", [12, 345], 9),
    ):  # fmt: skip
        tests = plus(task_id, entry, f"def {entry}(a, b):\n    return -1\n", [given])
        assert holds(tests, f"def {entry}(a, b):\n    return {second}\n")
        assert holds(tests, f"def {entry}(a, b):\n    return -1\n")
        assert not holds(tests, f"def {entry}(a, b):\n    return {second + 1}\n")


@pytest.mark.parametrize(
    ("number", "given", "wanted"),
    [
        (116, [[1], [2]], "((1,), (2,))"),
        (63, [[[1, 2]]], "([(1, 2)],)"),
        (75, [[[1]], 3], "([(1,)], 3)"),
        (106, [[1], [2]], "([1], (2,))"),
        (115, [[[1, 1], []]], "([{1}, {}],)"),
        (124, ["1", "2j"], "(1.0, 2j)"),
        (250, [[1], 2], "((1,), 2)"),
        (252, ["1+2j"], "(1+2j,)"),
        (259, [[[1]], [[2]]], "(((1,),), ((2,),))"),
        (278, [[1, [2]]], "((1, (2,)),)"),
        (307, [[1], 2, 3], "((1,), 2, 3)"),
        (580, [[1, [2, [3]]]], "((1, (2, (3,))),)"),
        (722, [{"a": [1]}, 2, 3], "({'a': (1,)}, 2, 3)"),
        (3, [[1]], "([1],)"),
    ],
)
def test_inputs_of_mbpp_get_the_types_back_that_json_lacks(
    number: int, given: list[Any], wanted: str
) -> None:
    same = f"def f(*given):\n    return repr(given) == {str(eval(wanted))!r}\n"
    tests = plus(f"Mbpp/{number}", "f", "def f(*given):\n    return True\n", [given])
    assert holds(tests, same)
    other = plus(f"HumanEval/{number}", "f", "def f(*given):\n    return True\n", [given])
    assert holds(other, same) is (number == 3)


def test_infinite_and_missing_numbers_reach_the_program() -> None:
    given = [float("inf"), -float("inf"), float("nan"), {"a": float("inf")}]
    reference = "def f(x):\n    return repr(x)\n"
    assert holds(plus("HumanEval/1", "f", reference, [[given]]), reference)
