"""AlpacaEval 2.0's length-controlled win rate: a logistic regression on stored preferences. Pure.

Y. Dubois, B. Galambosi, P. Liang, T. Hashimoto, Length-Controlled AlpacaEval (arXiv 2404.04475), as
`length_controlled_v1` of github.com/tatsu-lab/alpaca_eval fits it. The log-odds that the model's
output is preferred are

    a tanh(l / std(l)) + b difficulty + c,    l = characters of the baseline's - of the model's

where `difficulty` is the instruction's own term, known beforehand. Besides the model's rows, those
of a verbose and a concise baseline (`Gamed`), without the term c and with a tenth of a row's weight
each, say what length alone brings. The win rate is the mean chance at l = 0. The weights are
penalised by their absolute values, as strongly as suits five folds best.

The published figures come from liblinear at its own tolerance, which stops 0.0001 points away from
the optimum, so that scikit-learn (imported where it is needed) is used and not an exact solver.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STRENGTHS: tuple[float, ...] = tuple(float(c) for c in np.logspace(-4, 4, 10))
"""Weights of the data against the penalty among which the folds choose."""
USUAL = STRENGTHS[5]
"""What they choose for models like the paper's (2.78); the choice moves the win rate little."""
FOLDS = 5
GAMED_WEIGHT = 0.1
"""Weight of a row of a gamed baseline: 0.2, over two of them."""
_SEED = 123


@dataclass(frozen=True)
class Gamed:
    """The rows of `df_gamed.csv`: the baseline against itself, told to be verbose, or concise."""

    lengths: Floats
    """`[rows]`: standardised differences of length."""
    difficulty: Floats
    """`[rows]` of the row's instruction."""
    preferences: Floats
    """`[rows]` in [0, 1]."""
    of_instruction: Mapping[int, float]
    """Number of the instruction (from 0, in the order of the benchmark) -> its difficulty."""

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Gamed:
        """From the file's rows, with columns preference, index, std_delta_len and
        instruction_difficulty; raises `ValueError` where one lacks or is no number."""
        found: list[tuple[float, float, float]] = []
        instructions: dict[int, float] = {}
        for place, row in enumerate(rows, start=1):
            try:
                length, hard, liked = (
                    float(row[name])
                    for name in ("std_delta_len", "instruction_difficulty", "preference")
                )
                number = int(row["index"])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"row {place} of it cannot be read ({error})") from error
            if not (math.isfinite(length) and math.isfinite(hard) and 0 <= liked <= 1):
                raise ValueError(f"row {place} of it has a number that cannot be")
            found.append((length, hard, liked))
            instructions.setdefault(number, hard)
        if not found:
            raise ValueError("it has no rows")
        lengths, difficulty, preferences = np.array(found, dtype=np.float64).T
        return cls(lengths, difficulty, preferences, instructions)


@dataclass(frozen=True)
class WinRate:
    """What the preferences of one model come to, in per cent."""

    length_controlled: float
    weights: tuple[float, float, float]
    """Of length, difficulty and the model itself: a, b, c."""
    strength: float
    """The weight of the data against the penalty, as the folds chose it or as it was given."""


@dataclass(frozen=True)
class Plain:
    """Win rate without control of length, in per cent, and how the single items ended."""

    win_rate: float
    standard_error: float | None
    """Of the mean, in points; None of a single item."""
    wins: int
    losses: int
    draws: int
    discrete: float
    """Wins, a draw being half a one."""


def plain(preferences: npt.ArrayLike) -> Plain:
    """Of `preferences` `[n]` in [0, 1], 1 where the model's output is better, n > 0."""
    liked = np.asarray(preferences, dtype=np.float64)
    n = len(liked)
    wins, losses = int((liked > 0.5).sum()), int((liked < 0.5).sum())
    draws = n - wins - losses
    error = float(liked.std(ddof=1) / math.sqrt(n) * 100) if n > 1 else None
    rate = float(liked.mean() * 100)
    return Plain(rate, error, wins, losses, draws, 100 * (wins + draws / 2) / n)


