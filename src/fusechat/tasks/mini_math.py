"""The miniature world's word problems."""

from __future__ import annotations

from typing import Any, ClassVar

from fusechat.tasks._mini import MiniTask


class MiniMath(MiniTask):
    """Word problems of one to three steps, with a number as the answer.

    An answer ends in `#### number`.
    """

    domain: ClassVar[str | None] = "math"

    def graded_by(self) -> dict[str, Any] | None:
        """By the final number."""
        return {"use": "math_answer"}
