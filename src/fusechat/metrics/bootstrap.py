"""Intervals for means: Wilson's, the bootstrap's, and their combination over tasks. Pure.

All intervals are two-sided 95% intervals. The bootstrap is seeded, blind to the order of the
values, and counts how often each distinct value is drawn (one multinomial draw a resample),
which is the same as drawing the values themselves and needs no memory of their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
SEED = 20250306
Z95 = 1.959963984540054
"""The 0.975 quantile of the standard normal distribution."""
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A 95% interval, `low <= high`."""

    low: float
    high: float


def wilson(successes: float, n: int) -> Interval:
    """Wilson's score interval of a share (E. B. Wilson, 1927), within [0, 1].

    Unlike the normal interval it is not empty at 0 and 1: 0 of 10 gives [0, 0.278].
    Raises `ValueError` where `n` is not positive or `successes` is not within [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"no share of {successes} in {n}: give 0 <= successes <= n, n >= 1.")
    share, square = successes / n, Z95**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = Z95 / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def bootstrap_means(values: Sequence[float], stratum: int = 0) -> npt.NDArray[np.float64]:
    """Means of `RESAMPLES` resamples of `values`, shape `[RESAMPLES]`, always the same ones.

    `stratum` numbers independent groups, so that each has its own draws. Raises `ValueError`
    where there is no value.
    """
    if not len(values):
        raise ValueError("there is no value to resample; a mean of nothing is not a number.")
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    shares = counts / counts.sum()
    generator = np.random.default_rng([SEED, stratum])
    block = max(1, _BLOCK // len(distinct))
    parts = [
        generator.multinomial(len(values), shares, size=min(block, RESAMPLES - begin)) @ distinct
        for begin in range(0, RESAMPLES, block)
    ]
    return np.concatenate(parts) / len(values)


def percentiles(means: npt.NDArray[np.float64]) -> Interval:
    """The 2.5% and 97.5% percentiles of resampled means, shape `[resamples]`."""
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(low), float(high))


def combine(means: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """Interval of the mean of independent means from their own intervals (MOVER).

    The method of variance estimates recovery (Zou and Donner, 2008): the distances from each
    mean to its own bound add up as variances do (squared). Of one mean it is that mean's
    interval. Raises `ValueError` where there is no mean, or not one interval for each.
    """
    if not means or len(means) != len(intervals):
        raise ValueError("give one interval for each mean, and at least one.")
    centre, count = sum(means) / len(means), len(means)
    below = math.hypot(*(m - i.low for m, i in zip(means, intervals, strict=True)))
    above = math.hypot(*(i.high - m for m, i in zip(means, intervals, strict=True)))
    return Interval(centre - below / count, centre + above / count)
