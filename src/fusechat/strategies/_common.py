"""What the strategies share: who may be picked, which source comes first, the score window."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from fusechat.digests import digest
from fusechat.parts import Group, PairChoice, Refusal, Seen, Strategy

TOLERANCE = 1e-9
"""Slack at both ends of a window, in the annotator's units, after rounding to float32."""
RIGHT = 1.0
"""The value of a right response; a smaller one (constraints met in part) is not right."""


def value_of(response: Seen, annotator: str) -> float | None:
    """The usable value of a score; None where the annotator gave none, or no finite number."""
    judged = response.scores.get(annotator)
    if judged is None or judged.status != "ok" or judged.value is None:
        return None
    return judged.value if math.isfinite(judged.value) else None


def standing(response: Seen, annotators: Iterable[str]) -> str:
    """Why a response cannot be picked, in countable words; empty where it can."""
    if not response.whole:
        return {"length": "cut", "error": "failed"}.get(response.finish, "empty")
    for name in annotators:
        if value_of(response, name) is None:
            judged = response.scores.get(name)
            status = "no score" if judged is None else judged.status
            return f"{name}: {'not finite' if status == 'ok' else status}"
    return ""


def left_out(group: Group, annotators: Iterable[str]) -> dict[str, int]:
    """How many of a prompt's responses could not be picked, by cause."""
    names = tuple(annotators)
    causes = Counter(standing(r, names) for r in group.responses)
    return {cause: count for cause, count in sorted(causes.items()) if cause}


def eligible(
    responses: Iterable[Seen], by: str | None, correct_by: str | None = None, correct: bool = True
) -> tuple[list[Seen], str]:
    """The responses that may be picked, by sample index, or none and the reason.

    They are whole, judged `correct` (or not) by `correct_by`, and scored by `by`. A
    response that an annotator could not judge is on neither side.
    """
    found = sorted(responses, key=lambda r: (r.index, r.response_id))
    if not found:
        return [], "no response"
    found = [r for r in found if r.whole]
    if not found:
        return [], "no whole response"
    side = ""
    if correct_by is not None:
        verdicts = [(r, value_of(r, correct_by)) for r in found]
        if all(verdict is None for _, verdict in verdicts):
            return [], "no scored response"
        side = "correct " if correct else "incorrect "
        found = [r for r, v in verdicts if v is not None and (v >= RIGHT) == correct]
        if not found:
            return [], f"no {side}response"
    if by is not None:
        found = [r for r in found if value_of(r, by) is not None]
        if not found:
            return [], f"no scored {side}response"
    return found, ""


def by_source(group: Group) -> dict[str, list[Seen]]:
    """The responses of each source that has any, sources in recipe order."""
    found: dict[str, list[Seen]] = {name: [] for name in group.sources}
    for response in group.responses:
        if response.source in found:
            found[response.source].append(response)
    return {name: responses for name, responses in found.items() if responses}


def shares_right(group: Group, correct_by: str | None) -> dict[str, float]:
    """Source -> share of its judged whole responses that are right, in [0, 1]; 0 where none is."""
    shares = {}
    for source, responses in by_source(group).items():
        whole = [r for r in responses if r.whole and correct_by is not None]
        verdicts = [v for r in whole if (v := value_of(r, str(correct_by))) is not None]
        shares[source] = sum(v >= RIGHT for v in verdicts) / max(1, len(verdicts))
    return shares


@dataclass(frozen=True)
class Outcome:
    """What one source gives: a pair, or the reason why not."""

    source: str
    place: int
    """Position of the source in the recipe, from 0."""
    ranked: bool
    """Whether it has a response that could be chosen."""
    best: float | None = None
    """Score of that response."""
    gap: float | None = None
    """Chosen minus rejected score, also where the window refuses it."""
    pair: PairChoice | None = None
    reason: str = ""


