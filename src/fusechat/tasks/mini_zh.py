"""The miniature world's Chinese prompts."""

from __future__ import annotations

from typing import Any, ClassVar

from fusechat.tasks._mini import MiniTask


class MiniZh(MiniTask):
    """Chinese prompts: operations on a row of characters.

    An answer ends in `答案:` and the row that the operations give.
    """

    domain: ClassVar[str | None] = "zh"

    def graded_by(self) -> dict[str, Any] | None:
        """By the final row."""
        return {"use": "instruction_rules", "strict": True}
