"""What the scores know: reward against correctness and against length, per source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusechat.groups import Groups, Judgements
from fusechat.stages.attribution_numbers import (
    RIGHT,
    Array,
    Comparisons,
    Sample,
    auc,
    spearman,
)
from fusechat.stages.funnel import cells_of

CHECKS = 16
"""Most checks of which a verdict is the share met."""
_NEAR = 1e-9
"""How far a share in binary may be from the exact one."""


class Knowing:
    """Scores of right and of wrong responses: does this annotator know what that one verified?"""

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = tuple(sources)
        self._sides = [(Sample(), Sample()) for _ in sources]
        self._same = [Comparisons() for _ in sources]

    def see(self, groups: Groups, score: Judgements, verdict: Judgements) -> None:
        """Take in the responses that have both."""
        both = (score.status == 0) & (verdict.status == 0)
        source, cell = groups.columns["source"][both], cells_of(groups)[both]
        value, right = score.value[both], verdict.value[both] >= RIGHT
        for place, (good, bad) in enumerate(self._sides):
            own = source == place
            good.add(value[own & right])
            bad.add(value[own & ~right])
            self._same[place].add(cell[own], right[own].astype(np.int8), value[own])

    def report(self, score: str, verdict: str) -> dict[str, Any] | None:
        """Numbers of each source and of all; None where no response has both."""
        if not any(good.n + bad.n for good, bad in self._sides):
            return None
        sources = {
            name: _knows(good, bad, same)
            for name, (good, bad), same in zip(self._sources, self._sides, self._same, strict=True)
        }
        goods, bads = ([pair[side] for pair in self._sides] for side in (0, 1))
        everyone = _knows(Sample.pooled(goods), Sample.pooled(bads), _summed(self._same))
        return {"score": score, "verdict": verdict, "all": everyone, "sources": sources}


def _knows(good: Sample, bad: Sample, same: Comparisons) -> dict[str, Any]:
    return {
        "right": {"n": good.n, "mean": good.mean(), "quantiles": good.quantiles()},
        "wrong": {"n": bad.n, "mean": bad.mean(), "quantiles": bad.quantiles()},
        "auc": auc(good.column(), bad.column()),
        "sampled": good.sampled or bad.sampled,
        "same_prompt": same.report(),
    }


class Lengths:
    """Scores against token counts: does this annotator like long responses?"""

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = tuple(sources)
        self._rows = [Sample(2) for _ in sources]
        self._same = [Comparisons() for _ in sources]

    def see(self, groups: Groups, score: Judgements) -> None:
        """Take in the whole responses that have a score and a token count."""
        tokens = groups.columns["tokens"]
        both = groups.columns["whole"] & (score.status == 0) & (tokens >= 0)
        source, cell = groups.columns["source"][both], cells_of(groups)[both]
        value, length = score.value[both], tokens[both]
        for place in range(len(self._sources)):
            own = source == place
            self._rows[place].add(value[own], length[own])
            self._same[place].add(cell[own], length[own], value[own])

    def report(self, score: str) -> dict[str, Any] | None:
        """Numbers of each source and of all; None where no response has both."""
        if not any(rows.n for rows in self._rows):
            return None
        sources = {
            name: _bias(rows, same)
            for name, rows, same in zip(self._sources, self._rows, self._same, strict=True)
        }
        everyone = _bias(Sample.pooled(self._rows), _summed(self._same))
        return {"score": score, "all": everyone, "sources": sources}


def _bias(rows: Sample, same: Comparisons) -> dict[str, Any]:
    return {
        "n": rows.n,
        "spearman": spearman(rows.column(0), rows.column(1)),
        "sampled": rows.sampled,
        "same_prompt": same.report(),
    }


def _are_shares(values: Array) -> bool:
    """Whether every value is a share k / n of `CHECKS` checks or fewer."""
    if not ((values >= 0) & (values <= 1)).all():
        return False
    met = values[:, None] * np.arange(1, CHECKS + 1)
    return bool((np.abs(met - np.round(met)) < _NEAR).any(axis=1).all())


def _summed(all_: Sequence[Comparisons]) -> Comparisons:
    total = Comparisons()
    for one in all_:
        total.pairs += one.pairs
        total.higher += one.higher
        total.ties += one.ties
    return total


class Rewards:
    """All scores and verdicts of one domain.

    Verdicts are what a rule reads as `correct_by`, and what looks like one: shares of checks
    met, of at most `CHECKS`, 1 (all met: right) among them; or nothing but 0.
    """

    def __init__(self, sources: Sequence[str], named: Sequence[str]) -> None:
        self._sources, self._named = tuple(sources), set(named)
        self._knowing: dict[tuple[str, str], Knowing] = {}
        self._lengths: dict[str, Lengths] = {}
        self._values: dict[str, set[float] | None] = {}
        """The values that each annotator gave; None: one of them is no share of checks."""

    def see(self, groups: Groups) -> None:
        """Take in some prompts."""
        found = {name: j for name, j in groups.judgements.items() if (j.status == 0).any()}
        for name, judged in found.items():
            self._note(name, judged)
        for name, score in found.items():
            if name in self._named:
                continue
            self._lengths.setdefault(name, Lengths(self._sources)).see(groups, score)
            for other, verdict in found.items():
                if other == name or self._values[other] is None:
                    continue
                knows = self._knowing.setdefault((name, other), Knowing(self._sources))
                knows.see(groups, score, verdict)

    def _note(self, name: str, found: Judgements) -> None:
        known = self._values.setdefault(name, set())
        if known is None or name in self._named:
            return
        values = np.unique(found.value[found.status == 0])
        if _are_shares(values):
            known.update(values.tolist())
        else:
            self._values[name] = None

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The annotators that have given nothing but verdicts, in alphabetical order."""
        return tuple(sorted(name for name in self._values if self._is_verdict(name)))

    def _is_verdict(self, name: str) -> bool:
        known = self._values[name]
        return name in self._named or (known is not None and (RIGHT in known or known == {0.0}))

    def report(self) -> dict[str, Any]:
        """`judges` and `lengths`."""
        verdicts = self.verdicts
        judges = [
            knows.report(score, verdict)
            for (score, verdict), knows in sorted(self._knowing.items())
            if verdict in verdicts and score not in verdicts
        ]
        lengths = [
            found.report(name)
            for name, found in sorted(self._lengths.items())
            if name not in verdicts
        ]
        return {
            "judges": [one for one in judges if one is not None],
            "lengths": [one for one in lengths if one is not None],
        }
