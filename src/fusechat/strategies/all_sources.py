"""The SFT rows of FuseRL: the best response of every source, with the source's weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from fusechat.groups import select_each
from fusechat.parts import Choice, Group, Groups, Refusal, RowType, Seen, Selection, Strategy
from fusechat.strategies._best_columns import select_best
from fusechat.strategies._columns import in_tie_order
from fusechat.strategies._common import by_source, eligible, left_out, value_of
from fusechat.strategies._weights import softmax, softmax_all
from fusechat.strategies.best_of import BestOf


class AllSources(Strategy):
    """The best response of every source, weighted by a softmax of their scores (FuseRL).

    A source's weight is exp(s / temperature) over the sum of that over the prompt's sources, `s`
    the score of its best response, so that the weights of a prompt sum to 1 (arXiv 2504.06562,
    FuseSFT; no code is published, and the temperature is not known). With `correct_by`
    only right responses count, and only sources that have one. For the loss `fusesft`.
    """

    emits: ClassVar[RowType] = "Demonstration"

    by: str | None
    """Annotator whose scores rank and weigh the responses; null: the first right one of each
    source, all with the same weight."""
    correct_by: str | None = None
    """Annotator that must call a response right (1.0); what it could not judge is not right."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """In the units of the scores. At 1 gaps of ArmoRM, near 0.01, give nearly equal weights; about
    0.01 lets the best source have most."""

    def faults(self) -> Iterator[tuple[str, str]]:
        """Also: a temperature where there are no scores."""
        yield from super().faults()
        if self.by is None and "temperature" in self.model_fields_set:
            yield "temperature", "weighs by scores, but with by: null there are none. Remove it."

    def select(self, group: Group) -> Sequence[Choice] | Refusal:
        """The best response of each source, best first, or why there is none."""
        best, reason = self._best(group)
        if not best:
            return Refusal(reason, self._details(group))
        scores = [None if self.by is None else value_of(r, self.by) for r in best]
        weights = softmax(scores, self.temperature)
        return [
            Choice(response.response_id, score, self._reason(), weight)
            for response, score, weight in zip(best, scores, weights, strict=True)
        ]

    def select_all(self, groups: Groups) -> Selection:
        """The same of many prompts at once, and of each source alone."""
        if not groups.sources or not in_tie_order(groups):
            return select_each(self, groups)
        said = select_best(self._each(), groups)
        weight = softmax_all(said.score, said.prompt, self.temperature)
        return replace(said, reasons=(self._reason(),), weight=weight)

    def _each(self) -> BestOf:
        return BestOf(by=self.by, correct_by=self.correct_by, responses_per_prompt="per_source")

    def _best(self, group: Group) -> tuple[list[Seen], str]:
        known = [r for r in group.responses if r.source in group.sources]
        found, reason = eligible(known, self.by, self.correct_by)
        place = {source: number for number, source in enumerate(group.sources)}

        def rank(response: Seen) -> tuple[float, int, int, str]:
            score = value_of(response, self.by) if self.by else None
            order = (place[response.source], response.index, response.response_id)
            return (-(score or 0.0), *order)

        picks: dict[str, Seen] = {}
        for response in sorted(found, key=rank):
            picks.setdefault(response.source, response)
        return list(picks.values()), reason

    def _reason(self) -> str:
        what = "highest score" if self.by else "first"
        return (
            f"{what} among right responses of its source"
            if self.correct_by
            else (f"{what} of its source")
        )

    def _details(self, group: Group) -> dict[str, object]:
        reasons = {
            source: {"reason": eligible(responses, self.by, self.correct_by)[1]}
            for source, responses in by_source(group).items()
        }
        return {"sources": reasons, "left_out": left_out(group, self.annotators())}
