"""AMC 23: 40 problems of the American Mathematics Competitions of 2023."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._catalogue import DataFile
from fusechat.tasks._math import MathBenchmark


class Amc23(MathBenchmark):
    """Accuracy of the final number; one problem is 2.5 points."""

    title: ClassVar[str] = "AMC 23"
    published: ClassVar[str | None] = "AMC 23"
    data: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            role="items",
            names=("math/amc23.jsonl", "amc23.jsonl", "amc23/test.jsonl"),
            licence="none stated: the problems are the Mathematical Association of America's",
            home="github.com/QwenLM/Qwen2.5-Math, evaluation/data/amc23/test.jsonl; "
            "hub: math-ai/amc23",
            sha256={
                "43707e1ca784602d8479de24ee8ce36609dbebc46dd152b0b12a46611aa898a4": "FuseEval's",
            },
            items=40,
        ),
    )

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The problems in the file's order."""

        def read(row: Mapping[str, Any]) -> Prompt:
            question = row.get("question") or row.get("problem")
            return self._prompt(question, _plain(row["answer"]), "all", str(row.get("id", "")))

        return self._prompts(read)


def _plain(value: Any) -> str:
    """`27.0` as `27`."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)
