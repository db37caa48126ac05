"""Extrapolation from some prompts to all of them, with its uncertainty. Pure.

A pilot's prompts are drawn at random, all samples of a prompt are taken: so a prompt, not a
response, is what varies (a cluster of the survey literature; Cochran, Sampling Techniques,
3rd ed. 1977, section 5.1: strata; 9.2: clusters). Intervals are of 95%.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Z = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; `half` (half its width) is None where one cannot be told."""

    value: float
    half: float | None = None

    @property
    def low(self) -> float | None:
        """Lower end, not below 0."""
        return None if self.half is None else max(0.0, self.value - self.half)

    @property
    def high(self) -> float | None:
        """Upper end."""
        return None if self.half is None else self.value + self.half

    def times(self, factor: float) -> Estimate:
        """The estimate in another unit."""
        return Estimate(self.value * factor, None if self.half is None else self.half * factor)

    def as_json(self) -> dict[str, float | None]:
        """`value`, `low`, `high`."""
        return {"value": self.value, "low": self.low, "high": self.high}


def total(parts: Iterable[Estimate]) -> Estimate:
    """A sum; half widths are added as they stand, as if all erred the same way.

    The same prompts are behind all sources, so their errors go together; this is the wide side.
    """
    found = list(parts)
    halves = [part.half for part in found if part.value or part.half]
    known = [half for half in halves if half is not None]
    half = sum(known) if len(known) == len(halves) else None
    return Estimate(sum(part.value for part in found), half)


@dataclass(frozen=True)
class Stratum:
    """What the pilot's prompts of one domain gave, per row: mean, and spread between prompts."""

    prompts: int
    mean: float
    spread: float | None
    """Standard deviation of the prompts' own means; None with fewer than two."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Stratum:
        """From one value a prompt."""
        count = len(values)
        mean = sum(values) / count
        if count < 2:
            return cls(count, mean, None)
        return cls(count, mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1)))

    def over(self, rows: int) -> Estimate:
        """The sum over `rows` rows of other prompts."""
        if self.spread is None:
            return Estimate(rows * self.mean)
        error = self.spread / math.sqrt(self.prompts)
        return Estimate(rows * self.mean, rows * student(self.prompts - 1) * error)


def student(freedom: int) -> float:
    """The 97.5% quantile of Student's t: exact for 1 and 2 degrees of freedom, else by the
    expansion in 1/freedom (Abramowitz & Stegun 26.7.5), within 0.2%."""
    if freedom == 1:
        return 12.706205
    if freedom == 2:
        return 4.302653
    z, n = Z, float(freedom)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + first / n + second / n**2 + third / n**3 + fourth / n**4


def across(strata: Sequence[tuple[Stratum, int]]) -> Estimate:
    """The sum over strata of different rows; their errors are independent."""
    parts = [stratum.over(rows) for stratum, rows in strata if rows]
    value = sum(part.value for part in parts)
    if any(part.half is None for part in parts):
        return Estimate(value)
    return Estimate(value, math.sqrt(sum((part.half or 0.0) ** 2 for part in parts)))


@dataclass(frozen=True)
class Share:
    """An interval of a share, by Wilson's score (1927)."""

    value: float
    low: float
    high: float

    def over(self, count: int) -> dict[str, float]:
        """Of `count` prompts, as JSON."""
        return {"value": self.value * count, "low": self.low * count, "high": self.high * count}


def wilson(hits: int, count: int) -> Share:
    """How large a share is of which `hits` of `count` were seen; never of width 0."""
    if not 0 <= hits <= count or not count:
        raise ValueError(f"{hits} of {count} is no share")
    share, square = hits / count, Z * Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    spread = share * (1 - share) / count + square / (4 * count * count)
    half = Z * math.sqrt(spread) / (1 + square / count)
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    high = 1.0 if hits == count else min(1.0, middle + half)
    return Share(share, low, high)
