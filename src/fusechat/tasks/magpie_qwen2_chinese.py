"""Magpie-Qwen2-Pro Chinese: instructions that Qwen2-72B-Instruct wrote from its own template."""

from __future__ import annotations

from typing import ClassVar

from fusechat.settings import HubSetName
from fusechat.tasks._magpie import MagpieSet


class MagpieQwen2Chinese(MagpieSet):
    """Instructions of Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese (200,000; no licence named).

    FuseChat-3.0 has 7,481 prompts of it, all for SFT (README, Dataset): code and mathematics
    left out, "high quality" kept; how that was told is not stated, so `qualities` is a key.
    One split `train`, Parquet, no licence tag: from the set's page. Columns `instruction`,
    `conversations`, `task_category`, `input_quality`, `instruct_reward`, `language`, ...: from
    the cards of its sister sets (Magpie-Qwen2-Pro-1M, -300K-Filtered) and of a reader of 2026.
    """

    domain: ClassVar[str | None] = "zh"
    seen_commit: ClassVar[str] = "ee71d5dbafec166eac8f5dcf9e581c90c56ce631"

    path: HubSetName = "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese"
