"""MMLU-Pro: 12,032 questions of 14 fields with up to ten options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._benchmark import numbered
from fusechat.tasks._catalogue import DataFile
from fusechat.tasks._multiple_choice import ChoiceBenchmark, each


class MmluPro(ChoiceBenchmark):
    """MMLU-Pro: accuracy on 12,032 questions with three to ten options, by category.

    Source: arXiv 2406.01574, TIGER-Lab/MMLU-Pro. The gold letter is the column `answer`; question
    3983 has another in `answer_index`, which FuseEval reads only to rate a guess.
    """

    title: ClassVar[str] = "MMLU-Pro"
    published: ClassVar[str | None] = "MMLU-Pro"
    licence: ClassVar[str] = "MIT"
    data: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            role="items",
            names=(
                "mc/mmlu_pro_test.parquet",
                "mmlu_pro_test.parquet",
                "MMLU-Pro/data/test-00000-of-00001.parquet",
            ),
            licence="MIT",
            home="hub: TIGER-Lab/MMLU-Pro, data/test-00000-of-00001.parquet",
            hub=("TIGER-Lab/MMLU-Pro", "data/test-00000-of-00001.parquet"),
            revision="b189ec765aa7ed75c8acfea42df31fdae71f97be",
            sha256={
                "2bd1ae25ec6c21d94ccc6d29be57cd489c4983e376f12531a968f61f666d8e5c": "FuseEval's",
                "0e24a191921c2f453518a537a8b2117bd137e7714d4ef1565e9ba06c1ecb9ad8": "hub b189ec7",
            },
            items=12_032,
        ),
    )

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The questions in the file's order."""
        return numbered(each(self._rows(), self._of))

    def _of(self, row: Mapping[str, Any]) -> Prompt:
        options = row.get("options")
        if isinstance(options, list):
            options = [option for option in options if option != "N/A"]
        return self._prompt(
            row.get("question"), options, str(row.get("answer") or ""),
            str(row.get("category") or "all"), str(row.get("question_id")),
        )  # fmt: skip
