"""Alpaca-GPT-4 in Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fusechat.records import Prompt
from fusechat.settings import HubSetName
from fusechat.tasks._published import PublishedSet, text_of

_NO_INPUT = (
    "",
    "无",
    "无输入",
    "没有输入",
    "不需要输入",
    "无需输入",
    "n/a",
    "none",
    "noinput",
    "no input",
)


class AlpacaGpt4Zh(PublishedSet):
    """Instructions of llamafactory/alpaca_gpt4_zh (about 42,700; apache-2.0 on its card).

    FuseChat-3.0 has 2,471 prompts of it, all for SFT (README, Dataset). Columns `instruction`,
    `input`, `output`, one split `train`, licence: from the set's own card. The data come from
    GPT-4-LLM, whose authors name CC-BY-NC-4.0. An input follows its instruction after a blank
    line; one that says that there is none ("无", "<无输入>") is none.
    """

    domain: ClassVar[str | None] = "zh"
    columns: ClassVar[tuple[str, ...]] = ("instruction",)
    licence: ClassVar[str] = "apache-2.0"
    seen_commit: ClassVar[str] = "065394ee242c43928298de8f43a8748ffd16f3e3"

    path: HubSetName = "llamafactory/alpaca_gpt4_zh"

    def _prompt(self, row: Mapping[str, Any]) -> Prompt:
        text, given = text_of(row, "instruction"), str(row.get("input") or "")
        if given.strip(" <>[]()（）。.\n\t").casefold() not in _NO_INPUT:
            text = f"{text}\n\n{given}"
        return self._of(text)
