"""Win rates against one baseline from weighted battles, as Arena-Hard makes them. Pure.

In a battle a model meets the baseline; it wins (a share of 1), loses (0) or ties (0.5), with a
weight, the number of equal battles that it stands for (3 for a strong verdict). The Bradley-Terry
model says that the model wins with probability `sigma(theta)`, `theta` the difference of the two
strengths in log-odds; a tie is half a win and half a loss. With one opponent the maximum of the
likelihood has a closed form, `theta = logit(sum(weight * share) / sum(weight))`, so that the win
rate *is* the weighted share of wins. Arena-Hard (Li et al., 2024, arXiv 2406.11939) fits all
models of its leaderboard at once; each meets the baseline alone, so that each gets this number.

The **style-controlled** win rate adds four terms to `theta`, the differences of the two responses
in length, headers, list items and bold phrases, each `(model - baseline) / (model + baseline + 1)`
over its standard deviation, and reads the fit where all four are zero: were both written alike.
Differences from Arena-Hard's own, whose weights are shared by all models of its leaderboard:

- the terms are not centred. Centred on one model's battles, what a model *always* does (writing
  longer than the baseline) would go into its strength, and nothing would be controlled;
- where a term says next to nothing that a constant does not, there is no value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusechat.metrics.bootstrap import Interval, percentiles

Numbers = npt.NDArray[np.float64]

RESAMPLES = 100
"""As Arena-Hard resamples its battles."""
SEED = 42
STYLES = ("length", "headers", "lists", "bold")
"""The terms of style, in the order of the columns of counts."""
PENALTY = 0.5
"""Half of it times each style weight squared is added to the summed loss: scikit-learn's default
on battles that Arena-Hard counts twice."""
STRENGTH_PENALTY = 0.25 / math.log(10) ** 2
"""The same for `theta`: Arena-Hard's strengths are in units of ten to one, and one for each of the
two players."""
COLLINEAR = 0.99
"""Square of the cosine between a term and the constant from which on the two are not told apart."""
_STEPS, _SMALL = 100, 1e-10


@dataclass(frozen=True)
class StyleControlled:
    """A style-controlled win rate in [0, 1] with its 95% interval; None, with `why`, of none."""

    value: float | None
    interval: Interval | None = None
    weights: tuple[float, ...] = ()
    """Log-odds for one standard deviation of each of `STYLES`; above 0 where more is preferred."""
    why: str = ""


def win_rate(shares: Sequence[float] | Numbers, weights: Sequence[float] | Numbers) -> float:
    """The Bradley-Terry win rate against the baseline, in [0, 1].

    `shares` in [0, 1] and `weights` (above 0 in sum) of the battles, `[battles]`. Raises
    `ValueError` where no battle has a weight.
    """
    won, weight = np.asarray(shares, np.float64), np.asarray(weights, np.float64)
    if won.shape != weight.shape or not weight.sum() > 0:
        raise ValueError("give one weight for each battle, and one battle at least.")
    return float(won @ weight / weight.sum())


def interval(shares: Sequence[float] | Numbers, weights: Sequence[int] | Numbers) -> Interval:
    """The 2.5% and 97.5% percentiles of the win rate over resampled battles, always the same.

    A battle of weight 3 is three battles, each drawn by itself, as Arena-Hard does it. The order
    of the battles changes nothing. `weights` are whole numbers.
    """
    win_rate(shares, weights)
    won = np.asarray(shares, np.float64)
    distinct = np.unique(won)
    counts = np.array([np.asarray(weights)[won == share].sum() for share in distinct], np.float64)
    n = round(float(counts.sum()))
    draws = np.random.default_rng(SEED).multinomial(n, counts / counts.sum(), size=RESAMPLES)
    return percentiles(draws @ distinct / n)


def style_controlled(
    shares: Sequence[float] | Numbers,
    weights: Sequence[int] | Numbers,
    model: Sequence[Sequence[float]],
    baseline: Sequence[Sequence[float]],
) -> StyleControlled:
    """The style-controlled win rate, with percentiles over resampled battles.

    `model` and `baseline`: counts of the two responses of each battle, `[battles, STYLES]`, of 0
    and above.
    """
    won, weight = np.asarray(shares, np.float64), np.asarray(weights, np.float64)
    win_rate(won, weight)
    terms, unclear = _terms(np.asarray(model, float), np.asarray(baseline, float), weight)
    if unclear:
        told = ", ".join(unclear)
        return StyleControlled(None, why=f"the responses differ much the same everywhere: {told}")
    design = np.column_stack([np.ones(len(won)), terms])
    penalty = np.array([STRENGTH_PENALTY, *[PENALTY] * terms.shape[1]])
    found = logistic_fit(design, won, weight, penalty)
    n, generator = round(float(weight.sum())), np.random.default_rng(SEED)
    draws = generator.multinomial(n, weight / weight.sum(), size=RESAMPLES).astype(np.float64)
    thetas = np.array([logistic_fit(design, won, one, penalty)[0] for one in draws])
    return StyleControlled(
        float(_sigma(found[:1])[0]), percentiles(_sigma(thetas)), tuple(found[1:].tolist())
    )


def logistic_fit(design: Numbers, shares: Numbers, weights: Numbers, penalty: Numbers) -> Numbers:
    """Coefficients `[k]` of a logistic regression without a constant, by Newton's method.

    The least of `-sum(weight * (share * log p + (1 - share) * log(1 - p))) + sum(penalty * c^2)/2`
    with `p = sigma(design @ c)`; `design` is `[battles, k]`. A `penalty` of 0 leaves a coefficient
    free: then there must be a share between 0 and 1, or both, for it.
    """
    found = np.zeros(design.shape[1])
    loss = _loss(design, shares, weights, penalty, found)
    for _ in range(_STEPS):
        expected = _sigma(design @ found)
        slope = design.T @ (weights * (expected - shares)) + penalty * found
        curve = weights * expected * (1 - expected)
        hessian = (design * curve[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.lstsq(hessian, slope, rcond=None)[0]
        size = 1.0
        while (
            after := _loss(design, shares, weights, penalty, found - size * step)
        ) > loss and size > _SMALL:
            size /= 2
        found, loss = found - size * step, min(after, loss)
        if np.abs(size * step).max() < _SMALL:
            break
    return found


def _loss(
    design: Numbers, shares: Numbers, weights: Numbers, penalty: Numbers, at: Numbers
) -> float:
    logits = design @ at
    each = np.logaddexp(0.0, logits) - shares * logits
    return float(weights @ each + penalty @ at**2 / 2)


def _terms(model: Numbers, baseline: Numbers, weights: Numbers) -> tuple[Numbers, list[str]]:
    """Standardized differences `[battles, STYLES]`, and the styles not told from a constant."""
    terms = (model - baseline) / (model + baseline + 1)
    share = weights / weights.sum()
    mean = share @ terms
    square = share @ terms**2
    deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
    unclear = [
        name
        for name, m, s in zip(STYLES, mean.tolist(), square.tolist(), strict=True)
        if s > _SMALL and m * m > COLLINEAR * s
    ]
    return terms / np.where(deviation > 0, deviation, 1.0), unclear


def _sigma(logits: Numbers) -> Numbers:
    found: Numbers = np.exp(-np.logaddexp(0.0, -logits))
    return found
