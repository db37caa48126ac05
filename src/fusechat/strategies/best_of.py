"""The SFT response of FuseChat-3.0: the best of all sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from fusechat.digests import digest
from fusechat.groups import select_each
from fusechat.parts import (
    Choice,
    Group,
    Groups,
    Refusal,
    RowType,
    Seen,
    Selection,
    Strategy,
)
from fusechat.strategies._best_columns import best_details, select_best
from fusechat.strategies._columns import in_tie_order
from fusechat.strategies._common import by_source, eligible, left_out, shares_right, value_of


class BestOf(Strategy):
    """The best response over all sources and samples, for SFT (FuseChat-3.0).

    Best is the highest score by `by`; with `correct_by`, only right responses count. With
    `by: null` it is the first such response, in the recipe's order of sources, then by sample
    index (arXiv 2503.04222, data construction).
    """

    emits: ClassVar[RowType] = "Demonstration"

    by: str | None
    """Annotator whose scores rank the responses; null: no ranking."""
    correct_by: str | None = None
    """Annotator that must call the response right (1.0); what it could not judge is not right."""
    responses_per_prompt: Literal[1, "per_source"] = 1
    """`per_source`: the best response of every source that has one."""
    ties: Literal["source_order", "most_correct", "random"] = "source_order"
    """Between equal scores: the source named first in the recipe, then the lowest sample index; the
    source with the greatest share of right responses to this prompt first (with `by: null` it
    keeps a lucky guess of a weak source from being chosen); or drawn by `seed`."""
    seed: int = 42
    """Of `ties: random`."""

    def faults(self) -> Iterator[tuple[str, str]]:
        """Also: a tie-break by verdicts where none are read."""
        yield from super().faults()
        if self.ties == "most_correct" and self.correct_by is None:
            yield "ties", "most_correct needs verdicts: name their annotator in correct_by."

    def select(self, group: Group) -> Sequence[Choice] | Refusal:
        """The best response (of each source), or why there is none."""
        best, reason = self._best(group)
        if not best:
            return Refusal(reason, self._details(group))
        if self.responses_per_prompt == 1:
            best = best[:1]
        return [Choice(r.response_id, self._score(r), self.reason()) for r in best]

    def tried(self, group: Group) -> tuple[str, ...]:
        """The sources that have a response to pick, the best one's first."""
        return tuple(response.source for response in self._best(group)[0])

    def _best(self, group: Group) -> tuple[list[Seen], str]:
        """The best response of each source, best first, or none and the reason."""
        known = [r for r in group.responses if r.source in group.sources]
        found, reason = eligible(known, self.by, self.correct_by)
        ranked = sorted(found, key=lambda r: (-(self._score(r) or 0.0), *self._tie(group, r)))
        picks: dict[str, Seen] = {}
        for response in ranked:
            picks.setdefault(response.source, response)
        return list(picks.values()), reason

    def select_all(self, groups: Groups) -> Selection:
        """The same of many prompts at once, and of each source alone."""
        if not groups.sources or not in_tie_order(groups):
            return select_each(self, groups)
        return select_best(self, groups)

    def refusal_details(
        self, groups: Groups, said: Selection, prompts: Sequence[int]
    ) -> Sequence[Mapping[str, Any]]:
        """The details of some refusals, from what `select_all` said."""
        if not groups.sources or not in_tie_order(groups):
            return super().refusal_details(groups, said, prompts)
        return best_details(self, groups, said, prompts)

    def _score(self, response: Seen) -> float | None:
        return None if self.by is None else value_of(response, self.by)

    def _tie(self, group: Group, response: Seen) -> tuple[object, ...]:
        place = group.sources.index(response.source)
        order = (place, response.index, response.response_id)
        if self.ties == "source_order":
            return order
        if self.ties == "most_correct":
            return (-shares_right(group, self.correct_by)[response.source], *order)
        draw = digest([self.seed, group.prompt_id, response.source, response.index])
        return (draw, *order)

    def reason(self) -> str:
        """Why a response is picked, in words."""
        rank = "highest score" if self.by else "first"
        return f"{rank} among right responses" if self.correct_by else rank

    def _details(self, group: Group) -> dict[str, object]:
        reasons = {
            source: {"reason": eligible(responses, self.by, self.correct_by)[1]}
            for source, responses in by_source(group).items()
        }
        return {"sources": reasons, "left_out": left_out(group, self.annotators())}