class SameSourcePairs(Strategy):
    """Base of the strategies that pair two responses of one source."""

    emits: ClassVar[Literal["Demonstration", "Pair"]] = "Pair"

    min_margin: float | None = Field(default=0.01, allow_inf_nan=False)
    """Least chosen minus rejected score, itself allowed; null: no lower bound. The scale is the
    annotator's: 0.01 is for ArmoRM, whose scores lie near 0.05 to 0.2."""
    max_margin: float | None = Field(default=0.1, allow_inf_nan=False)
    """Greatest chosen minus rejected score, itself allowed; null: no upper bound."""
    pairs_per_prompt: Literal[1, "per_source"] = 1
    """`per_source`: one pair of every source that has a valid one."""
    source_choice: Literal[
        "global_max", "max_gap_in_window", "most_correct", "random", "round_robin"
    ] = "global_max"
    """Which source gives the pair: that of the best response; that of the widest valid gap; the one
    with the greatest share of right responses (with `by: null` it keeps a lucky guess of a weak
    source from being chosen); one drawn by `seed`; or each in turn (the prompt's id picks where
    the turn begins, so that a prompt's pair does not depend on other prompts). Ties go to the
    source named first."""
    fallback: bool = True
    """Whether the next source is tried where the first gives no valid pair."""
    negative_choice: Literal["min_only", "lowest_within_window"] = "min_only"
    """Rejected: the lowest response and no other, or the lowest one that fits the window."""
    seed: int = 42
    """Of `source_choice: random`."""

    def select(self, group: Group) -> Sequence[PairChoice] | Refusal:
        """The pair of the first source in rank that has one, or the first source's reason."""
        places = {name: place for place, name in enumerate(group.sources)}
        outcomes = [
            self._outcome(source, places[source], responses)
            for source, responses in by_source(group).items()
        ]
        ranked = self._in_rank(group, [o for o in outcomes if o.ranked])
        allowed = ranked if self.fallback else ranked[:1]
        pairs = [
            _with_rank(outcome.pair, rank)
            for rank, outcome in enumerate(allowed, 1)
            if outcome.pair
        ]
        if pairs:
            return pairs if self.pairs_per_prompt == "per_source" else pairs[:1]
        known = [r for r in group.responses if r.source in places]
        reason = ranked[0].reason if ranked else self._positives(known)[1]
        details = {o.source: _numbers(o) for o in outcomes}
        return Refusal(reason, {"sources": details, "left_out": left_out(group, self.annotators())})

    def faults(self) -> Iterator[tuple[str, str]]:
        """Windows that nothing can pass, and settings that would be without effect."""
        yield from super().faults()
        low, high = self.min_margin, self.max_margin
        if low is not None and high is not None and low > high:
            yield (
                "min_margin",
                f"{low} is above max_margin ({high}), so no pair can pass. "
                "FuseChat-3.0 uses 0.01 to 0.1.",
            )
        if self._needs_higher() and low is not None and low < 0:
            yield "min_margin", f"{low} is below 0, but a margin is never negative. Use null or 0."
        if self._needs_higher() and high is not None and high <= 0:
            yield (
                "max_margin",
                f"{high} is not above 0, so no pair can pass. FuseChat-3.0 uses 0.01 to 0.1.",
            )
        if self.source_choice == "most_correct" and getattr(self, "correct_by", None) is None:
            yield "source_choice", "most_correct needs verdicts: use correct_over_incorrect."
        looks_at_all = (
            self.pairs_per_prompt == "per_source" or self.source_choice == "max_gap_in_window"
        )
        if not self.fallback and looks_at_all:
            yield (
                "fallback",
                "false has no effect with pairs_per_prompt: per_source or source_choice: "
                "max_gap_in_window, which look at every source. Remove it.",
            )

    def _needs_higher(self) -> bool:
        return True

    def _by(self) -> str | None:
        raise NotImplementedError

    def _positives(self, responses: Sequence[Seen]) -> tuple[list[Seen], str]:
        raise NotImplementedError

    def _negatives(self, responses: Sequence[Seen], chosen: Seen) -> tuple[list[Seen], str]:
        raise NotImplementedError

    def _score(self, response: Seen) -> float | None:
        name = self._by()
        return None if name is None else value_of(response, name)

    def _in_rank(self, group: Group, outcomes: list[Outcome]) -> list[Outcome]:
        by_best = sorted(outcomes, key=lambda o: (-(o.best or 0.0), o.place))
        if self.source_choice == "max_gap_in_window":
            return sorted(
                by_best, key=lambda o: -(o.gap or 0.0) if o.pair is not None else math.inf
            )
        if self.source_choice == "most_correct":
            shares = shares_right(group, getattr(self, "correct_by", None))
            return sorted(by_best, key=lambda o: -shares[o.source])
        if self.source_choice == "random":
            return sorted(outcomes, key=lambda o: digest([self.seed, group.prompt_id, o.source]))
        if self.source_choice == "round_robin":
            count = len(group.sources)
            begin = int(digest(group.prompt_id), 16) % count
            return sorted(outcomes, key=lambda o: (o.place - begin) % count)
        return by_best

    def _outcome(self, source: str, place: int, responses: Sequence[Seen]) -> Outcome:
        positives, reason = self._positives(responses)
        if not positives:
            return Outcome(source, place, ranked=False, reason=reason)
        chosen = max(positives, key=lambda r: self._score(r) or 0.0)
        best = self._score(chosen)
        negatives, reason = self._negatives(responses, chosen)
        if not negatives:
            return Outcome(source, place, True, best, reason=reason)
        rejected = min(negatives, key=lambda r: self._score(r) or 0.0)
        if self.negative_choice == "lowest_within_window":
            fitting = [r for r in negatives if not self._why_not(chosen, r)]
            rejected = min(fitting, key=lambda r: self._score(r) or 0.0, default=rejected)
        gap, reason = self._gap(chosen, rejected), self._why_not(chosen, rejected)
        if reason:
            return Outcome(source, place, True, best, gap, reason=reason)
        pair = PairChoice(
            chosen.response_id, rejected.response_id, best, self._score(rejected), gap, ""
        )
        return Outcome(source, place, True, best, gap, pair)

    def _gap(self, chosen: Seen, rejected: Seen) -> float | None:
        higher, lower = self._score(chosen), self._score(rejected)
        return None if higher is None or lower is None else higher - lower

    def _why_not(self, chosen: Seen, rejected: Seen) -> str:
        if chosen.text_digest == rejected.text_digest:
            return "identical texts"
        gap = self._gap(chosen, rejected)
        return (
            ""
            if gap is None
            else outside(gap, self.min_margin, self.max_margin, self._needs_higher())
        )


