"""Magpie-Pro: instructions that Llama-3-70B-Instruct wrote from its own template."""

from __future__ import annotations

from typing import ClassVar

from fusechat.settings import HubSetName
from fusechat.tasks._magpie import MagpieSet


class MagpiePro(MagpieSet):
    """Instructions of Magpie-Align/Magpie-Pro-DPO-100K-v0.1 (98,000 + 2,000; Llama 3 licence).

    FuseChat-3.0 has 20,374 prompts of it: 8,149 for SFT, 12,225 for DPO (README, Dataset); how
    they were chosen is not stated. Columns `uuid`, `instruction`, `task_category`,
    `input_quality`, `difficulty`, `responses`, `rewards_armorm`, `chosen`, `rejected`, ..., and
    the splits `train` and `test`: looked up in the set's own card. The tags are those of the
    Magpie pipeline; a tag that is not among them leaves nothing out.
    """

    domain: ClassVar[str | None] = "chat"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    licence: ClassVar[str] = "llama3"
    seen_commit: ClassVar[str] = "14c54207fd8b3f4ad111d02e7d0cec12a8876f0d"

    path: HubSetName = "Magpie-Align/Magpie-Pro-DPO-100K-v0.1"
