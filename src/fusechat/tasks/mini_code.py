"""The miniature world's functions."""

from __future__ import annotations

from typing import Any, ClassVar

from fusechat.tasks._mini import MiniTask


class MiniCode(MiniTask):
    """Small functions on a list or a string, checked by five tests.

    An answer is Python code that defines `f`; each prompt has tests and a right solution.
    """

    domain: ClassVar[str | None] = "code"

    def graded_by(self) -> dict[str, Any] | None:
        """By running the tests."""
        return {"use": "code_tests"}
