"""Base of the strategies that make pairs: of one source's responses, if not said otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fusechat.digests import digest
from fusechat.groups import Array, select_each
from fusechat.parts import (
    Group,
    Groups,
    PairChoice,
    Refusal,
    RowType,
    Seen,
    Selection,
)
from fusechat.strategies._columns import Eligible, cells_of, in_tie_order
from fusechat.strategies._common import by_source, left_out, outside, shares_right, value_of
from fusechat.strategies._pair_columns import NOT_TRIED, pair_details, select_pairs
from fusechat.strategies._window import Windowed


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


class SameSourcePairs(Windowed):
    """Base of the strategies that pair two responses of one source."""

    emits: ClassVar[RowType] = "Pair"

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
        self._check_resolved()
        outcomes = self._outcomes(group)
        ranked = self._in_rank(group, outcomes)
        allowed = ranked if self.fallback else ranked[:1]
        pairs = [
            with_rank(outcome.pair, rank) for rank, outcome in enumerate(allowed, 1) if outcome.pair
        ]
        if pairs:
            return pairs if self.pairs_per_prompt == "per_source" else pairs[:1]
        known = [r for r in group.responses if r.source in group.sources]
        reason = ranked[0].reason if ranked else self._positives(known)[1]
        details = {o.source: numbers_of(o) for o in outcomes}
        return Refusal(reason, {"sources": details, "left_out": left_out(group, self.annotators())})

    def tried(self, group: Group) -> tuple[str, ...]:
        """The sources that have a response to choose, in the order in which they are tried.

        With `fallback: false` only the first is.
        """
        self._check_resolved()
        ranked = self._in_rank(group, self._outcomes(group))
        return tuple(outcome.source for outcome in ranked)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Adds to the window's faults the settings that would be without effect."""
        yield from super().faults()
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

    def select_all(self, groups: Groups) -> Selection:
        """The same of many prompts at once, and of each source alone."""
        self._check_resolved()
        if not groups.sources or not in_tie_order(groups):
            return select_each(self, groups)
        return select_pairs(self, groups)

    def refusal_details(
        self, groups: Groups, said: Selection, prompts: Sequence[int]
    ) -> Sequence[Mapping[str, Any]]:
        """The details of some refusals, from what `select_all` said."""
        if not groups.sources or not in_tie_order(groups):
            return super().refusal_details(groups, said, prompts)
        return pair_details(self, groups, said, prompts)

    def positives_all(self, groups: Groups) -> Eligible:
        """The responses that may be chosen."""
        raise NotImplementedError

    def negatives_all(self, groups: Groups, positives: Eligible, chosen: Array) -> Eligible:
        """Those that may be rejected; `chosen`: row of each source of each prompt, in one line."""
        raise NotImplementedError

    def _positives(self, responses: Sequence[Seen]) -> tuple[list[Seen], str]:
        raise NotImplementedError

    def _negatives(self, responses: Sequence[Seen], chosen: Seen) -> tuple[list[Seen], str]:
        raise NotImplementedError

    def _score(self, response: Seen) -> float | None:
        name = self.ranked_by()
        return None if name is None else value_of(response, name)

    def rivals_all(self, groups: Groups) -> Iterator[tuple[Array, Array]]:
        """Which rows may be rejected for which source, and the cell of that source for each row.

        Over all that it yields a row comes once for each source that it may be rejected for.
        """
        yield np.ones(len(groups), np.bool_), cells_of(groups)

    def badness_all(self, groups: Groups, score: Array) -> Array:
        """`[rows]`: the lowest is rejected; the first row of equal ones."""
        return score

    def barred_all(self, groups: Groups) -> Array | None:
        """`[prompts, sources]`: which give no pair whatever the rejected one; None: none."""
        return None

    def _outcomes(self, group: Group) -> list[Outcome]:
        return [
            self._outcome(source, group.sources.index(source), responses, responses)
            for source, responses in by_source(group).items()
        ]

    def _in_rank(self, group: Group, known: Sequence[Outcome]) -> list[Outcome]:
        outcomes = [outcome for outcome in known if outcome.ranked]
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

    def _outcome(
        self, source: str, place: int, responses: Sequence[Seen], rivals: Sequence[Seen]
    ) -> Outcome:
        positives, reason = self._positives(responses)
        if not positives:
            return Outcome(source, place, ranked=False, reason=reason)
        chosen = max(positives, key=lambda r: self._score(r) or 0.0)
        best = self._score(chosen)
        negatives, reason = self._negatives(rivals, chosen)
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
            else outside(gap, self.min_margin, self.max_margin, self.needs_higher())
        )


def with_rank(pair: PairChoice, rank: int) -> PairChoice:
    """The same pair, of the source that is tried at this place (from 1)."""
    return PairChoice(
        pair.chosen_id, pair.rejected_id, pair.chosen_score, pair.rejected_score, pair.margin,
        f"source ranked {rank}",
    )  # fmt: skip


def numbers_of(outcome: Outcome) -> Mapping[str, Any]:
    """The reason against an outcome with its numbers, for `Refusal.details`."""
    numbers: dict[str, Any] = {"reason": outcome.reason or NOT_TRIED}
    if outcome.best is not None:
        numbers["best"] = outcome.best
    if outcome.gap is not None:
        numbers["gap"] = outcome.gap
    return numbers
