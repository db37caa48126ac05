"""Numbers over columns that come block by block: samples, quantiles, ranks, comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Quantiles that are reported."""
MOST = 16_384
"""Rows of a stream that are kept for quantiles and ranks."""
RIGHT = 1.0
"""The value of a right response; a smaller one is not right."""


class Sample:
    """A stream of rows: number and sum of all, and an even sample of at most `MOST`.

    The sample is every k-th row, k a power of two: the same for the same stream, however it
    was cut into blocks.
    """

    def __init__(self, columns: int = 1, most: int = MOST) -> None:
        self.n = 0
        self.total = np.zeros(columns)
        self._most, self._step = most, 1
        self._kept: list[Array] = [np.empty((0, columns))]

    def add(self, *columns: Array) -> None:
        """Take in rows, `[rows]` a column; no value may be nan."""
        rows = np.stack(columns, axis=1).astype(np.float64)
        first = -self.n % self._step
        self.n += len(rows)
        self.total += rows.sum(axis=0)
        self._kept.append(rows[first :: self._step].copy())
        if sum(map(len, self._kept)) > self._most:
            kept = np.concatenate(self._kept)
            while len(kept) > self._most:
                kept, self._step = kept[::2], self._step * 2
            self._kept = [kept.copy()]

    @property
    def sampled(self) -> bool:
        """Whether rows were left out."""
        return self._step > 1

    def column(self, number: int = 0) -> Array:
        """The kept values of one column, in the order of the stream."""
        return np.concatenate(self._kept)[:, number]

    @classmethod
    def pooled(cls, samples: Sequence[Sample]) -> Sample:
        """Several streams as one, each row of the same weight."""
        step = max((sample._step for sample in samples), default=1)
        total = cls(len(samples[0].total) if samples else 1)
        total.n, total._step = sum(sample.n for sample in samples), step
        for sample in samples:
            total.total += sample.total
            total._kept.append(np.concatenate(sample._kept)[:: step // sample._step])
        return total

    def mean(self, number: int = 0) -> float | None:
        """Mean of all rows, None where there are none."""
        return float(self.total[number]) / self.n if self.n else None

    def quantiles(self) -> dict[str, float]:
        """Of the first column."""
        return quantiles(self.column())


def quantiles(values: Array | Sequence[float]) -> dict[str, float]:
    """Nearest-rank quantiles at `LEVELS`; empty where there are no values."""
    ranked = np.sort(np.asarray(values, np.float64))
    if not len(ranked):
        return {}
    return {f"{level:g}": float(ranked[round(level * (len(ranked) - 1))]) for level in LEVELS}


def auc(right: Array, wrong: Array) -> float | None:
    """Probability that a value of `right` is above one of `wrong`, ties half; None if one is empty.

    The area under the ROC curve: the Mann-Whitney statistic over the number of pairs.
    """
    if not len(right) or not len(wrong):
        return None
    below = np.sort(wrong)
    under = np.searchsorted(below, right, "left").sum(dtype=np.float64)
    upto = np.searchsorted(below, right, "right").sum(dtype=np.float64)
    return float((under + upto) / 2 / (float(len(right)) * len(wrong)))


def spearman(one: Array, other: Array) -> float | None:
    """Rank correlation in [-1, 1], ties at their mean rank; None where a side does not vary."""
    if len(one) < 2:
        return None
    a, b = _ranks(one), _ranks(other)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else None


def _ranks(values: Array) -> Array:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


class Comparisons:
    """Pairs of rows of one cell (prompt and source) whose `side` differs: who has more `value`."""

    def __init__(self) -> None:
        self.pairs = self.higher = self.ties = 0

    def add(self, cell: Array, side: Array, value: Array) -> None:
        """`cell`: sorted; `side`: the larger one is expected to have the higher `value`."""
        for step in range(1, len(cell)):
            same = cell[step:] == cell[:-step]
            if not same.any():
                break
            order = np.sign(side[step:] - side[:-step])[same]
            rise = np.sign(value[step:] - value[:-step])[same]
            differs = order != 0
            self.pairs += int(differs.sum())
            self.higher += int((order * rise > 0).sum())
            self.ties += int((differs & (rise == 0)).sum())

    def report(self) -> dict[str, Any]:
        """Counts, and the share of pairs in which the larger side is higher, ties half."""
        share = (self.higher + self.ties / 2) / self.pairs if self.pairs else None
        return {"pairs": self.pairs, "higher": self.higher, "ties": self.ties, "share": share}
