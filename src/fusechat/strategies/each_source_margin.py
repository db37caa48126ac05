"""The pairs of FuseRL: best over worst response of every source, with the source's weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from fusechat.groups import Array
from fusechat.parts import Group, Groups, PairChoice, Refusal, Seen, Selection
from fusechat.strategies._columns import NOWHERE, Eligible
from fusechat.strategies._common import eligible
from fusechat.strategies._pairs import SameSourcePairs
from fusechat.strategies._weights import softmax, softmax_all
from fusechat.strategies.same_source_margin import ALONE


class EachSourceMargin(SameSourcePairs):
    """A pair of every source that has one, weighted by a softmax of the best scores (FuseRL).

    Of each source the highest over the lowest response, their gap inside [min_margin, max_margin];
    with `correct_by` the highest right over the lowest wrong one. Its weight is exp(s /
    temperature) over the sum of that over the prompt's pairs, `s` the chosen one's score, so that
    the weights of a prompt sum to 1 (arXiv 2504.06562, FusePO; no code is published, and
    the temperature is not known). For the loss `fusepo`.
    """

    pairs_per_prompt: Literal["per_source"] = "per_source"
    """Always of every source that has a valid one."""
    source_choice: Literal["global_max"] = "global_max"
    """The order of a prompt's pairs: that of the best response first."""
    fallback: Literal[True] = True
    """Every source is tried."""

    by: str | None
    """Annotator whose scores rank and weigh the responses; null: first right over first wrong, all
    with the same weight, and no window."""
    correct_by: str | None = None
    """Annotator that says right (1.0) or wrong (below 1.0). What it could not judge is neither."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """In the units of the scores. At 1 gaps of ArmoRM, near 0.01, give nearly equal weights; about
    0.01 lets the best source have most."""

    def faults(self) -> Iterator[tuple[str, str]]:
        """Adds to the window's faults what needs scores where there are none."""
        yield from super().faults()
        if self.by is not None:
            return
        if self.correct_by is None:
            yield "by", "without scores and verdicts nothing says what is best. Give one of them."
        for name in ("min_margin", "max_margin", "temperature"):
            if name in self.model_fields_set and getattr(self, name) is not None:
                yield name, "needs scores, but with by: null there are none. Use null or remove it."
        if self.negative_choice == "lowest_within_window":
            yield "negative_choice", "compares scores, but with by: null there are none. Remove it."

    def ranked_by(self) -> str | None:
        """The annotator whose scores make the gap."""
        return self.by

    def select(self, group: Group) -> Sequence[PairChoice] | Refusal:
        """The pair of each source that has one, best first, or the first source's reason."""
        said = super().select(group)
        if isinstance(said, Refusal):
            return said
        weights = softmax([pair.chosen_score for pair in said], self.temperature)
        return [replace(pair, weight=one) for pair, one in zip(said, weights, strict=True)]

    def select_all(self, groups: Groups) -> Selection:
        """The same of many prompts at once, and of each source alone."""
        said = super().select_all(groups)
        return replace(said, weight=softmax_all(said.score, said.prompt, self.temperature))

    def positives_all(self, groups: Groups) -> Eligible:
        """The whole and scored responses, with verdicts the right ones."""
        return Eligible.of(groups, self.by, self.correct_by, correct=True)

    def negatives_all(self, groups: Groups, positives: Eligible, chosen: Array) -> Eligible:
        """The wrong responses; without verdicts all but the chosen one."""
        if self.correct_by is not None:
            return Eligible.of(groups, self.by, self.correct_by, correct=False)
        others = positives.rows.copy()
        others[chosen[chosen != NOWHERE]] = False
        return Eligible((others,), (ALONE,))

    def _positives(self, responses: Sequence[Seen]) -> tuple[list[Seen], str]:
        return eligible(responses, self.by, self.correct_by, correct=True)

    def _negatives(self, responses: Sequence[Seen], chosen: Seen) -> tuple[list[Seen], str]:
        if self.correct_by is not None:
            return eligible(responses, self.by, self.correct_by, correct=False)
        scored, _ = eligible(responses, self.by)
        others = [r for r in scored if r.response_id != chosen.response_id]
        return others, "" if others else ALONE
