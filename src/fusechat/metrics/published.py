"""The figures that FuseChat-3.0 published (README, arXiv 2503.04222), and whose they are. Pure.

`published.json` holds them as printed, with their source. The table of Llama-3.2-1B-Instruct has 13
rows: plain MMLU in the place of MMLU-redux, and no LiveCodeBench.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

ROWS = (
    "AlpacaEval-2", "Arena-Hard", "MT-Bench", "AlignBench v1.1", "GSM8K", "MATH", "AMC 23",
    "LiveBench 0831", "MMLU-Pro", "MMLU-redux", "GPQA-Diamond", "HumanEval", "MBPP",
    "LiveCodeBench 2408-2411",
)  # fmt: skip
"""The rows of the table of a target with all 14, in its order."""
RATINGS = ("MT-Bench", "AlignBench v1.1")
"""Rows on a scale of 10; the others are per cent."""
TASKS = {
    "AlpacaEval-2": "alpaca_eval_2", "Arena-Hard": "arena_hard", "MT-Bench": "mt_bench",
    "AlignBench v1.1": "align_bench", "GSM8K": "gsm8k", "MATH": "math", "AMC 23": "amc23",
    "LiveBench 0831": "live_bench", "MMLU-Pro": "mmlu_pro", "MMLU-redux": "mmlu_redux",
    "MMLU": "mmlu", "GPQA-Diamond": "gpqa_diamond", "HumanEval": "humaneval", "MBPP": "mbpp",
    "LiveCodeBench 2408-2411": "live_code_bench",
}  # fmt: skip
"""Row -> the task that a recipe names for it."""


@dataclass(frozen=True)
class Published:
    """The table of one target."""

    target: str
    """As the table calls it, such as `Llama-3.1-8B-Instruct`."""
    models: Mapping[str, str]
    """Column (`base`, `sft`, `fused`, perhaps `tulu3_8b`) -> the model's name."""
    rows: Mapping[str, Mapping[str, float]]
    """Row -> column -> figure in the table's units, in the table's order."""
    average: Mapping[str, float]
    """Column -> the average as printed."""


@cache
def figures() -> dict[str, Published]:
    """Target -> its table, in the order of the README."""
    return {
        target: Published(target, one["models"], one["rows"], one["average"])
        for target, one in _file()["targets"].items()
    }


def source() -> str:
    """Where the figures are from, in words."""
    found = _file()["source"]
    return f"{found['paper']}; {found['readme']}, read {found['retrieved']}"


def published_for(names: Iterable[str]) -> Published | None:
    """The table of the first of `names` that is, or is made from, one of the paper's targets.

    A name is a hub name, a folder or a server's name of the model; the folders above it are read
    too. Family, version, size and tuning must all be there: `Llama-3.1-8B` is another model than
    `Llama-3.1-8B-Instruct`, and so are `-Coder-` or `-Math-` ones.
    """
    known = _known()
    for name in names:
        for part in re.split(r"/|\\|--", name):
            if target := known.get(_bare(part)):
                return figures()[target]
    return None


@cache
def _known() -> dict[str, str]:
    return {
        _bare(model): target
        for target, one in figures().items()
        for column, model in one.models.items()
        if column != "tulu3_8b"
    }


def _bare(name: str) -> str:
    """Letters and digits alone, without a maker's name before it."""
    return re.sub(r"^(meta|google|qwen(?=qwen))", "", re.sub(r"[^a-z0-9]", "", name.lower()))


@cache
def _file() -> dict[str, Any]:
    path = resources.files("fusechat.metrics").joinpath("published.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
