"""What the two Magpie sets share: tags that a language model gave each instruction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from fusechat.records import Prompt
from fusechat.tasks._published import PublishedSet, text_of

Tag = Literal[
    "Information seeking", "Reasoning", "Planning", "Editing", "Coding & Debugging", "Math",
    "Role playing", "Data analysis", "Creative writing", "Advice seeking", "Brainstorming",
    "Others",
]  # fmt: skip
Quality = Literal["very poor", "poor", "average", "good", "excellent"]


class MagpieSet(PublishedSet):
    """Base of the Magpie sets."""

    columns: ClassVar[tuple[str, ...]] = ("instruction",)

    leave_out_tags: tuple[Tag, ...] = ("Coding & Debugging", "Math")
    """Instructions whose `task_category` is one of these are left out."""
    qualities: tuple[Quality, ...] = ()
    """Only instructions whose `input_quality` is one of these are kept; empty: all."""

    def _prompt(self, row: Mapping[str, Any]) -> Prompt:
        text = text_of(row, "instruction")
        tag = str(row.get("task_category") or "").strip()
        if tag.casefold() in {name.casefold() for name in self.leave_out_tags}:
            raise ValueError(f"tagged {tag}")
        quality = str(row.get("input_quality") or "").strip()
        if self.qualities and quality.casefold() not in self.qualities:
            raise ValueError(f"input quality {quality or 'not given'}")
        return self._of(text)
