"""Means with 95% t intervals over two kinds of seeds; whether an interval meets a goal. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from fusechat.metrics.student import interval
from fusechat.metrics.student import t_quantile as t_quantile
from fusechat.metrics.student import t_share as t_share

ROUNDING = 1e-4
"""Published numbers are rounded to this."""
Seeds = tuple[int, int]
"""(pretraining seed, pipeline seed) of a run."""


def estimate(values: Mapping[Seeds, float], expected: int) -> dict[str, Any]:
    """Mean and interval of one number over runs; every key is there, None where it has no meaning.

    The mean over the pipeline seeds of each pretraining seed first, then mean and t interval over
    the pretraining seeds. With one pretraining seed: t over the pipeline seeds (`over` says which).
    `sd_pipeline`: within a pretraining seed, pooled. `sd_pretraining`: of the seeds' means.
    `n`: runs with the number, `expected`: runs that should have it.
    """
    groups: dict[int, list[float]] = {}
    for (pretraining, _), value in sorted(values.items()):
        groups.setdefault(pretraining, []).append(value)
    means = {seed: statistics.fmean(group) for seed, group in groups.items()}
    several = len(means) > 1
    units = list(means.values()) if several else [v for group in groups.values() for v in group]
    low, high = interval(units)
    return {
        "mean": statistics.fmean(units) if units else None,
        "low": low,
        "high": high,
        "over": "pretraining" if several else "pipeline",
        "freedom": max(0, len(units) - 1),
        "n": len(values),
        "expected": expected,
        "sd_pipeline": _pooled(list(groups.values())),
        "sd_pretraining": statistics.stdev(means.values()) if several else None,
        "seed_means": {str(seed): mean for seed, mean in means.items()},
    }


def _pooled(groups: list[list[float]]) -> float | None:
    """Standard deviation within groups, weighted by degrees of freedom."""
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return None
    return math.sqrt(sum(statistics.variance(g) * (len(g) - 1) for g in groups if g[1:]) / freedom)


def at_least(found: Mapping[str, Any], goal: float) -> str:
    """`met`: the whole interval is at or above `goal`; `not met`: below; else `unresolved`."""
    if found["low"] is None:
        return "unresolved"
    return "met" if found["low"] >= goal else "not met" if found["high"] < goal else "unresolved"


def above_zero(found: Mapping[str, Any]) -> str:
    """`met` where the whole interval is above zero, `not met` where none of it is."""
    if found["low"] is None:
        return "unresolved"
    return "met" if found["low"] > 0 else "not met" if found["high"] <= 0 else "unresolved"


def none_below(found: Mapping[str, Mapping[str, Any]], margin: float) -> str:
    """Whether no difference is below zero.

    `not met` where an interval lies below zero; `met` where every interval rules out a loss of
    more than `margin`; else unresolved.
    """
    ends = [(entry["low"], entry["high"]) for entry in found.values()]
    if any(high is not None and high < 0 for _, high in ends):
        return "not met"
    sure = bool(ends) and all(low is not None and low >= -margin for low, _ in ends)
    return "met" if sure else "unresolved"


def against(new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    """Where a re-run's mean lies against a published one.

    `inside`: in the published interval; `close`: the interval of the difference of the two means
    (half width: root of the sum of both squared) holds zero; `outside`; `no interval`.
    """
    if new["mean"] is None or old["mean"] is None or old["low"] is None:
        return "no interval"
    half = old["high"] - old["mean"]
    distance = abs(new["mean"] - old["mean"]) - ROUNDING
    if distance <= half:
        return "inside"
    other = 0.0 if new["low"] is None else new["high"] - new["mean"]
    return "close" if distance <= math.hypot(half, other) else "outside"
