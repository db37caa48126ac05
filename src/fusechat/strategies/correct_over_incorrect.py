"""The pairs of FuseChat-3.0 for mathematics and code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fusechat.groups import Array
from fusechat.parts import Groups, Seen
from fusechat.strategies._columns import Eligible
from fusechat.strategies._common import eligible
from fusechat.strategies._pairs import SameSourcePairs


class CorrectOverIncorrect(SameSourcePairs):
    """A right over a wrong response of one source, with or without a reward model (FuseChat-3.0).

    Chosen: the right response that scores highest; rejected: the wrong one that scores
    lowest; both of one source, their gap inside [min_margin, max_margin]. FuseChat-3.0 uses
    the window 0.01 to 0.1 for mathematics and states none for code (write null for both).
    With `by: null` there are no scores: the first source in the recipe's order that has both
    gives its first right and its first wrong response, by sample index.
    """

    by: str | None
    """Annotator whose scores rank the responses; null: no reward model, so no window either."""
    correct_by: str
    """Annotator that says right (1.0) or wrong (below 1.0). What it could not judge is neither."""
    require_higher_score: bool = True
    """Whether the right response must also score higher than the wrong one."""

    def faults(self) -> Iterator[tuple[str, str]]:
        """Adds to the window's faults the settings that need scores where there are none."""
        yield from super().faults()
        if self.by is not None:
            return
        for name in ("min_margin", "max_margin"):
            value = getattr(self, name)
            if name in self.model_fields_set and value is not None:
                yield (
                    name,
                    f"{value} is a gap of scores, but with by: null there are none. Use null.",
                )
        for name, setting in (
            ("source_choice", "max_gap_in_window"),
            ("negative_choice", "lowest_within_window"),
        ):
            if getattr(self, name) == setting:
                yield (
                    name,
                    f"{setting} compares scores, but with by: null there are none. Remove it.",
                )

    def needs_higher(self) -> bool:
        """Whether a gap of 0 or below is never allowed."""
        return self.require_higher_score

    def ranked_by(self) -> str | None:
        """The annotator whose scores make the gap."""
        return self.by

    def positives_all(self, groups: Groups) -> Eligible:
        """The right responses."""
        return Eligible.of(groups, self.by, self.correct_by, correct=True)

    def negatives_all(self, groups: Groups, positives: Eligible, chosen: Array) -> Eligible:
        """The wrong responses."""
        return Eligible.of(groups, self.by, self.correct_by, correct=False)

    def _positives(self, responses: Sequence[Seen]) -> tuple[list[Seen], str]:
        return eligible(responses, self.by, self.correct_by, correct=True)

    def _negatives(self, responses: Sequence[Seen], chosen: Seen) -> tuple[list[Seen], str]:
        return eligible(responses, self.by, self.correct_by, correct=False)
