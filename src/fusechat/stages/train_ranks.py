"""A training stage on several ranks of this machine, as `where.ranks` says."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from fusechat.progress import Progress
from fusechat.stages.context import UnitContext
from fusechat.training.launch import run_on_ranks
from fusechat.training.ranks import launched

_SENT = ("name", "folder", "inputs", "settings", "seed", "where")


def train_here_or_on_ranks(context: UnitContext, function: str) -> dict[str, Any]:
    """What the stage `train.<function>` returns: in this process, or on `where.ranks` of its own.

    A process that a launcher started is a rank already, and starts none.
    """
    if context.where.ranks == 1 or launched():
        return _stage(context, function)
    sent = {name: getattr(context, name) for name in _SENT}
    counts: dict[str, Any] = run_on_ranks(
        f"{__name__}:on_rank", {**sent, "inputs": dict(context.inputs), "function": function},
        count=context.where.ranks, folder=context.folder, progress=context.progress,
        threads=context.where.threads,
    )  # fmt: skip
    return counts


def on_rank(sent: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """The stage on one rank, from what `train_here_or_on_ranks` sent."""
    function = sent.pop("function")
    log = logging.getLogger(f"fusechat.{sent['name']}")
    return _stage(UnitContext(**sent, progress=progress, log=log), function)


def _stage(context: UnitContext, function: str) -> dict[str, Any]:
    stage = getattr(importlib.import_module("fusechat.stages.train"), function)
    counts: dict[str, Any] = stage(context)
    return counts
