"""HumanEval: 164 Python functions to be written from their docstrings."""

from __future__ import annotations

from typing import ClassVar

from fusechat.tasks._catalogue import DataFile
from fusechat.tasks._code import EvalPlusBenchmark


class HumanEval(EvalPlusBenchmark):
    """HumanEval (arXiv 2107.03374), as EvalPlus (arXiv 2305.01210) runs it: pass@1, base tests.

    Reads EvalPlus's release, which has the original tests as inputs and many more beside them.
    """

    title: ClassVar[str] = "HumanEval"
    published: ClassVar[str | None] = "HumanEval"
    licence: ClassVar[str] = "MIT"
    data: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            role="items",
            names=(
                "code/HumanEvalPlus-v0.1.10.jsonl.gz",
                "HumanEvalPlus-v0.1.10.jsonl.gz",
                "HumanEvalPlus-v0.1.10.jsonl",
                "HumanEvalPlus.jsonl.gz",
                "HumanEvalPlus.jsonl",
            ),
            licence="Apache-2.0 (HumanEval itself: MIT)",
            home="github.com/evalplus/humanevalplus_release, release v0.1.10, "
            "HumanEvalPlus.jsonl.gz",
            sha256={
                "272720b90ac375502c8ed23cd791c2a93dfb22a911641a494da74a426c09f101": "v0.1.10",
            },
            items=164,
        ),
    )
