"""Arena-Hard's verdicts: what a judge's words say, and which battle each is. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fusechat.metrics import bradley_terry as bt

STRONG = 3
"""Battles that a strong verdict (`>>`) stands for."""
_LABEL = re.compile(r"\[\[([AB<>=]+)\]\]")
VERDICTS: Mapping[str, tuple[float, int]] = {
    "A>>B": (1.0, STRONG), "A>B": (1.0, 1), "A=B": (0.5, 1), "B>A": (0.0, 1), "B>>A": (0.0, STRONG),
    "B<<A": (1.0, STRONG), "B<A": (1.0, 1), "B=A": (0.5, 1), "A<B": (0.0, 1), "A<<B": (0.0, STRONG),
}  # fmt: skip
"""Label -> share of A (1 a win, 0.5 a tie), and weight."""
WORDS = {(1.0, STRONG): "much better", (1.0, 1): "better", (0.5, 1): "tie", (0.0, 1): "worse",
         (0.0, STRONG): "much worse"}  # fmt: skip
_CODE = re.compile(r"```[^`]*```")
_HEADERS = re.compile(r"^#{1,6}\s", re.M)
_LISTS = re.compile(r"^\s*(?:\d+\.|[-*+])\s", re.M)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


class Battle(NamedTuple):
    """One game as the model under test saw it."""

    share: float
    """1 where it won, 0.5 where it tied, 0 where it lost."""
    weight: int

    @property
    def word(self) -> str:
        """How its response was found against the baseline's."""
        return WORDS[self.share, self.weight]


def label_of(judgment: str) -> str | None:
    """The verdict of a judgment; None where it has no label, no known one, or two unlike ones."""
    found = {label for label in _LABEL.findall(judgment) if label}
    label = found.pop() if len(found) == 1 else None
    return label if label in VERDICTS else None


def battle(label: str, second: bool) -> Battle:
    """The battle of a verdict; `second`: the model's response stood in place B."""
    share, weight = VERDICTS[label]
    return Battle(1.0 - share if second else share, weight)


def style_counts(text: str) -> list[int]:
    """Characters, headers, list items and bold phrases, the last three outside of code blocks."""
    prose = _CODE.sub("", text)
    return [len(text), *(len(what.findall(prose)) for what in (_HEADERS, _LISTS, _BOLD))]


def told(battles: Sequence[Battle]) -> dict[str, int]:
    """How many games ended how, in words of the model under test."""
    found = Counter(one.word for one in battles)
    return {word: found[word] for word in WORDS.values()}


def style_told(
    battles: Sequence[Battle],
    model: Sequence[Sequence[float]],
    baseline: Sequence[Sequence[float]],
    length: str,
) -> dict[str, Any]:
    """The style-controlled win rate in per cent, as JSON; `length`: what lengths are counted in."""
    shares, weights = [b.share for b in battles], [b.weight for b in battles]
    found = bt.style_controlled(shares, weights, model, baseline)
    if found.value is None or found.interval is None:
        return {"win_rate": None, "why": found.why}
    return {
        "win_rate": 100 * found.value,
        "interval": [100 * found.interval.low, 100 * found.interval.high],
        "weights": dict(zip(bt.STYLES, found.weights, strict=True)),
        "length_in": length,
    }


def disagreeing(pairs: Iterable[tuple[Battle, Battle]]) -> int:
    """Items whose two games name different winners: the judge followed the place."""
    return sum({first.share, second.share} == {0.0, 1.0} for first, second in pairs)
