"""MATH: 5,000 competition problems of seven subjects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from fusechat.metrics.scoring import Items, group_means
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._catalogue import DataFile
from fusechat.tasks._math import MathBenchmark, last_boxed


class Math(MathBenchmark):
    """Accuracy of the final answer. Source: arXiv 2103.03874; the whole test split.

    The gold answer is the row's `answer`, or else the last box of its solution.
    """

    title: ClassVar[str] = "MATH"
    published: ClassVar[str | None] = "MATH"
    data: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            role="items",
            names=("math/math_test.jsonl", "math_test.jsonl", "MATH/test.jsonl", "math/test.jsonl"),
            licence="MIT (hendrycks/math; AoPS contested the copy on the hub in 2025)",
            home="github.com/microsoft/ToRA, src/data/math/test.jsonl (rows of hendrycks/math), or "
            "any JSONL with problem, solution, type and level",
            sha256={
                "0b843443282b5a49ed143ed2e0b8917a79395c7e46b3dce1cef7b21fee7819d6": "ToRA's rows",
            },
            items=5000,
        ),
    )

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The problems in the file's order, called by their number from 0; category: subject."""
        count = iter(range(10**9))

        def read(row: Mapping[str, Any]) -> Prompt:
            number = next(count)
            gold = row.get("answer") or last_boxed(str(row["solution"])) or ""
            subject = str(row.get("type") or row.get("subject") or "all")
            return self._prompt(row["problem"], str(gold), subject, str(row.get("idx", number)))

        return self._prompts(read)

    def extras(self, items: Items) -> dict[str, Any]:
        """Accuracy by subject, in per cent."""
        return {name: round(100 * mean, 2) for name, mean in group_means(items).items()}
