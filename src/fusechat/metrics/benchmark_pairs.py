"""Which models of a comparison are held against which, and on which items they differ. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from fusechat.metrics.benchmark_bootstrap import common
from fusechat.metrics.scoring import Items

ROLES = {
    "target": "base", "base": "base", "train.sft": "sft", "sft": "sft", "train.dpo": "fused",
    "fused": "fused",
}  # fmt: skip
"""Names of models -> the column of the published table that they stand in."""
NOT_ASKED = "not asked for"
"""Why a row of the paper is skipped that nobody asked for."""
SHOWN = 2
"""Wins and losses of each row that are kept for reading."""


def role(model: str) -> str | None:
    """`base`, `sft` or `fused`; None for any other model."""
    return ROLES.get(model)


def pairs_to_compare(models: Sequence[str]) -> list[tuple[str, str]]:
    """(model, against): SFT to base, fused to SFT, fused to base, and all others to the base.

    Where there is no base, every model is held against the first one.
    """
    by_role = {role(model): model for model in reversed(models) if role(model)}
    wanted = (("sft", "base"), ("fused", "sft"), ("fused", "base"))
    pairs = [(by_role[a], by_role[b]) for a, b in wanted if a in by_role and b in by_role]
    first = by_role.get("base", models[0] if models else "")
    told = {first, *(model for pair in pairs for model in pair)}
    return pairs + [(model, first) for model in models if model not in told]


def headline_pair(models: Sequence[str]) -> tuple[str, str] | None:
    """The pair that examples are of: fused to base, or else the last that is compared with it."""
    pairs = pairs_to_compare(models)
    best = [pair for pair in pairs if role(pair[0]) == "fused" and role(pair[1]) == "base"]
    found = best or pairs
    return found[-1] if found else None


def outcomes(model: Items, against: Items) -> dict[str, int]:
    """Items on which the first does better, as well, and worse, of those with both values."""
    left, right = common(model, against)
    gaps = left.values - right.values
    return {
        "wins": int((gaps > 0).sum()), "ties": int((gaps == 0).sum()),
        "losses": int((gaps < 0).sum()),
    }  # fmt: skip


def examples(found: Mapping[str, Items], models: Sequence[str]) -> dict[str, Any] | None:
    """Some wins and losses to read, of the headline pair; None where there is no such pair.

    Drawn by the digests of the items' names among those of each kind, not picked by size.
    """
    pair = headline_pair([model for model in models if model in found])
    if pair is None:
        return None
    left, right = common(found[pair[0]], found[pair[1]])
    rows: list[dict[str, Any]] = [
        {"item": name, "value": float(a), "against": float(b)}
        for name, a, b in zip(left.names, left.values, right.values, strict=True)
        if a != b
    ]
    rows.sort(key=lambda row: hashlib.sha256(str(row["item"]).encode()).hexdigest())
    return {
        "model": pair[0],
        "against": pair[1],
        "wins": [row for row in rows if row["value"] > row["against"]][:SHOWN],
        "losses": [row for row in rows if row["value"] < row["against"]][:SHOWN],
    }
