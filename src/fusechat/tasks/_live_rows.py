"""LiveBench's questions, as its publisher keeps them, made prompts.

The tests of a coding question are JSON, or, where they are hidden, base64 of zlib of a pickled
text. A pickle can run code; here it may hold one text and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fusechat.parts import UnreadableRow
from fusechat.plain_pickles import unpacked
from fusechat.records import Prompt

CATEGORIES: Mapping[str, Mapping[str, int]] = {
    "coding": {"LCB_generation": 78, "coding_completion": 50},
    "data_analysis": {"cta": 50, "tablejoin": 50, "tablereformat": 50},
    "instruction_following": {
        "paraphrase": 50, "simplify": 50, "story_generation": 50, "summarize": 50,
    },
    "language": {"connections": 50, "plot_unscrambling": 40, "typos": 50},
    "math": {"AMPS_Hard": 100, "math_comp": 96, "olympiad": 36},
    "reasoning": {"spatial": 50, "web_of_lies_v2": 50, "zebra_puzzle": 50},
}  # fmt: skip
"""Category -> task -> questions of release 2024-08-31: 1,000 in all."""
RELEASE = "2024-08-31"
LICENCE = "Apache-2.0 by its data sheet; texts of news and contests in it are their owners'"


def in_release(row: Mapping[str, Any]) -> bool:
    """Whether a question is of release 2024-08-31: out by then, and not yet taken out.

    As upstream: texts of dates compared, a removal on the very day of the release counts.
    """
    out, gone = _date(row, "livebench_release_date"), _date(row, "livebench_removal_date")
    return out <= RELEASE and (not gone or gone > RELEASE)


def prompts_of(
    rows: Iterator[tuple[str, Any]], category: str, tasks: frozenset[str]
) -> Iterator[Prompt | UnreadableRow]:
    """The prompts of those rows of a file that are of the release and of one of `tasks`."""
    for place, row in rows:
        if not isinstance(row, Mapping):
            yield UnreadableRow(place, "not JSON" if isinstance(row, ValueError) else "no object")
            continue
        try:
            if in_release(row) and (row.get("task") in tasks or not _known(row, category)):
                yield _prompt(row, category)
        except KeyError as error:
            yield UnreadableRow(place, f"no {error.args[0]}")
        except ValueError as error:
            yield UnreadableRow(place, str(error).splitlines()[0])
        except (TypeError, AttributeError):
            yield UnreadableRow(place, "a column is of another kind than LiveBench's")


def _date(row: Mapping[str, Any], column: str) -> str:
    """A date as text; the hub's files have moments of time, or nothing."""
    return str(row.get(column) or "")[:10]


def _known(row: Mapping[str, Any], category: str) -> bool:
    return row.get("task") in CATEGORIES[category]


def _prompt(row: Mapping[str, Any], category: str) -> Prompt:
    task = row.get("task")
    if task not in CATEGORIES[category]:
        raise ValueError(f"{task!r} is no task of {category}")
    turns = row.get("turns")
    if not isinstance(turns, list) or not turns or not str(turns[0]).strip():
        raise ValueError("no turns")
    checker: dict[str, Any] = {"task": task, "release": _date(row, "livebench_release_date")}
    fields: dict[str, Any] = {}
    if category == "instruction_following":
        checker |= {key: row[key] for key in ("instruction_id_list", "kwargs")}
    elif category == "coding":
        checker["partial_solution"] = row.get("partial_solution") or ""
        fields["tests"] = written_tests(row)
    else:
        fields["answer"] = _truth(row)
    if subtask := row.get("subtask"):
        checker["subtask"] = subtask
    return Prompt.of(
        str(turns[0]), domain=f"{category}/{task}", item=str(row["question_id"]), licence=LICENCE,
        checker=json.dumps(checker, ensure_ascii=False), **fields,
    )  # fmt: skip


def _truth(row: Mapping[str, Any]) -> str:
    truth = row.get("ground_truth")
    if isinstance(truth, list) and truth:
        truth = truth[-1]
    if isinstance(truth, Mapping):
        truth = json.dumps(truth, ensure_ascii=False)
    if not isinstance(truth, str) or not truth.strip():
        raise ValueError("no ground_truth")
    return truth


def written_tests(row: Mapping[str, Any]) -> str:
    """The tests of a coding question, shown and hidden, in the form that `code_tests` reads."""
    cases = [*_cases(row.get("public_test_cases")), *_cases(row.get("private_test_cases"))]
    if not cases:
        raise ValueError("no test cases")
    original = row.get("original_json") or {}
    original = json.loads(original) if isinstance(original, str) else original
    about = original.get("metadata") or row.get("metadata") or "{}"
    name = (json.loads(about) if isinstance(about, str) else about).get("func_name")
    kinds = {case.get("testtype") for case in cases}
    if name is None and "functional" in kinds:
        raise ValueError("tests of a function whose name is not given")
    columns: dict[str, Any] = {
        "inputs": [case["input"] for case in cases],
        "outputs": [case["output"] for case in cases],
    }
    return json.dumps(({"fn_name": name} if name else {}) | columns)


def _cases(text: Any) -> list[dict[str, Any]]:
    if not text:
        return []
    try:
        found = json.loads(text)
    except ValueError:
        found = json.loads(unpacked(text))
    if not isinstance(found, list) or not all(isinstance(case, dict) for case in found):
        raise ValueError("test cases are no list of objects")
    return found
