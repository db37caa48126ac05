"""GPQA-Diamond: 198 questions of physics, chemistry and biology with four options.

Its authors ask that no question be put in plain text where it can be read on the web. It is read
from the user's own file only, never fetched and never taken from a cache, and `private` says that
no text of it may stand in a report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from fusechat.digests import digest
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._benchmark import numbered
from fusechat.tasks._catalogue import DataFile
from fusechat.tasks._multiple_choice import ChoiceBenchmark, checked, each, gold_letter

_WRONG = tuple(f"Incorrect Answer {n}" for n in (1, 2, 3))


class GpqaDiamond(ChoiceBenchmark):
    """GPQA-Diamond: accuracy on 198 questions, from the user's own file.

    Source: arXiv 2311.12022. Files: the publisher's (`Question`, `Correct Answer`, `Incorrect
    Answer 1` to `3`; CSV or Parquet), whose options are put in an order drawn for each item from
    `shuffle_seed`; or with the options in order (`Question`, `options`, `answer` from 0), as
    FuseEval's copy, jeggers/gpqa_formatted, has them, and then that order is kept.
    """

    title: ClassVar[str] = "GPQA-Diamond"
    published: ClassVar[str | None] = "GPQA-Diamond"
    licence: ClassVar[str] = "CC-BY-4.0"
    private: ClassVar[bool] = True
    """Whether no text of an item may stand in a report."""
    data: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            role="items",
            names=(
                "gpqa/gpqa_diamond.csv",
                "gpqa_diamond.csv",
                "gpqa_diamond.parquet",
                "gpqa_diamond.jsonl",
                "gpqa_formatted/diamond/train-00000-of-00001.parquet",
                "diamond/train-00000-of-00001.parquet",
                "gpqa_diamond/train-00000-of-00001.parquet",
            ),
            licence="CC-BY-4.0, and not to be shown in plain text",
            home="accept the conditions of Idavidrein/gpqa on the hub and download "
            "gpqa_diamond.csv there; it is never fetched for you",
            items=198,
        ),
    )

    shuffle_seed: int = 0
    """Draws the order of the options where the file has none."""

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The questions in the file's order; the domain is the file's `High-level domain`."""
        return numbered(each(self._rows(), self._of))

    def _of(self, row: Mapping[str, Any]) -> Prompt:
        options, place = self._formatted(row) if "options" in row else self._shuffled(row)
        question, given = checked(row.get("Question", row.get("question")), options)
        item = row.get("Record ID") or digest([question])[:12]
        subject = str(row.get("High-level domain") or "all")
        return self._prompt(question, given, gold_letter(place, len(given)), subject, str(item))

    def _formatted(self, row: Mapping[str, Any]) -> tuple[Any, Any]:
        options = row["options"]
        place = row.get("answer_index", row.get("answer"))
        if isinstance(place, str) and len(place) == 1 and place.isupper():
            place = ord(place) - ord("A")
        return options, place

    def _shuffled(self, row: Mapping[str, Any]) -> tuple[list[Any], int]:
        """The options by the digests of the seed, the question and themselves."""
        found = (row.get("Correct Answer"), *(row.get(name) for name in _WRONG))
        options = [option.strip() for option in found if isinstance(option, str)]
        if len(options) < len(found) or not all(options):
            raise ValueError("an option is missing")
        draws = [digest([self.shuffle_seed, row.get("Question"), option]) for option in options]
        order = sorted(range(len(options)), key=lambda n: (draws[n], n))
        return [options[n] for n in order], order.index(0)
