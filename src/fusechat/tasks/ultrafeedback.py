"""UltraFeedback: instructions from six older sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from fusechat.records import Prompt
from fusechat.settings import HubSetName
from fusechat.tasks._published import PublishedSet, text_of

Origin = Literal[
    "evol_instruct", "false_qa", "flan_v2_cot", "flan_v2_flan2021", "flan_v2_niv2", "flan_v2_p3",
    "sharegpt", "truthful_qa", "ultrachat",
]  # fmt: skip


class Ultrafeedback(PublishedSet):
    """Instructions of openbmb/UltraFeedback (63,967; MIT).

    FuseChat-3.0 has 51,098 prompts of it: 20,439 for SFT, 30,659 for DPO (README, Dataset).
    Columns: `source`, `instruction` and others (models, completions, ...), one split `train`;
    looked up in a public card of the set of 2026-08-11 that quotes the hub's own API. There are
    no messages: each instruction is one user turn. The instructions of TruthfulQA and FalseQA
    are all in it (`source` says so): leave them out before testing on those.
    """

    domain: ClassVar[str | None] = "chat"
    columns: ClassVar[tuple[str, ...]] = ("source", "instruction")
    licence: ClassVar[str] = "mit"
    seen_commit: ClassVar[str] = "40b436560ca83a8dba36114c22ab3c66e43f6d5e"

    path: HubSetName = "openbmb/UltraFeedback"
    leave_out_sources: tuple[Origin, ...] = ()
    """Instructions that come from these sets are left out (`flan_v2_cot` is mostly sums)."""

    def _prompt(self, row: Mapping[str, Any]) -> Prompt:
        if row["source"] in self.leave_out_sources:
            raise ValueError(f"from {row['source']}")
        return self._of(text_of(row, "instruction"))
