"""LiveCodeBench: problems of programming contests of August to November 2024, ten samples each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from fusechat.metrics.scoring import Items, group_means
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._benchmark import Benchmark, Profile, numbered
from fusechat.tasks._catalogue import DataFile

_HUB = "livecodebench/code_generation_lite"
_REVISION = "0fe84c3912ea0c4d4a78037083943e8f0c4dd505"
_LICENCE = "CC (statements belong to LeetCode, AtCoder and Codeforces)"
_FIRST, _LAST = "2024-08-01", "2024-11-30"
_EXPERT = (
    "You are an expert Python programmer. You will be given a question (problem specification) "
    "and will generate a correct Python program that matches the specification and passes all "
    "tests. You will NOT return anything except for the program."
)
_QWEN_SYSTEM = "You are a helpful assistant."
_QWEN_TASK = (
    "You will be given a question (problem specification) and will generate a correct Python "
    "program that matches the specification and passes all tests. You will NOT return anything "
    "except for the program."
)
_WITH_STARTER = (
    "You will use the following starter code to write the solution to the problem and enclose "
    "your code within delimiters."
)
_WITHOUT_STARTER = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly "
    "test on the sample inputs). Enclose your code within delimiters as follows."
)
_EMPTY = "# YOUR CODE HERE"
_FIELDS = ("question_id", "question_content", "contest_date", "private_test_cases")


def _release(number: int) -> DataFile:
    name = f"test{number}.jsonl"
    return DataFile(
        role=f"release_v{number}",
        names=(f"livecodebench/{name}", f"code_generation_lite/{name}", f"code/{name}", name),
        licence=_LICENCE, home=f"hub: {_HUB}, {name}", hub=(_HUB, name), revision=_REVISION,
        optional=True,
    )  # fmt: skip


class LiveCodeBench(Benchmark):
    """LiveCodeBench (arXiv 2403.07974), code generation, contests of 2024-08-01 to 2024-11-30.

    Pass@1 as the mean over ten samples of each problem. The window is that of the paper's row
    name. A problem's tests stay in its file (some are tens of megabytes): `Prompt.tests` says
    where in which file they are, with the digest of the line.
    """

    title: ClassVar[str] = "LiveCodeBench 2408-2411"
    published: ClassVar[str | None] = "LiveCodeBench 2408-2411"
    differs: ClassVar[str] = (
        "The window is 2024-08-01 to 2024-11-30, by the row's name; FuseEval's script starts at "
        "2024-06-30, has no end, and calls its output 20240701-20241101."
    )
    data: ClassVar[tuple[DataFile, ...]] = tuple(map(_release, (3, 4, 5)))

    def missing(self) -> str | None:
        """None of the files with hidden tests is there."""
        if self.found():
            return None
        looked = f"in {self.data_dir}" if self.data_dir else "anywhere: no --data-dir was given"
        names = ", ".join(file.names[-1] for file in self.data)
        return (
            f"LiveCodeBench's files with hidden tests ({names}) are not {looked}. Get them: hub "
            f"{_HUB} at {_REVISION[:7]} (licence: {_LICENCE}), and put them below the folder of "
            "--data-dir. Statements without tests cannot be graded."
        )

    def lacks(self) -> list[str]:
        """Releases that are not there."""
        there = self.found()
        absent = [file.names[-1] for file in self.data if there and file.role not in there]
        return [f"Not all files are there: {', '.join(absent)}."] if absent else []

    def expected(self) -> int | None:
        """Problems of the window in releases v3 to v5."""
        return 223

    def decoding(self) -> dict[str, Any]:
        """T 0.2, top-p 0.95, 2,000 tokens, up to `###`: LiveCodeBench's own."""
        return {"temperature": 0.2, "top_p": 0.95, "max_new_tokens": 2000, "stop": ["###"]}

    def samples(self) -> int:
        """Ten, whose mean is the score."""
        return 10

    def graders(self) -> dict[Profile, dict[str, Any]]:
        """The code between the first two fences, and the last block of Python; the same tests."""
        both = {
            "use": "code_benchmark",
            "stop": self.decoding()["stop"],
            "files": {role: str(path) for role, path in self.found().items()},
        }
        return {"paper": {**both, "profile": "paper", "grade_cut": True}, "robust": both}

    def extras(self, items: Items) -> dict[str, Any]:
        """Pass@1 by difficulty, in per cent."""
        by = {name: round(100 * mean, 2) for name, mean in group_means(items).items()}
        return {"by_difficulty": by} if len(by) > 1 else {}

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The problems of the window, release after release, in the files' order."""
        found = self.found()
        roles = [file.role for file in self.data if file.role in found]
        return numbered(row for role in roles for row in self._of_file(role, found[role]))

    def _of_file(self, role: str, path: Path) -> Iterator[Prompt | UnreadableRow]:
        with path.open("rb") as handle:
            at = 0
            for number, line in enumerate(handle, start=1):
                start, at = at, at + len(line)
                if not line.strip():
                    continue
                try:
                    row = _row(line)
                    if _FIRST <= row["contest_date"][:10] <= _LAST:
                        yield self._prompt(row, _place(role, start, line))
                except ValueError as error:
                    yield UnreadableRow(f"{path.name}:{number}", str(error))

    def _prompt(self, row: Mapping[str, Any], place: Mapping[str, Any]) -> Prompt:
        return Prompt.of(
            self._messages(row["question_content"], str(row.get("starter_code") or "")),
            domain=str(row.get("difficulty") or "all"), item=str(row["question_id"]),
            tests=json.dumps({"livecodebench": dict(place)}), licence=_LICENCE,
        )  # fmt: skip

    def _messages(self, question: str, starter: str) -> list[dict[str, str]]:
        if self.family == "qwen":
            asked = f"{_QWEN_TASK}\n\nQuestion: {question}\n\n{_format(starter)}"
            system = _QWEN_SYSTEM
        else:
            asked = (
                f"### Question:\n{question}\n\n### Format: {_format(starter)}"
                "### Answer: (use the provided format with backticks)\n\n"
            )
            system = _EXPERT
        if self.family == "gemma":  # its template has no system role
            return [{"role": "user", "content": f"{system}\n\n{asked}"}]
        return [{"role": "system", "content": system}, {"role": "user", "content": asked}]


def _format(starter: str) -> str:
    said = _WITH_STARTER if starter else _WITHOUT_STARTER
    return f"{said}\n```python\n{starter or _EMPTY}\n```\n\n"


def _row(line: bytes) -> dict[str, Any]:
    """A row of LiveCodeBench's layout; raises `ValueError` with a short reason."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError("line is no JSON") from error
    if not isinstance(row, dict) or any(not isinstance(row.get(n), str) for n in _FIELDS):
        raise ValueError("row is no problem of LiveCodeBench with hidden tests")
    return row


def _place(role: str, at: int, line: bytes) -> dict[str, Any]:
    """Where the tests are: which file, from which byte, and the line's digest."""
    return {"file": role, "at": at, "sha256": hashlib.sha256(line).hexdigest()}