def length_controlled(
    preferences: npt.ArrayLike,
    shorter_by: npt.ArrayLike,
    difficulty: npt.ArrayLike,
    gamed: Gamed,
    strength: float | None = None,
) -> WinRate:
    """The length-controlled win rate of a model, all arrays `[n]`, one place an instruction.

    `preferences`: in [0, 1], nan where there is none: then the row is not fitted, but its length
    and its difficulty count, as in AlpacaEval. `shorter_by`: characters of the baseline's output
    minus those of the model's. `strength`: given, it is not chosen by folds (50 fits, 0.1 s of
    CPU), which is for resamples (one fit, 4 ms). Raises `ValueError` where there is no preference.
    """
    liked = np.asarray(preferences, dtype=np.float64)
    hard = np.asarray(difficulty, dtype=np.float64)
    known = np.isfinite(liked)
    if not known.any():
        raise ValueError("there is no preference to fit.")
    own = _features(standardised(shorter_by), hard, 1.0)[known]
    other = _features(gamed.lengths, gamed.difficulty, 0.0)
    fit = _Fit.of(
        np.concatenate([other, own]),
        np.concatenate([gamed.preferences, liked[known]]),
        np.concatenate([np.full(len(other), GAMED_WEIGHT), np.ones(len(own))]),
    )
    chosen = fit.best_strength() if strength is None else strength
    weights = fit.weights(chosen)
    even = _features(np.zeros(len(hard)), hard, 1.0)
    rate = float(_chances(even @ weights).mean() * 100)
    return WinRate(rate, (float(weights[0]), float(weights[1]), float(weights[2])), chosen)


def standardised(differences: npt.ArrayLike) -> Floats:
    """Differences of length by their standard deviation (n - 1); 0 where they do not differ."""
    values = np.asarray(differences, dtype=np.float64)
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return values / spread if spread > 0 else np.zeros_like(values)


def _features(lengths: Floats, difficulty: Floats, own: float) -> Floats:
    return np.stack([np.tanh(lengths), difficulty, np.full(len(lengths), own)], axis=1)


def _chances(odds: Floats) -> Floats:
    return np.exp(-np.logaddexp(0.0, -odds))


@dataclass(frozen=True)
class _Fit:
    """Rows of a logistic regression whose labels are chances: each is there as a win, weighted by
    its chance, and as a loss, weighted by the rest."""

    features: Floats
    """`[rows, 3]`."""
    chances: Floats
    """`[rows]` in [0, 1]."""
    trust: Floats
    """`[rows]`: weight of each row."""
    regression: Any
    """A class of scikit-learn with the settings of all fits."""

    @classmethod
    def of(cls, features: Floats, chances: Floats, trust: Floats) -> _Fit:
        return cls(features, chances, trust, _regression())

    def weights(self, strength: float, rows: Sequence[int] | None = None) -> Floats:
        """Weights `[3]` of a fit to the rows, or to some of them."""
        at: Any = slice(None) if rows is None else rows
        features, chances, trust = self.features[at], self.chances[at], self.trust[at]
        labels = np.repeat([1, 0], len(features))
        both = np.concatenate([chances, 1 - chances]) * np.concatenate([trust, trust])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # What it says of its convergence is known: its tolerance is part of the definition.
            fitted = self.regression(strength).fit(
                np.concatenate([features, features]), labels, sample_weight=both
            )
        return np.asarray(fitted.coef_[0], dtype=np.float64)

    def best_strength(self) -> float:
        """The strength of the smallest mean loss over rows that the fit did not see."""
        losses = np.zeros(len(STRENGTHS))
        for seen, unseen in self._folds():
            for place, strength in enumerate(STRENGTHS):
                losses[place] += self._loss(self.weights(strength, seen), unseen)
        return STRENGTHS[int(np.argmin(losses))]

    def _folds(self) -> Iterator[tuple[Any, Any]]:
        """Rows to fit and rows to look at, five times; both sides of a row stand together."""
        from sklearn.model_selection import GroupKFold

        n = len(self.features)
        groups = np.concatenate([np.arange(n), np.arange(n)])
        for seen, unseen in GroupKFold(n_splits=FOLDS).split(np.zeros((2 * n, 1)), groups=groups):
            yield np.unique(seen % n), np.unique(unseen % n)

    def _loss(self, weights: Floats, rows: Any) -> float:
        found = np.clip(_chances(self.features[rows] @ weights), 1e-15, 1 - 1e-15)
        chances, trust = self.chances[rows], self.trust[rows]
        each = chances * np.log(found) + (1 - chances) * np.log(1 - found)
        return float(-(each * trust).mean())


def _regression() -> Any:
    """Strength -> the regression; the settings of AlpacaEval in this scikit-learn's words."""
    from sklearn.linear_model import LogisticRegression

    # scikit-learn 1.8 took `penalty` away in favour of `l1_ratio`.
    kinds = inspect.signature(LogisticRegression).parameters
    newer = "penalty" not in kinds or kinds["penalty"].default == "deprecated"
    penalty: dict[str, Any] = {"l1_ratio": 1.0} if newer else {"penalty": "l1"}

    def of(strength: float) -> Any:
        return LogisticRegression(
            C=strength, solver="liblinear", fit_intercept=False, random_state=_SEED, **penalty
        )

    return of
