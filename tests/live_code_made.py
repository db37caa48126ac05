"""Files of LiveCodeBench's layout, made here: shown tests as JSON, hidden ones packed as there."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Cases = Sequence[tuple[str, str]]


def cases_json(cases: Cases, kind: str) -> str:
    return json.dumps([{"input": i, "output": o, "testtype": kind} for i, o in cases])


def packed(value: Any) -> str:
    """As its publisher packs the JSON of hidden tests."""
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def problem(
    name: str, shown: Cases, hidden: Cases, *, called: str = "", date: str = "2024-09-07T00:00:00",
    **fields: Any,
) -> dict[str, Any]:  # fmt: skip
    kind = "functional" if called else "stdin"
    starter = f"class Solution:\n    def {called}(self, n: int) -> int:\n        " if called else ""
    return {
        "question_title": name, "question_content": f"Solve {name}.", "platform": "atcoder",
        "question_id": name, "contest_id": "c", "contest_date": date, "starter_code": starter,
        "difficulty": "easy", "public_test_cases": cases_json(shown, kind),
        "private_test_cases": packed(cases_json(hidden, kind)),
        "metadata": json.dumps({"func_name": called} if called else {}), **fields,
    }  # fmt: skip


def sum_of_line(**fields: Any) -> dict[str, Any]:
    """A script: the sum of the numbers of a line."""
    return problem("sum", [("1 2\n", "3\n")], [("5 6\n", "11\n"), ("1 1 1\n", "3\n")], **fields)


def doubled(**fields: Any) -> dict[str, Any]:
    """A method: twice its argument."""
    return problem("double", [("2", "4")], [("5", "10")], called="double", **fields)


def written(folder: Path, number: int, *rows: Any) -> Path:
    """A release's file below a user's folder."""
    path = folder / "livecodebench" / f"test{number}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


RIGHT_SUM = "print(sum(map(int, input().split())))"
RIGHT_DOUBLE = "class Solution:\n    def double(self, n: int) -> int:\n        return 2 * n"


def fenced(code: str) -> str:
    return f"Here it is:\n```python\n{code}\n```\nDone."
