"""The miniature world's instructions."""

from __future__ import annotations

from typing import Any, ClassVar

from fusechat.tasks._mini import MiniTask


class MiniChat(MiniTask):
    """Lists and repetitions under instructions that a rule can check.

    An answer is right where it meets every constraint of the prompt's checker.
    """

    domain: ClassVar[str | None] = "chat"

    def graded_by(self) -> dict[str, Any] | None:
        """By the rules, all of which must be met."""
        return {"use": "instruction_rules", "strict": True}
