"""The miniature world's Chinese prompts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field

from fusechat.miniature.prompts import prompts
from fusechat.miniature.world import SPLITS
from fusechat.parts import Task, UnreadableRow
from fusechat.records import Prompt


class MiniZh(Task):
    """Chinese prompts: operations on a row of characters.

    An answer ends in `答案:` and the row that the operations give.
    Prompts come from a seed, and every text belongs to one split only: `pretrain`, `fusion`,
    `dev` or `test`. A fifth are basic, the others composed.
    """

    domain: ClassVar[str | None] = "zh"
    splits: ClassVar[tuple[str, ...]] = SPLITS

    seed: int = 0
    """Which prompts are drawn."""
    size: int = Field(default=400, ge=1, le=1000)
    """How many different prompts are drawn from a split."""

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The first `size` different prompts of `split`, in the order drawn."""
        return prompts("zh", split, self.seed, self.size)

    def graded_by(self) -> dict[str, Any] | None:
        """By the final row."""
        return {"use": "instruction_rules", "strict": True}
