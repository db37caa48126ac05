"""OpenMathInstruct-2: problems of GSM8K and MATH, and problems made from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from fusechat.records import Prompt
from fusechat.settings import HubSetName
from fusechat.tasks._published import PublishedSet, text_of

Origin = Literal["math", "gsm8k", "augmented_math", "augmented_gsm8k"]


class Openmathinstruct2(PublishedSet):
    """Problems of nvidia/OpenMathInstruct-2 (13,972,791 rows; CC-BY-4.0), each once.

    FuseChat-3.0 has 51,803 problems of it: 40,188 for SFT, 11,615 for DPO; an earlier state of
    its README says 58,546 before filtering. Its rule of choice is not stated: here the first
    split is `train_1M`, and `take` draws with the recipe's seed; the table `prompts` of the run
    is the list of those chosen. Columns `problem`, `generated_solution`, `expected_answer`,
    `problem_source`, splits `train`, `train_1M`, `train_2M`, `train_5M`: from the set's own card.
    A row is one solution (of Llama-3.1-405B-Instruct); rows with the same problem are one prompt,
    with the answer of the first. Solutions: source `given`, `prompt: problem`,
    `responses: generated_solution`. Answers of made-up problems are majority votes.
    """

    domain: ClassVar[str | None] = "math"
    splits: ClassVar[tuple[str, ...]] = ("train_1M", "train", "train_2M", "train_5M")
    columns: ClassVar[tuple[str, ...]] = ("problem", "expected_answer")
    licence: ClassVar[str] = "cc-by-4.0"
    seen_commit: ClassVar[str] = "469216e3f46f4dacf476b382e192485ea51a143e"
    several_rows: ClassVar[bool] = True

    path: HubSetName = "nvidia/OpenMathInstruct-2"
    problem_sources: tuple[Origin, ...] = ()
    """Only problems from these, by `problem_source`; empty: from all."""
    max_problem_chars: int | None = Field(default=None, ge=1)
    """Longer problems are left out."""

    def _prompt(self, row: Mapping[str, Any]) -> Prompt:
        problem = text_of(row, "problem")
        if self.problem_sources and row.get("problem_source") not in self.problem_sources:
            raise ValueError(f"from {row.get('problem_source')}")
        if self.max_problem_chars is not None and len(problem) > self.max_problem_chars:
            raise ValueError("longer than max_problem_chars")
        answer = row["expected_answer"]
        if answer is None or not str(answer).strip():
            raise ValueError("no expected answer")
        return self._of(problem, answer=str(answer))
