"""The miniature world's functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field

from fusechat.miniature.prompts import prompts
from fusechat.miniature.world import SPLITS
from fusechat.parts import Task, UnreadableRow
from fusechat.records import Prompt


class MiniCode(Task):
    """Small functions on a list or a string, checked by five tests.

    An answer is Python code that defines `f`; each prompt has tests and a right solution.
    Prompts come from a seed, and every text belongs to one split only: `pretrain`, `fusion`,
    `dev` or `test`. A fifth are basic, the others composed.
    """

    domain: ClassVar[str | None] = "code"
    splits: ClassVar[tuple[str, ...]] = SPLITS

    seed: int = 0
    """Which prompts are drawn."""
    size: int = Field(default=400, ge=1, le=1000)
    """How many different prompts are drawn from a split."""

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The first `size` different prompts of `split`, in the order drawn."""
        return prompts("code", split, self.seed, self.size)

    def graded_by(self) -> dict[str, Any] | None:
        """By running the tests."""
        return {"use": "code_tests"}
