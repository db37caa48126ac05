"""GSM8K: 1,319 word problems of grade school mathematics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._catalogue import DataFile
from fusechat.tasks._math import MathBenchmark


class Gsm8k(MathBenchmark):
    """Accuracy of the final number. Source: arXiv 2110.14168; the test split.

    The gold answer is what stands behind `####` in the reference solution.
    """

    title: ClassVar[str] = "GSM8K"
    published: ClassVar[str | None] = "GSM8K"
    data: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            role="items",
            names=(
                "math/gsm8k_test.jsonl",
                "gsm8k_test.jsonl",
                "gsm8k/test.jsonl",
                "grade_school_math/data/test.jsonl",
                "gsm8k/main/test-00000-of-00001.parquet",
            ),
            licence="MIT",
            home="github.com/openai/grade-school-math, grade_school_math/data/test.jsonl; "
            "hub: openai/gsm8k, main/test-00000-of-00001.parquet",
            sha256={
                "9f098df7ff4522078d6ccec27a5c38a454790fdb51131bedfaa0e490070d5394": "FuseEval's",
            },
            items=1319,
        ),
    )

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The problems in the file's order, called by their number from 0."""
        count = iter(range(10**9))

        def read(row: Mapping[str, Any]) -> Prompt:
            number = next(count)
            gold = str(row["answer"]).rpartition("####")[2].strip().replace(",", "")
            return self._prompt(row["question"], gold, "all", str(row.get("idx", number)))

        return self._prompts(read)
