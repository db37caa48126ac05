"""The triples of WRPO: a source's best response, and the target's own best and worst."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic import Field

from fusechat.parts import Group, Refusal, RowType, Seen, Strategy, TripleChoice
from fusechat.strategies._common import by_source, eligible, left_out, outside, value_of
from fusechat.strategies.same_source_margin import ALONE

OWN = "target: "
"""How reasons begin that are of the target's own responses."""
IDENTICAL = "identical texts"
REJECTED = "the best response of the sources is the rejected text"


class SourceOverTarget(Strategy):
    """The best response of all sources beside the target's own best and worst one (WRPO).

    The sources' best is the highest over all sources but `target` and all samples; the better and
    the rejected one are the highest and the lowest of the samples of `target`, the model that is
    trained (arXiv 2412.03187: five samples of the target after SFT, scored by ArmoRM). With
    `correct_by` both chosen ones must be right and the rejected one wrong. For the loss `wrpo`.
    """

    emits: ClassVar[RowType] = "Triple"
    mixes_sources: ClassVar[bool] = True

    by: str | None
    """Annotator whose scores rank the responses; null: the first right ones in the recipe's order
    of sources, then by sample index, and the first wrong one."""
    target: str
    """The source whose model is the target itself (`model: train.sft`, or `target`)."""
    correct_by: str | None = None
    """Annotator that says right (1.0) or wrong (below 1.0). What it could not judge is neither."""
    min_margin: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Least score of the target's better response minus that of the rejected one, itself allowed;
    null: any above 0. In the annotator's units."""
    max_margin: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Greatest such difference, itself allowed; null: no upper bound."""

    def faults(self) -> Iterator[tuple[str, str]]:
        """Windows that nothing can pass, and settings without what they need."""
        yield from super().faults()
        low, high = self.min_margin, self.max_margin
        if self.by is None and self.correct_by is None:
            yield "by", "without scores and verdicts nothing says what is best. Give one of them."
        if self.by is None and (low is not None or high is not None):
            name = "max_margin" if low is None else "min_margin"
            yield name, "is a difference of scores, but with by: null there are none. Remove it."
        if low is not None and high is not None and low > high:
            yield "min_margin", f"{low} is above max_margin ({high}), so no triple can pass."

    def named_sources(self) -> tuple[str, ...]:
        """The target's source."""
        return (self.target,)

    def select(self, group: Group) -> Sequence[TripleChoice] | Refusal:
        """The triple, or why there is none; reasons of the target's own responses say so."""
        others = [r for r in group.responses if r.source != self.target]
        own = [r for r in group.responses if r.source == self.target]
        known = [r for r in others if r.source in group.sources]
        rights, reason = eligible(known, self.by, self.correct_by)
        if not rights:
            return self._refusal(group, reason)
        better, worse, reason = self._own(own)
        if better is None or worse is None:
            return self._refusal(group, f"{OWN}{reason}")
        place = {source: number for number, source in enumerate(group.sources)}
        best = min(rights, key=lambda r: (-self._rank(r), place[r.source], r.index, r.response_id))
        if best.text_digest == worse.text_digest:
            return self._refusal(group, REJECTED)
        return [self._triple(best, better, worse)]

    def of_source(self, group: Group, source: str) -> Sequence[TripleChoice] | Refusal:
        """The triple with this source's response as the sources' best; of the target all that it
        has with all others."""
        if source == self.target:
            return self.select(group)
        kept = tuple(r for r in group.responses if r.source in (source, self.target))
        return self.select(Group(group.prompt_id, group.domain, group.sources, kept))

    def _own(self, own: Sequence[Seen]) -> tuple[Seen | None, Seen | None, str]:
        """The better and the worse of the target's responses, or why there are no two."""
        rights, reason = eligible(own, self.by, self.correct_by)
        if not rights:
            return None, None, reason
        better = max(rights, key=self._rank)
        if self.correct_by is not None:
            wrongs, reason = eligible(own, self.by, self.correct_by, correct=False)
        else:
            wrongs = [r for r in rights if r.response_id != better.response_id]
            reason = ALONE
        if not wrongs:
            return better, None, reason
        worse = min(wrongs, key=self._rank)
        return better, worse if not (why := self._why_not(better, worse)) else None, why

    def _why_not(self, better: Seen, worse: Seen) -> str:
        if better.text_digest == worse.text_digest:
            return IDENTICAL
        gap = self._gap(better, worse)
        return "" if gap is None else outside(gap, self.min_margin, self.max_margin, positive=True)

    def _gap(self, better: Seen, worse: Seen) -> float | None:
        higher, lower = self._score(better), self._score(worse)
        return None if higher is None or lower is None else higher - lower

    def _score(self, response: Seen) -> float | None:
        return None if self.by is None else value_of(response, self.by)

    def _rank(self, response: Seen) -> float:
        return self._score(response) or 0.0

    def _triple(self, best: Seen, better: Seen, worse: Seen) -> TripleChoice:
        what = "highest score" if self.by else "first"
        return TripleChoice(
            source_chosen_id=best.response_id,
            target_chosen_id=better.response_id,
            rejected_id=worse.response_id,
            source_chosen_score=self._score(best),
            target_chosen_score=self._score(better),
            rejected_score=self._score(worse),
            margin=self._gap(better, worse),
            reason=f"{what} among right responses" if self.correct_by else what,
        )

    def _refusal(self, group: Group, reason: str) -> Refusal:
        details: dict[str, Any] = {}
        for source, responses in by_source(group).items():
            found, why = eligible(responses, self.by, self.correct_by)
            if source == self.target and found:
                why = self._own(responses)[2]
            details[source] = {"reason": why or "not at fault"}
            if found and self.by is not None:
                details[source]["best"] = max(map(self._rank, found))
        return Refusal(reason, {"sources": details, "left_out": left_out(group, self.annotators())})
