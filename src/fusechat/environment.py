"""What a run ran on: library versions and the machine, as kept in manifests and reports."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from functools import cache
from typing import Any

LIBRARIES = (
    "fusechat",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "math-verify",
    "antlr4-python3-runtime",
    "pyarrow",
    "numpy",
    "datasets",
)
"""The packages whose versions can change what a unit makes."""


@cache
def library_versions() -> dict[str, str]:
    """Versions of those `LIBRARIES` that are installed."""
    out: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


def environment() -> dict[str, Any]:
    """Python, platform, cores and library versions."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "libraries": library_versions(),
    }
