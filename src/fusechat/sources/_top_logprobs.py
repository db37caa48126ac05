"""The likeliest tokens of one place, as an answer's details keep them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any


def together(likely: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Token -> log-probability in nats, in the order given; tokens that read the same count as one,
    and those that have no finite number are left out."""
    found: dict[str, float] = {}
    for token, value in likely:
        other = found.get(token, -math.inf)
        if math.isfinite(value):
            high = max(value, other)
            found[token] = high + math.log1p(math.exp(min(value, other) - high))
    return found


def first_of(choice: Mapping[str, Any]) -> dict[str, float]:
    """Those of the first token of a choice of a chat completion; empty where there are none."""
    outer = choice.get("logprobs")
    inner = outer.get("content") if isinstance(outer, Mapping) else None
    first = inner[0] if isinstance(inner, list) and inner else None
    listed = first.get("top_logprobs") if isinstance(first, Mapping) else None
    told = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
    return together(
        (one["token"], float(one["logprob"]))
        for one in told
        if isinstance(one.get("token"), str) and isinstance(one.get("logprob"), int | float)
    )
