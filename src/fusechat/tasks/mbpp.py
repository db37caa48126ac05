"""MBPP: 378 small Python problems, those that EvalPlus keeps."""

from __future__ import annotations

from typing import ClassVar

from fusechat.tasks._catalogue import DataFile
from fusechat.tasks._code import EvalPlusBenchmark


class Mbpp(EvalPlusBenchmark):
    """MBPP (arXiv 2108.07732), the 378 tasks of EvalPlus's MBPP+ v0.2.0: pass@1, base tests.

    All of the paper's figures are multiples of 1/378, although the file in its repository is
    v0.1.0 with 399 tasks.
    """

    title: ClassVar[str] = "MBPP"
    published: ClassVar[str | None] = "MBPP"
    licence: ClassVar[str] = "CC-BY-4.0"
    data: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            role="items",
            names=(
                "code/MbppPlus-v0.2.0.jsonl.gz",
                "MbppPlus-v0.2.0.jsonl.gz",
                "MbppPlus-v0.2.0.jsonl",
                "MbppPlus.jsonl.gz",
                "MbppPlus.jsonl",
            ),
            licence="Apache-2.0 (MBPP itself: CC-BY-4.0)",
            home="github.com/evalplus/mbppplus_release, release v0.2.0, MbppPlus.jsonl.gz",
            sha256={
                "af43697e8791c4c149bdfd6b489d8b5412507551ac20e28a439f650b8225db63": "v0.2.0",
            },
            items=378,
        ),
    )
