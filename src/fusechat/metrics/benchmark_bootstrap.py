"""Intervals of a benchmark's score, and paired ones of differences between models. Pure.

What is resampled are the benchmark's items, with the score made anew of each resample, so that the
interval is that of the row's own number (a mean, a mean of category means, a regression). Turns of
one conversation stay together. Two models are resampled with the same items.

The interval is the expanded percentile one (T. Hesterberg, What Teachers Should Know About the
Bootstrap, 2015): percentiles at Student's t in the place of the normal quantile, and a factor for
few items. Of 1,000 items it is the plain percentile interval; of ten it is wider, as it must be.
Where all resamples agree there is nothing to take percentiles of: then the bounds are what other
items could make of it (`constant_bounds`). A difference on fewer than six items is never beyond
chance (`FEWEST`).
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fusechat.metrics.bootstrap import SEED, Interval
from fusechat.metrics.scoring import Items
from fusechat.metrics.student import t_quantile

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
_BLOCK = 2_000_000
BROKEN = (ValueError, ArithmeticError, np.linalg.LinAlgError)
"""What a score may raise of items that it cannot be made of."""


FEWEST = 6
"""Items on which two models must differ before their difference can be more than chance: of five
that all fall on one side a two-sided sign test says 2 x 0.5^5 = 0.06."""


@dataclass(frozen=True)
class Scoring:
    """How a row's number is made of items with a value (at least one), in the table's units."""

    score: Callable[[Items], float]
    scale: float
    """The number of a model that is right everywhere; the numbers lie in [0, scale]."""
    plain: bool = False
    """Whether `score` is the mean of the values times `scale`, which is resampled faster."""
    resamples: int = 1000
    made: dict[tuple[str, tuple[str, ...]], Floats] = field(default_factory=dict, compare=False)
    """Resampled scores that were made, by model and its items: an interval and the differences of a
    model need the same ones."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval; None, with `why`, where there is none."""

    value: float | None
    interval: Interval | None
    n: int
    """Items that it rests on; two turns of one conversation are two."""
    why: str = ""


def expanded_level(n: int) -> float:
    """The lower level, in [0, 0.025], of the interval over `n` >= 2 independent items."""
    t = t_quantile(n - 1) if n <= 500 else statistics.NormalDist().inv_cdf(0.975)
    return statistics.NormalDist().cdf(-t * math.sqrt(n / (n - 1)))


def constant_bounds(value: float, n: int, least: float, most: float) -> Interval:
    """Bounds of a mean in [least, most] of which all `n` independent items say `value`.

    With 95% confidence at least 0.025^(1/n) of all items are like these (Clopper and Pearson, 1934,
    for n of n); the rest could be anything. Five of five right: [0.478, 1].
    """
    others = 1.0 - 0.025 ** (1.0 / n)
    return Interval(value - others * (value - least), value + others * (most - value))


def estimate(items: Items, scoring: Scoring, name: str = "") -> Estimate:
    """The score of one model with its interval. `name`: the model's, under which resamples are kept
    in `scoring`."""
    known = items.take(np.flatnonzero(items.known()))
    if not len(known):
        return Estimate(None, None, 0, f"none of {len(items)} items has a verdict")
    value = _scored(known, scoring)
    if value is None:
        return Estimate(None, None, len(known), "no number can be made of these items")
    found = resampled(known, scoring, name)
    interval = _interval(value, found, len(clusters(known)), 0.0, scoring.scale)
    return Estimate(value, interval, len(known))


