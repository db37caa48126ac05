"""The words for what became of a program: short, countable reasons."""

from __future__ import annotations

import importlib.util
import re
import sys

from fusechat.sandbox import Verdict, VerdictStatus

LIMITS_MET: dict[VerdictStatus, str] = {
    "timeout": "time limit exceeded",
    "memory": "memory limit exceeded",
    "output": "output limit exceeded",
}
_MISSING = re.compile(r"ModuleNotFoundError: No module named '([^']+)'")


def failure(verdict: Verdict) -> str:
    """Why a program that ran is wrong: the kind of exception, not its words."""
    if verdict.status in LIMITS_MET:
        return LIMITS_MET[verdict.status]
    if verdict.status == "invalid":
        return "does not compile"
    if verdict.status == "crashed":
        return f"crashed ({verdict.exception})"
    if verdict.exception == "AssertionError" and verdict.phase == "tests":
        return "a test failed"
    if verdict.exception == "early exit":
        return "ended before its tests were done"
    return f"raised {verdict.exception}"


def missing_module(verdict: Verdict) -> str:
    """The module that was imported and is not here; empty where the import itself was wrong.

    Wrong is a name that a module of this machine does not have (`import math.roots`).
    """
    found = _MISSING.match(verdict.message) if verdict.exception == "ModuleNotFoundError" else None
    if found is None:
        return ""
    top, dot, _ = found.group(1).partition(".")
    if _is_here(top) and (dot or top in sys.stdlib_module_names):
        return ""
    return top


def _is_here(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
