"""Paired differences between two models on the same items. Pure.

Both models saw the same items, so the difference is taken item by item and the items are
resampled, not the models: what makes an item hard for both cancels, and the interval is
narrower, and more honest, than that of two separate accuracies.

Items enter by the strict reading of `accuracy.py`: a response that was cut or empty is the
model's own failure and counts 0; an item that could not be judged for either model for any
other reason is left out of the pair, and `n` says how many stayed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusechat.metrics.accuracy import Verdict
from fusechat.metrics.bootstrap import Z95, Interval, bootstrap_means, combine, percentiles


@dataclass(frozen=True)
class Difference:
    """Mean of `model - against`, in [-1, 1], over `n` common items; None, with `why`, of none."""

    value: float | None
    interval: Interval | None
    n: int
    why: str = ""


def item_differences(
    model: Mapping[str, Verdict], against: Mapping[str, Verdict]
) -> dict[str, float]:
    """Item id -> strict value of `model` minus that of `against`, in [-1, 1], where both have one.

    Items are in the order of their ids.
    """
    out = {}
    for item in sorted(model.keys() & against.keys()):
        left, right = model[item].strict, against[item].strict
        if left is not None and right is not None:
            out[item] = left - right
    return out


def paired_difference(model: Mapping[str, Verdict], against: Mapping[str, Verdict]) -> Difference:
    """The paired difference on one task, with the percentiles of a seeded paired bootstrap."""
    return average_difference([list(item_differences(model, against).values())])


def average_difference(tasks: Sequence[Sequence[float]]) -> Difference:
    """Mean over tasks of each task's mean item difference; items are resampled within tasks.

    Each task weighs the same. None where a task has no common item. Where the items of every
    task all differ by the same amount there is nothing to resample; the bound is then the one
    for no disagreeing item (`_constant`), never an interval of no width.
    """
    n = sum(len(task) for task in tasks)
    empty = sum(not task for task in tasks)
    if not tasks or empty:
        why = "no item was judged for both models"
        return Difference(None, None, n, f"{why} in {empty} of {len(tasks)} tasks" if n else why)
    means = [math.fsum(task) / len(task) for task in tasks]
    value = math.fsum(means) / len(means)
    if all(min(task) == max(task) for task in tasks):
        bounds = [_constant(task[0], len(task)) for task in tasks]
        return Difference(value, combine(means, bounds), n)
    resampled = [bootstrap_means(task, stratum) for stratum, task in enumerate(tasks)]
    return Difference(value, percentiles(np.mean(resampled, axis=0)), n)


def _constant(value: float, n: int) -> Interval:
    """Bounds where all `n` items differ by `value`.

    The half width is that of Bonett and Price (2012) for paired shares with no disagreeing
    item: z * sqrt(2) / (n + 2), cut to [-1, 1].
    """
    half = Z95 * math.sqrt(2) / (n + 2)
    return Interval(max(-1.0, value - half), min(1.0, value + half))
