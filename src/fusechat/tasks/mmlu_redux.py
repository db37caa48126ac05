"""MMLU-Redux 2.0: 5,700 questions of MMLU that were looked over by annotators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._benchmark import numbered
from fusechat.tasks._catalogue import DataFile
from fusechat.tasks._mmlu_redux import ALL, SOUND, corrected, read_redux, says_errors
from fusechat.tasks._multiple_choice import ChoiceBenchmark, each, gold_letter


class MmluRedux(ChoiceBenchmark):
    """MMLU-Redux 2.0: accuracy on 5,330 checked questions of 57 subjects.

    Source: arXiv 2406.04127, edinburgh-dawg/mmlu-redux-2.0. `errors` says what becomes of the 370
    questions in which the annotators found an error: `left_out` as the authors ask and lm-eval
    does since its version 4 of the task; `corrected` by what the annotators wrote, where that
    names an answer; `kept` with MMLU's label. A file that does not say which ones they are is
    taken as it is, and the row says so.
    """

    title: ClassVar[str] = "MMLU-redux"
    published: ClassVar[str | None] = "MMLU-redux"
    licence: ClassVar[str] = "CC-BY-4.0"
    differs: ClassVar[str] = (
        "FuseEval has no data or code for MMLU-redux (its loader reads plain MMLU), so that the "
        "published figure cannot be reproduced; this is MMLU-Redux 2.0 with FuseEval's prompt."
    )
    data: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            role="items",
            names=(
                "mc/mmlu-redux-2.0",
                "mmlu-redux-2.0",
                "mmlu_redux_2.0.parquet",
                "mmlu_redux_2.0.jsonl",
            ),
            licence="CC-BY-4.0",
            home="hub: edinburgh-dawg/mmlu-redux-2.0, all files, as the folder mmlu-redux-2.0",
            hub=("edinburgh-dawg/mmlu-redux-2.0", "."),
            revision="372ea425445d51e1ba1188c56e5e893f8138621f",
            items=ALL,
        ),
        DataFile(
            role="sample",
            names=("mc/mmlu_redux_2000.json", "mmlu_redux_2000.json"),
            licence="CC-BY-4.0",
            home="github.com/Ziyuan-Yang/AmongUs, data/mmlu_redux.json (2,000 of the questions)",
            sha256={
                "d32f9a4ae695b3826e628d371f1b663621e72a95275339645c0ed01ebfedaeb6": "AmongUs",
            },
            optional=True,
        ),
    )

    errors: Literal["left_out", "corrected", "kept"] = "left_out"
    """What becomes of questions with an error."""

    def found(self) -> dict[str, Path]:
        """The whole set where it is there, else the sample."""
        there = super().found()
        return {"items": there["items"]} if "items" in there else there

    def missing(self) -> str | None:
        """Why the row must be skipped: there is not even the sample."""
        return None if self.found() else self.data[0].missing(self.data_dir)

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The questions in the file's order; items are called `subject/number`, from 0."""
        return numbered(self._all())

    def expected(self) -> int | None:
        """Questions that remain of all 5,700."""
        if "items" in self.found():
            rows = list(self._all())
            if len(rows) == ALL:
                return sum(isinstance(row, Prompt) for row in rows)
        return SOUND if self.errors == "left_out" else ALL

    def lacks(self) -> list[str]:
        """The data are a sample, or not all subjects."""
        there = self.found()
        if not there:
            return []
        held = sum(1 for path in there.values() for _ in read_redux(path))
        return [f"The data are a part: {held:,} of {ALL:,} questions."] if held < ALL else []

    def notes(self) -> list[str]:
        """Also: what was done with questions that have an error."""
        unused = self.data[1].missing(self.data_dir)
        return [*(note for note in super().notes() if note != unused), *self._of_errors()]

    def _all(self) -> Iterator[Prompt | UnreadableRow]:
        for path in self.found().values():
            yield from each(read_redux(path), self._of)

    def _of_errors(self) -> Iterator[str]:
        for path in self.found().values():
            if not says_errors(path):
                yield (
                    f"{path.name} does not say in which questions the annotators found errors; "
                    "they are among these items, with MMLU's labels"
                )
            elif self.errors != "left_out":
                yield f"questions with an error are {self.errors}; the default leaves them out"

    def _of(self, row: Mapping[str, Any]) -> Prompt:
        options, gold = self._options(row)
        item = f"{row['subject']}/{row['number']}"
        return self._prompt(row.get("question"), options, gold, str(row["subject"]), item)

    def _options(self, row: Mapping[str, Any]) -> tuple[Any, str]:
        options, kind = row.get("choices"), row.get("error_type", "ok")
        if not isinstance(options, list):
            raise ValueError("the options are no list of texts")
        if kind != "ok" and self.errors == "left_out":
            raise ValueError(f"error_type {kind}")
        if kind != "ok" and self.errors == "corrected":
            return corrected(row)
        return options, gold_letter(row.get("answer"), len(options))
