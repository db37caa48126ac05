"""HelpSteer2: conversations whose last answer people rated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from fusechat.records import Prompt
from fusechat.settings import HubSetName
from fusechat.tasks._published import PublishedSet, text_of

_MARKER = re.compile(r"\n?<extra_id_1>(User|Assistant)[ \t]*\n")


class Helpsteer2(PublishedSet):
    """Prompts of nvidia/HelpSteer2 (20,324 rows of two responses each; CC-BY-4.0).

    FuseChat-3.0 has 9,435 prompts of it: 3,774 for SFT, 5,661 for DPO (README, Dataset). Columns
    `prompt`, `response` and five ratings, splits `train` (20,324) and `validation` (1,038): from
    the set's own card. The two rows of a prompt are one prompt. A prompt of several turns writes
    them as `<extra_id_1>Assistant` and `<extra_id_1>User` lines; they become messages, and only
    the answer to the last user turn is sampled, scored and trained on.
    """

    domain: ClassVar[str | None] = "chat"
    splits: ClassVar[tuple[str, ...]] = ("train", "validation")
    columns: ClassVar[tuple[str, ...]] = ("prompt",)
    licence: ClassVar[str] = "cc-by-4.0"
    seen_commit: ClassVar[str] = "990b2711a36180dd19d9c94b8627844866f8982a"
    several_rows: ClassVar[bool] = True

    path: HubSetName = "nvidia/HelpSteer2"

    def _prompt(self, row: Mapping[str, Any]) -> Prompt:
        return self._of(turns_of(text_of(row, "prompt")))


def turns_of(text: str) -> list[dict[str, str]]:
    """The turns of a prompt; raises `ValueError` where they are no conversation to answer."""
    first, *rest = _MARKER.split(text)
    said = [
        ("user", first),
        *((name.lower(), turn) for name, turn in zip(rest[::2], rest[1::2], strict=True)),
    ]
    if any("<extra_id_" in turn for _, turn in said):
        raise ValueError("a turn marker stands inside a turn")
    if any(not turn.strip() for _, turn in said):
        raise ValueError("a turn is empty")
    roles = [role for role, _ in said]
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2):
        raise ValueError("turns do not alternate")
    if roles[-1] != "user":
        raise ValueError("prompt does not end with a user turn")
    return [{"role": role, "content": turn} for role, turn in said]
