"""The miniature world's instructions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field

from fusechat.miniature.prompts import prompts
from fusechat.miniature.world import SPLITS
from fusechat.parts import Task, UnreadableRow
from fusechat.records import Prompt


class MiniChat(Task):
    """Lists and repetitions under instructions that a rule can check.

    An answer is right where it meets every constraint of the prompt's checker.
    Prompts come from a seed, and every text belongs to one split only: `pretrain`, `fusion`,
    `dev` or `test`. A fifth are basic, the others composed.
    """

    domain: ClassVar[str | None] = "chat"
    splits: ClassVar[tuple[str, ...]] = SPLITS

    seed: int = 0
    """Which prompts are drawn."""
    size: int = Field(default=400, ge=1, le=1000)
    """How many different prompts are drawn from a split."""

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The first `size` different prompts of `split`, in the order drawn."""
        return prompts("chat", split, self.seed, self.size)

    def graded_by(self) -> dict[str, Any] | None:
        """By the rules, all of which must be met."""
        return {"use": "instruction_rules", "strict": True}
