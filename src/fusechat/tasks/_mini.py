"""What the tasks of the miniature world share: seeded prompts in disjoint splits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field

from fusechat.miniature.prompts import prompts
from fusechat.miniature.world import SPLITS
from fusechat.parts import Task, UnreadableRow
from fusechat.records import Prompt


class MiniTask(Task):
    """Base of the miniature world's tasks; `domain` says which one a class is.

    Prompts come from a seed, and every text belongs to one split only: `pretrain`, `fusion`,
    `dev` or `test`. A fifth are basic, the others composed.
    """

    splits: ClassVar[tuple[str, ...]] = SPLITS

    seed: int = 0
    """Which prompts are drawn."""
    size: int = Field(default=400, ge=1, le=1000)
    """How many different prompts are drawn from a split."""

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The first `size` different prompts of `split`, in the order drawn.

        Raises `ValueError` for an unknown split, or where it has fewer than `size`.
        """
        return prompts(str(self.domain), split, self.seed, self.size)
