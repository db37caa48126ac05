"""For one prompt and one strategy: what each source has, where it stands, why it gives none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fusechat.parts import Group, Refusal, Said, Seen, Strategy
from fusechat.stages.attribution_numbers import RIGHT


def explain_strategy(strategy: Strategy, group: Group) -> dict[str, Any]:
    """What a strategy picks from a prompt, and what it would pick from each source alone.

    Keys: `use`, `settings`, `window` (ends in raw units, null: open), `names` (id of each
    response -> source and index), then `picked` or `refused` and `details`, and `sources`:
    source -> the same of it by itself (`Strategy.of_source`) with its `rank` (1 is tried first;
    null: not ranked) and, for a strategy that says by which scores it ranks, the `best` and
    `worst` response that it could use (`worst` of the other sources where the strategy
    `mixes_sources`), and their `gap`.
    """
    ranks = _ranks(strategy, group)
    said = strategy.select(group)
    knows_ends = "by" in type(strategy).model_fields
    sources: dict[str, Any] = {}
    for name in group.sources:
        own = tuple(r for r in group.responses if r.source == name)
        if own:
            alone = said_of(strategy.of_source(group, name))
            rivals = own
            if strategy.mixes_sources:
                rivals = tuple(r for r in group.responses if r.source != name)
            ends = _ends(strategy, own, rivals, alone) if knows_ends else {}
            sources[name] = {**alone, "rank": ranks.get(name), **ends}
    return {
        "use": strategy.part_name(),
        "settings": strategy.model_dump(),
        "window": window_of(strategy),
        "mixes_sources": strategy.mixes_sources,
        "names": {r.response_id: f"{r.source} #{r.index}" for r in group.responses},
        **said_of(said),
        "sources": sources,
    }


def window_of(strategy: Strategy) -> dict[str, float | None] | None:
    """The ends of a strategy's window of scores; None where it has none."""
    fields = type(strategy).model_fields
    if "min_margin" not in fields or getattr(strategy, "by", None) is None:
        return None
    return {end: getattr(strategy, end) for end in ("min_margin", "max_margin")}


def said_of(said: Said) -> dict[str, Any]:
    """Picks or a refusal as plain data."""
    if isinstance(said, Refusal):
        return {"refused": said.reason, "details": dict(said.details)}
    return {"picked": [asdict(pick) for pick in said]}


def _ranks(strategy: Strategy, group: Group) -> dict[str, int]:
    """The place of each source in the order in which they are tried; empty if none is known."""
    tried = getattr(strategy, "tried", None)
    found: Sequence[str] = tried(group) if callable(tried) else ()
    return {source: rank for rank, source in enumerate(found, 1)}


def _ends(
    strategy: Strategy, own: Sequence[Seen], rivals: Sequence[Seen], alone: Mapping[str, Any]
) -> dict[str, Any]:
    """The first of one source's own responses and the last of its rivals, by the scores."""
    by, correct_by = (getattr(strategy, key, None) for key in ("by", "correct_by"))

    def score(response: Seen) -> float:
        return 0.0 if by is None else _value(response, by) or 0.0

    best = max(_usable(own, by, correct_by, right=True), key=score, default=None)
    out: dict[str, Any] = {"best": None if best is None else _one(best, by)}
    if strategy.emits != "Pair":
        return out
    picked = alone.get("picked", ())
    others = [r for r in _usable(rivals, by, correct_by, right=False) if r is not best]
    if picked:
        others = [r for r in rivals if r.response_id == picked[0]["rejected_id"]]
    worst = min(others, key=score, default=None)
    gap = None
    if best is not None and worst is not None and by is not None:
        gap = score(best) - score(worst)
    return {**out, "worst": None if worst is None else _one(worst, by), "gap": gap}


def _usable(
    responses: Sequence[Seen], by: str | None, correct_by: str | None, right: bool
) -> list[Seen]:
    """Those that are whole, scored by `by`, and judged right (or wrong) by `correct_by`."""
    usable = [r for r in responses if r.whole and (by is None or _value(r, by) is not None)]
    if correct_by is None:
        return usable
    judged = [(r, v) for r in usable if (v := _value(r, correct_by)) is not None]
    return [r for r, v in judged if (v >= RIGHT) == right]


def _one(response: Seen, by: str | None) -> dict[str, Any]:
    score = None if by is None else _value(response, by)
    at = {
        "response_id": response.response_id, "source": response.source, "index": response.index
    }  # fmt: skip
    return {**at, "score": score, "tokens": response.tokens}


def _value(response: Seen, annotator: str) -> float | None:
    judged = response.scores.get(annotator)
    if judged is None or judged.status != "ok" or judged.value is None:
        return None
    return judged.value if math.isfinite(judged.value) else None
