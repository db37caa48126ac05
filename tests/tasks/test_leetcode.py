"""Tests of LeetCode problems: from worked examples, and from a set that has them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from fusechat.annotators.code_tests import CodeTests
from fusechat.parts import UnreadableRow, Where, load_part
from fusechat.records import Candidate, Prompt, Request
from fusechat.tasks._leetcode import NoTestsError, example_tests

TWO_SUM = """Given `nums` and `target`, return the pair.

**Example 1:**

```
Input: nums = [2,7,11,15], target = 9
Output: [0,1]
Explanation: 2 + 7 = 9.
```

**Example 2:**

**Input:** nums = [3,2,4], target = 6
**Output:** [1,2]

**Constraints:**

*   `2 <= nums.length`
"""
SOLUTION = "\n    ```python\ndef twoSum(nums, target):\n    return [0, 1]\n```\n    A map is used."


def cases(content: str, code: str = "") -> list[tuple[Any, Any]]:
    tests, _ = example_tests(content, "some-slug", code)
    found = json.loads(tests)
    return list(zip(found["inputs"], found["outputs"], strict=True))


def test_worked_examples_become_calls_with_their_results() -> None:
    tests, called = example_tests(TWO_SUM, "two-sum", SOLUTION)
    assert json.loads(tests) == {
        "fn_name": "twoSum",
        "inputs": [[[2, 7, 11, 15], 9], [[3, 2, 4], 6]],
        "outputs": [[0, 1], [1, 2]],
    }
    assert called.starter == "class Solution:\n    def twoSum(self, nums, target):"


def test_a_solution_of_another_problem_does_not_name_the_method() -> None:
    """As in the published set, where problem 940 has the solution of 904."""
    tests, called = example_tests(TWO_SUM, "3-two-sum", "def totalFruit(fruits): pass")
    assert called.starter == "class Solution:\n    def solve3twosum(self, nums, target):"
    assert json.loads(tests)["fn_name"] == "solve3twosum"
    helped = "def helper(x): pass\ndef two_sum(target, nums): pass"
    tests, called = example_tests(TWO_SUM, "two-sum", helped)
    assert called.name == "two_sum"
    assert json.loads(tests)["inputs"][0] == [9, [2, 7, 11, 15]]
    assert example_tests(TWO_SUM, "two-sum-again", "")[1].name == "twoSumAgain"


def test_the_escapes_and_spaced_quotes_of_the_published_set_are_undone() -> None:
    """Its layout: brackets escaped, a space before every quotation mark."""
    text = (
        'Split `s`.\n\n**Example 1:**\n\n**Input:** s =  "a b ", words = \\[ "x ", " "\\]\n'
        '**Output:**  "a\\_b "\n**Explanation:** It is  "so ".\n\n**Constraints:**\n\n*   `1`\n'
    )
    assert cases(text) == [(["a b", ["x", ""]], "a_b")]
    plain = 'Input: s = " ", t = "b"\nOutput: "a "\n'
    assert cases(plain) == [([" ", "b"], "a ")]


def test_examples_in_html_are_read_and_marks_inside_values_stay() -> None:
    page = (
        "<p>Match.</p><pre><strong>Input:</strong> s = &quot;a&lt;b&quot;, p = &quot;**&quot;\n"
        "<strong>Output:</strong> true\n<strong>Explanation:</strong> so</pre>"
    )
    assert cases(page, "def f(s, p): pass") == [(["a<b", "**"], True)]
    bold = 'Input: s = `"<b>x</b>"`\nOutput: `"__x**"`\n'
    assert cases(bold, "def f(s): pass") == [(["<b>x</b>"], "__x**")]


def test_arguments_go_by_their_names_where_these_fit_and_by_place_otherwise() -> None:
    text = "Input: b = 2, a = 1\nOutput: 0.5\n"
    assert cases(text, "def f(a, b): pass") == [([1, 2], 0.5)]
    assert cases(text, "class Solution:\n    def f(self, x, y): pass") == [([2, 1], 0.5)]


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        ("You may return the answer in any order.", SOLUTION, "several answers are right"),
        ("Rotate the matrix in-place.", SOLUTION, "changes its arguments in place"),
        ("Answers within `10-5` are accepted.", SOLUTION, "answers are rounded"),
        ("Pick a random index.", SOLUTION, "answers are drawn at random"),
        ("Call the API.", SOLUTION, "calls functions of the site"),
        ("Sort a linked list.", SOLUTION, "its examples are built of nodes"),
        ("Input: root = [1,null]\nOutput: 2\n", SOLUTION, "its examples are built of nodes"),
        ("No example.", SOLUTION, "no worked example that can be called"),
        ("Input: 5\nOutput: 6\n", SOLUTION, "no worked example that can be called"),
        ("Input: a = b\nOutput: 2\n", SOLUTION, "no worked example that can be called"),
        ("Input: nums = [1], target = 1\nOutput: two\n", SOLUTION,
         "no worked example that can be called"),
        ("Input: a = 1\nOutput: 2\n\nInput: b = 1\nOutput: 2\n", "",
         "its examples have different arguments"),
    ],
)  # fmt: skip
def test_a_statement_whose_examples_prove_nothing_has_no_tests(
    content: str, code: str, reason: str
) -> None:
    with pytest.raises(NoTestsError, match=f"^{reason}$"):
        example_tests(content, "slug", code)


def test_a_statement_that_says_which_of_several_answers_is_right_has_tests() -> None:
    which = "If there are multiple answers, return the smallest one.\n\n"
    assert cases(which + "Input: a = 1\nOutput: 2\n", "def f(a): pass") == [([1], 2)]


def part(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> Any:
    (folder / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_part("tasks", {"use": "leetcode", "path": "set.jsonl", **settings}, folder)


ROW: dict[str, Any] = {
    "id": 1, "slug": "two-sum", "title": "Two Sum", "difficulty": "Easy", "content": TWO_SUM,
    "java": "", "c++": "", "python": SOLUTION, "javascript": "",
}  # fmt: skip
WITH_TESTS: dict[str, Any] = {
    "task_id": "two-sum", "prompt": "from typing import *\n", "entry_point": "Solution().twoSum",
    "test": "def check(candidate):\n    assert candidate(nums=[3, 3], target=6) == [0, 1]\n",
    "meta": {"question_id": 1, "lang_code":
             "class Solution:\n    def twoSum(self, nums: List[int], target: int) -> List[int]:"},
}  # fmt: skip


def test_the_prompt_shows_the_empty_method_and_a_problem_without_tests_says_why(
    tmp_path: Path,
) -> None:
    rows = [ROW, {**ROW, "slug": "x", "content": "Return any order."}]
    prompt, gone = part(tmp_path, rows).prompts("train")
    assert isinstance(prompt, Prompt)
    shown = "class Solution:\n    def twoSum(self, nums, target):\n```"
    assert prompt.messages[0].content.endswith(shown)
    assert gone == UnreadableRow("set.jsonl:2", "no tests: several answers are right")


@pytest.mark.parametrize("key", ["slug", "id"])
def test_tests_are_joined_by_slug_or_by_number(tmp_path: Path, key: str) -> None:
    (tmp_path / "tests.jsonl").write_text(json.dumps(WITH_TESTS))
    other = {"slug": {"id": 9}, "id": {"slug": "renamed"}}[key]
    rows = [{**ROW, **other}, {**ROW, "id": 7, "slug": "gone"}]
    settings = {"tests_from": "tests.jsonl", "examples": False}
    prompt, gone = part(tmp_path, rows, **settings).prompts("train")
    assert json.loads(prompt.tests) == {
        "test": WITH_TESTS["test"],
        "entry_point": "Solution().twoSum",
        "setup": "from typing import *\n",
    }
    assert "nums: List[int], target: int) -> List[int]:" in prompt.messages[0].content
    assert gone.reason == "no tests: not in tests_from"
    _, by_example = part(tmp_path, rows, tests_from="tests.jsonl").prompts("train")
    assert "fn_name" in by_example.tests


def test_settings_that_leave_no_tests_are_faults(tmp_path: Path) -> None:
    def keys(**settings: Any) -> list[str]:
        return [key for key, _ in part(tmp_path, [ROW], **settings).faults()]

    assert keys(examples=False) == ["examples"]
    assert keys(tests_from="newfacade/LeetCodeDataset") == ["tests_revision"]
    assert keys(tests_from="newfacade/LeetCodeDataset", tests_revision="0" * 40) == []
    assert keys(tests_from="gone.jsonl") == ["tests_from"]


def test_examples_of_real_statements_accept_their_reference_solutions(shared_data: Path) -> None:
    """At least 80% of 1,890 real statements give tests; these accept the references tried.

    The sample is small to be quick; docs/prompt-sets.md has the numbers of a larger one. A
    reference that needs names which only its own site gives is judged by its own set's imports.
    """
    path = shared_data / "train" / "LeetCodeDataset-v0.2.0-train.jsonl.gz"
    found: list[Candidate] = []
    total = 0
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        for line in handle:
            row, total = json.loads(line), total + 1
            try:
                code = row["completion"]
                tests, _ = example_tests(row["meta"]["question_title"], row["task_id"], code)
            except NoTestsError:
                continue
            prompt = Prompt.of(row["task_id"], domain="code", tests=tests)
            asked = Request(prompt=prompt, source="s", index=0, seed=1, model="m", made_from="m")
            answer = asked.response(f"```python\n{row['prompt']}\n{code}\n```", "stop")
            found.append(
                Candidate(prompt=prompt, response=answer, annotator="c", made_from=row["task_id"])
            )
    assert len(found) / total > 0.8
    sample = found[:: len(found) // 24]
    with CodeTests(allow_weak_sandbox=True).open(Where()) as work:
        scores = list(work(iter(sample)))
    assert sum(score.value == 1.0 for score in scores) >= 0.95 * len(sample)
