"""How two judges agree on the same pairs of answers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fusechat.metrics.bootstrap import SEED, Interval, percentiles, wilson

Floats = npt.NDArray[np.float64]
RESAMPLES = 2000


@dataclass(frozen=True)
class Agreement:
    """Of `n` pairs that both judges have a preference for."""

    n: int
    same: float
    """Share of pairs of which both prefer the same answer; where just one sees a draw, half."""
    same_interval: Interval
    by_chance: float
    """What `same` were if the two looked at different pairs."""
    correlation: float | None
    """Pearson's, of the preferences; None where one judge says the same of all pairs."""
    correlation_interval: Interval | None


def agreement(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> Agreement | None:
    """Of preferences `[pairs]` in [0, 1], 0.5 a draw, nan where a judge has none; None of no pair.

    Intervals are 95%: Wilson's, and the percentile bootstrap's over pairs.
    """
    left, right = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    both = np.isfinite(left) & np.isfinite(right)
    left, right = left[both], right[both]
    if not len(left):
        return None
    sides = np.sign(left - 0.5), np.sign(right - 0.5)
    same = float((1 - np.abs(sides[0] - sides[1]) / 2).mean())
    shares = [[float((side == s).mean()) for s in (-1, 0, 1)] for side in sides]
    chance = sum(
        a * b * (1 - abs(i - j) / 2)
        for i, a in enumerate(shares[0])
        for j, b in enumerate(shares[1])
    )
    correlation = _correlations(left[None], right[None])[0]
    known = bool(np.isfinite(correlation))
    return Agreement(
        len(left), same, wilson(same * len(left), len(left)), chance,
        float(correlation) if known else None, _interval(left, right) if known else None,
    )  # fmt: skip


def told(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """The same as JSON, with the mean preference of each judge; `n` 0 of no pair."""
    found = agreement(ours, theirs)
    if found is None:
        return {"n": 0, "agreement": None, "why": "no pair has a preference of both judges"}
    left, right = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    both = np.isfinite(left) & np.isfinite(right)
    between = found.correlation_interval
    return {
        "n": found.n,
        "agreement": found.same,
        "agreement_interval": [found.same_interval.low, found.same_interval.high],
        "agreement_by_chance": found.by_chance,
        "correlation": found.correlation,
        "correlation_interval": [between.low, between.high] if between else None,
        "mean_ours": float(left[both].mean()),
        "mean_published": float(right[both].mean()),
    }


def _correlations(left: Floats, right: Floats) -> Floats:
    """Pearson's correlation of each row `[rows]` of two arrays `[rows, pairs]`; nan where a row
    has no spread."""
    a = left - left.mean(axis=1, keepdims=True)
    b = right - right.mean(axis=1, keepdims=True)
    spread = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    product = (a * b).sum(axis=1)
    found = np.full(len(product), np.nan)
    there = spread > 1e-12 * max(1, left.shape[1])
    found[there] = np.clip(product[there] / spread[there], -1.0, 1.0)
    return found


def _interval(left: Floats, right: Floats) -> Interval | None:
    generator = np.random.default_rng([SEED, len(left)])
    found = []
    for _ in range(RESAMPLES // 100):
        drawn = generator.integers(0, len(left), size=(100, len(left)))
        found.append(_correlations(left[drawn], right[drawn]))
    every = np.concatenate(found)
    every = every[np.isfinite(every)]
    return percentiles(every) if len(every) else None
