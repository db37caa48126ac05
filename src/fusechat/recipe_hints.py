"""Names that were meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any


def hint(name: str, known: Collection[str] | Mapping[str, Any]) -> str:
    """The nearest of the known names, or all of them."""
    near = difflib.get_close_matches(name, list(known), 1)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"There are: {', '.join(sorted(known))}." if known else "There are none."
