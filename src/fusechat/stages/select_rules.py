"""Which of several states is taken: pure functions of what each did on the same items.

States are compared from the newest backwards: the newest is kept until an earlier one beats the
one that is kept. By default it must do so beyond chance, at 95%; otherwise the later one stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from fusechat.metrics.paired import average_difference


@dataclass(frozen=True)
class Ranked:
    """How one state ranks the held-out pairs; all states have the same pairs in one order."""

    margins: Sequence[float]
    """The margin of each pair; it is ranked right where that is above 0."""
    losses: Sequence[float]

    @property
    def right(self) -> list[bool]:
        """Whether each pair is ranked right."""
        return [margin > 0 for margin in self.margins]

    def numbers(self) -> dict[str, Any]:
        """What is told of it: share ranked right, and means over the pairs."""
        n = len(self.margins)
        if not n:
            return {"pairs": 0}
        return {
            "pairs": n,
            "right": sum(self.right),
            "accuracy": sum(self.right) / n,
            "loss": math.fsum(self.losses) / n,
            "margin": math.fsum(self.margins) / n,
        }


@dataclass(frozen=True)
class Comparison:
    """An earlier state against the later one that was kept so far."""

    earlier: int
    """Its step."""
    later: int
    n: int
    """Items that both were judged at."""
    difference: float | None
    """Of what counts first, earlier minus later: shares ranked right, or mean values."""
    low: float | None
    high: float | None
    """95% interval of it."""
    told: bool
    """Whether it is told which is better."""
    better: int
    """The step that is kept."""
    words: str
    details: Mapping[str, Any]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "details": dict(self.details)}


@dataclass(frozen=True)
class Chosen:
    """The choice, and what led to it."""

    step: int
    comparisons: tuple[Comparison, ...]

    @property
    def words(self) -> str:
        """All comparisons in words."""
        return " ".join(one.words for one in self.comparisons)


def mcnemar(one: int, other: int) -> float:
    """Two-sided exact p of McNemar's test: `one` and `other` items went each way (binomial, 1/2).

    1 where no item went either way.
    """
    n, least = one + other, min(one, other)
    tail = sum(math.comb(n, k) for k in range(least + 1))
    return min(1.0, float(Fraction(2 * tail, 2**n)))


def choose_by_pairs(
    steps: Sequence[int], ranked: Sequence[Ranked], beyond_chance: bool = True
) -> Chosen:
    """By the share of held-out pairs ranked right; where that does not tell, by their mean loss.

    `steps`: newest first; `ranked`: of each. `beyond_chance`: a share tells where McNemar's exact
    test has p below 0.05, a loss where the 95% interval of the mean difference leaves out 0.
    Without it any difference tells. Where neither tells, the later state is taken.
    """
    place, found = 0, []
    for other in range(1, len(steps)):
        one = _pairs(steps[other], ranked[other], steps[place], ranked[place], beyond_chance)
        found.append(one)
        place = other if one.better == steps[other] else place
    return Chosen(steps[place], tuple(found))


def _pairs(
    earlier: int, ours: Ranked, later: int, theirs: Ranked, beyond_chance: bool
) -> Comparison:
    both = list(zip(ours.right, theirs.right, strict=True))
    gained, lost = sum(a and not b for a, b in both), sum(b and not a for a, b in both)
    p = mcnemar(gained, lost)
    shares = _difference([float(a) - float(b) for a, b in both])
    losses = _difference([a - b for a, b in zip(ours.losses, theirs.losses, strict=True)])
    sign, by = _sign(gained - lost, p < 0.05 or not beyond_chance), "share"
    if not sign and losses[0] is not None:
        clear = losses[1] > 0 or losses[2] < 0
        sign, by = _sign(-losses[0], clear or not beyond_chance), "loss"
    names = ("loss_difference", "loss_low", "loss_high")
    details = {
        "earlier_only": gained, "later_only": lost, "p": p, "by": by if sign else None,
        **dict(zip(names, losses, strict=True)),
    }  # fmt: skip
    better = earlier if sign > 0 else later
    words = _pair_words(earlier, later, len(both), details, better)
    difference, low, high = shares
    return Comparison(
        earlier, later, len(both), difference, low, high, bool(sign), better, words, details
    )


def _difference(values: Sequence[float]) -> tuple[float, float, float] | tuple[None, None, None]:
    """Mean of paired differences with its 95% interval."""
    found = average_difference([values])
    if found.value is None or found.interval is None:
        return None, None, None
    return found.value, found.interval.low, found.interval.high


def _sign(value: float, counts: bool) -> int:
    return (value > 0) - (value < 0) if counts else 0


def _pair_words(earlier: int, later: int, n: int, details: Mapping[str, Any], better: int) -> str:
    if not n:
        return f"No held-out pairs are there for steps {earlier} and {later}: the later is taken."
    gained, lost, p = (details[name] for name in ("earlier_only", "later_only", "p"))
    ranks = (
        f"{gained} are ranked right by step {earlier} alone, {lost} by step {later} alone "
        f"(McNemar's exact test: p {p:.2g})"
    )
    middle, low, high = (details[f"loss_{name}"] for name in ("difference", "low", "high"))
    losses = f"the mean loss of step {earlier} is {middle:+.2g} [{low:+.2g}, {high:+.2g}] from it"
    if details["by"] is None:
        return (
            f"{n} held-out pairs cannot tell steps {earlier} and {later} apart: {ranks}; "
            f"{losses}. The later is taken."
        )
    if details["by"] == "share":
        return f"Of {n} held-out pairs {ranks}: step {better} is taken."
    return f"Of {n} held-out pairs {ranks}, which tells nothing; {losses}: step {better} is taken."


Values = Mapping[str, Mapping[str, float]]
"""Task -> item -> value, of the items that could be judged."""


def choose_by_tasks(
    steps: Sequence[int], values: Sequence[Values], beyond_chance: bool = True
) -> Chosen:
    """By the mean over tasks of their mean values, on the items that both were judged at.

    `steps`: newest first; `values`: of each. `beyond_chance`: it tells where the 95% interval of
    the paired difference (bootstrap) leaves out 0. Where it does not tell, the later is taken.
    """
    place, found = 0, []
    for other in range(1, len(steps)):
        one = _tasks(steps[other], values[other], steps[place], values[place], beyond_chance)
        found.append(one)
        place = other if one.better == steps[other] else place
    return Chosen(steps[place], tuple(found))


def _tasks(
    earlier: int, ours: Values, later: int, theirs: Values, beyond_chance: bool
) -> Comparison:
    differences = [
        [ours[task][item] - theirs[task][item] for item in sorted(ours[task].keys() & theirs[task])]
        for task in ours
    ]
    found = average_difference(differences)
    names = f"steps {earlier} and {later}"
    if found.value is None or found.interval is None:
        words = f"{names.capitalize()} cannot be compared: {found.why}. The later is taken."
        return Comparison(earlier, later, found.n, None, None, None, False, later, words, {})
    low, high = found.interval.low, found.interval.high
    sign = _sign(found.value, low > 0 or high < 0 or not beyond_chance)
    better = earlier if sign > 0 else later
    numbers = f"{100 * found.value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
    told = f"{found.n} dev items cannot tell {names} apart: {numbers}. The later is taken."
    if sign:
        apart = f"step {earlier} is {numbers} from step {later}"
        told = f"On {found.n} dev items {apart}: step {better} is taken."
    return Comparison(earlier, later, found.n, found.value, low, high, bool(sign), better, told, {})
