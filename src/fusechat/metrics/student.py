"""Student's t interval of a mean over few independent runs. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

LEVEL = 0.95


def t_share(t: float, freedom: int) -> float:
    """P(|T| <= t) of Student's t with `freedom` >= 1 degrees: a finite sum, exact but for rounding.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    if freedom % 2:
        term, total = cosine, cosine if freedom > 1 else 0.0
        for k in range(3, freedom - 1, 2):
            term *= cosine * cosine * (k - 1) / k
            total += term
        return (angle + sine * total) * 2 / math.pi
    term = total = 1.0
    for k in range(2, freedom - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return sine * total


def t_quantile(freedom: int, level: float = LEVEL) -> float:
    """The t with P(|T| <= t) = `level`; 12.706 for one degree of freedom at 95%."""
    if freedom < 1 or not 0 < level < 1:
        raise ValueError(f"needs freedom >= 1 and 0 < level < 1, not {freedom} and {level}")
    low, high = 0.0, 1.0
    while t_share(high, freedom) < level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_share(middle, freedom) < level else (low, middle)
    return (low + high) / 2


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The 95% t interval of the mean of independent numbers; none for fewer than two."""
    if len(values) < 2:
        return None, None
    mean = statistics.fmean(values)
    half = t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half