def difference(
    model: Items, against: Items, scoring: Scoring, names: tuple[str, str] = ("", "")
) -> Estimate:
    """Score of `model` minus that of `against`, on the items that have a value for both."""
    left, right = common(model, against)
    if not len(left):
        return Estimate(None, None, 0, "no item has a verdict for both models")
    values = _scored(left, scoring), _scored(right, scoring)
    if values[0] is None or values[1] is None:
        return Estimate(None, None, len(left), "no number can be made of the common items")
    value = values[0] - values[1]
    n = len(clusters(left))
    if scoring.plain:
        gaps = Items(left.names, left.values - right.values, left.groups, left.characters,
                     left.tokens, left.details)  # fmt: skip
        found = _resampled_means(gaps, scoring)
    else:
        found = resampled(left, scoring, names[0]) - resampled(right, scoring, names[1])
    interval = _interval(value, found, n, -scoring.scale, scoring.scale)
    if interval is not None and _differing(left, right) < FEWEST:
        interval = Interval(min(interval.low, 0.0), max(interval.high, 0.0))
    return Estimate(value, interval, len(left))


def _differing(left: Items, right: Items) -> int:
    """Conversations in which the two models differ."""
    gaps = np.abs(left.values - right.values)
    return sum(bool(gaps[places].any()) for places in clusters(left))


def common(model: Items, against: Items) -> tuple[Items, Items]:
    """The items of both that have a value for both, in the order of the first."""
    places = {name: at for at, name in enumerate(against.names)}
    both = [
        (at, places[name])
        for at, name in enumerate(model.names)
        if name in places
        and np.isfinite(model.values[at])
        and np.isfinite(against.values[places[name]])
    ]
    return model.take([one for one, _ in both]), against.take([other for _, other in both])


def resampled(items: Items, scoring: Scoring, name: str = "") -> Floats:
    """Scores of resamples, shape `[resamples]`, nan where a resample gives no number.

    All items have a value. Items of the same clusters in the same order meet the same draws.
    """
    if scoring.plain:
        return _resampled_means(items, scoring)
    if name and (name, items.names) in scoring.made:
        return scoring.made[name, items.names]
    groups = clusters(items)
    generator = np.random.default_rng([SEED, len(groups)])
    out = np.full(scoring.resamples, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a resample that a fit finds hard
        for at in range(scoring.resamples):
            drawn = generator.integers(0, len(groups), size=len(groups))
            one = _scored(items.take(np.concatenate([groups[i] for i in drawn])), scoring)
            out[at] = np.nan if one is None else one
    scoring.made[name, items.names] = out
    return out


def clusters(items: Items) -> list[Places]:
    """Places of the items of each conversation, in the order of first appearance."""
    found: dict[str, list[int]] = {}
    for at, name in enumerate(items.names):
        found.setdefault(name.partition("#")[0], []).append(at)
    return [np.asarray(places, dtype=np.intp) for places in found.values()]


def _resampled_means(items: Items, scoring: Scoring) -> Floats:
    """The same for plain means: how often each distinct conversation is drawn, one draw each.

    Of two models it is taken of the differences of their items, which is the paired bootstrap.
    """
    groups = clusters(items)
    sums = [float(items.values[places].sum()) for places in groups]
    sizes = [float(len(places)) for places in groups]
    distinct, counts = np.unique(np.array([sums, sizes]), axis=1, return_counts=True)
    generator = np.random.default_rng([SEED, len(groups)])
    block = max(1, _BLOCK // len(counts))
    out = []
    for begin in range(0, scoring.resamples, block):
        size = min(block, scoring.resamples - begin)
        drawn = generator.multinomial(len(groups), counts / counts.sum(), size=size)
        out.append((drawn @ distinct[0]) / (drawn @ distinct[1]))
    return np.concatenate(out) * scoring.scale


def _scored(items: Items, scoring: Scoring) -> float | None:
    try:
        value = float(scoring.score(items))
    except BROKEN:
        return None
    return value if math.isfinite(value) else None


def _interval(value: float, found: Floats, n: int, least: float, most: float) -> Interval | None:
    known = found[np.isfinite(found)]
    if not len(known):
        return None
    if float(known.max() - known.min()) <= 1e-9 * (most - least):
        return constant_bounds(min(max(value, least), most), n, least, most)
    level = expanded_level(n)
    low, high = np.quantile(known, [level, 1.0 - level])
    return Interval(min(float(low), value), max(float(high), value))
