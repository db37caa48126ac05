"""MMLU: 14,042 questions of 57 subjects with four options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._benchmark import numbered
from fusechat.tasks._catalogue import DataFile
from fusechat.tasks._multiple_choice import ChoiceBenchmark, checked, each, gold_letter


class Mmlu(ChoiceBenchmark):
    """MMLU as it was published: accuracy on 14,042 questions, by subject; the row of the 1B target.

    Source: arXiv 2009.03300. 105 of the questions are there twice, and count twice.
    """

    title: ClassVar[str] = "MMLU"
    published: ClassVar[str | None] = "MMLU"
    licence: ClassVar[str] = "MIT"
    data: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            role="items",
            names=(
                "mc/mmlu_test.parquet",
                "mmlu_test.parquet",
                "mmlu/all/test-00000-of-00001.parquet",
                "mmlu_no_train/all/test-00000-of-00001.parquet",
            ),
            licence="MIT",
            home="hub: cais/mmlu, all/test-00000-of-00001.parquet",
            hub=("cais/mmlu", "all/test-00000-of-00001.parquet"),
            revision="c30699e8356da336a370243923dbaf21066bb9fe",
            sha256={
                "02033371a64dbe5a0d8b6fb9d612900afcd0fea5140e53490993a4540b3a58fd": "FuseEval's",
                "74a41822ce7d3def56e1682f958469c04642a5336a5ce912fa375fdb90fb25d7": "hub c30699e",
            },
            items=14_042,
        ),
    )

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The questions in the file's order; items are called `subject/number`, from 0."""
        seen: Counter[str] = Counter()

        def prompt(row: Mapping[str, Any]) -> Prompt:
            subject = str(row.get("subject") or "all")
            item = f"{subject}/{seen[subject]}"
            seen[subject] += 1
            question, options = checked(row.get("question"), row.get("choices"))
            gold = gold_letter(row.get("answer"), len(options))
            return self._prompt(question, options, gold, subject, item)

        return numbered(each(self._rows(), prompt))