def outside(gap: float, low: float | None, high: float | None, positive: bool) -> str:
    """Why a gap of two scores does not fit a window, in countable words; empty where it does.

    Both ends are inside. The gap and the ends are rounded to float32 before they are
    compared, with a slack of `TOLERANCE`, so that 0.11 over 0.10 is a gap of 0.01.
    `positive`: a gap of 0 or below never fits.
    """
    rounded = float(np.float32(gap))
    under = low is not None and rounded < float(np.float32(low)) - TOLERANCE
    if rounded < 0 and (under or positive):
        return "negative gap"
    if under:
        return "gap below min_margin"
    if rounded == 0 and positive:
        return "equal scores"
    over = high is not None and rounded > float(np.float32(high)) + TOLERANCE
    return "gap above max_margin" if over else ""


def _with_rank(pair: PairChoice, rank: int) -> PairChoice:
    return PairChoice(
        pair.chosen_id, pair.rejected_id, pair.chosen_score, pair.rejected_score, pair.margin,
        f"source ranked {rank}",
    )  # fmt: skip


def _numbers(outcome: Outcome) -> Mapping[str, Any]:
    numbers: dict[str, Any] = {"reason": outcome.reason or "not tried (fallback: false)"}
    if outcome.best is not None:
        numbers["best"] = outcome.best
    if outcome.gap is not None:
        numbers["gap"] = outcome.gap
    return numbers
