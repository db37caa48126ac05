"""Fault points: named places where a test can make the whole run die as `kill -9` would.

`reach(name)` costs one dictionary look-up where no fault is set. Tests set
`FUSECHAT_KILL_AT=name:count`: the process group is killed the `count`-th time that
this process reaches `name` (`*`: any place). `FUSECHAT_FAULT_LOG=path` appends each name
that is reached, so that a test can draw its moments from the places that a run passes.
"""

from __future__ import annotations

import os
import signal

_COUNTS: dict[str, int] = {}


def reach(name: str) -> None:
    """Say that the place `name` was reached; dies here if a test asked for it."""
    log = os.environ.get("FUSECHAT_FAULT_LOG")
    if log:
        with open(log, "a", encoding="utf-8") as handle:
            handle.write(f"{name}\n")
    target = os.environ.get("FUSECHAT_KILL_AT")
    if not target:
        return
    wanted, _, count = target.rpartition(":")
    if wanted not in ("*", name):
        return
    _COUNTS[wanted] = _COUNTS.get(wanted, 0) + 1
    if _COUNTS[wanted] >= int(count):
        os.killpg(os.getpgrp(), signal.SIGKILL)
